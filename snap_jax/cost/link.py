"""One link between two chips: bandwidth, latency, energy of a bit, packets, and the source of each number.

A number without a source is None. Pricing a None raises an error that says what is missing; it is never taken as 0.
"""

import dataclasses
import math
from typing import final

from snap_jax.cost.units import CostError, Joules, Number, Range, Seconds


@final
@dataclasses.dataclass(frozen=True)
class Link:
    """One physical link, or one lane, pin or millimetre of it; figures are for each direction.

    A message of m bytes is cut into packets and takes, besides the latency of the way,

        seconds = packets x ns_per_packet + wire bytes / bandwidth
        joules  = packets x pj_per_packet + 8 x wire bytes x pj_per_bit     on each link that it crosses

    Attributes:
      name: what the report calls it.
      boundary: what the energy includes, and how far the figures can be trusted.
      source: where the figures come from.
      pj_per_bit: energy per bit that crosses, in picojoules; None when no source is known.
      gbyte_per_s: bandwidth in each direction, in 10^9 bytes per second.
      latency_ns: time that a message takes besides its bytes, per link that it crosses, in nanoseconds.
      packet_bytes: largest payload of one packet; None when a message travels as one packet.
      pad_bytes: the payload of a packet is rounded up to a multiple of this.
      header_bytes: bytes added to every packet (headers, checksums, framing).
      flit_bytes: a packet with its headers is rounded up to a multiple of this.
      least_packet_bytes: a packet with its headers is at least as long as this.
      process_node: silicon node of the energy figure, such as "16 nm", if the source names one.
      endpoint_ns: time in which a chip hands a message to the link or takes it from there. A chain of k messages
        visits k + 1 chips and pays it k + 1 times; 0 where `latency_ns` is measured end to end.
      pj_per_packet: energy of a packet whatever it holds; None where bits alone are counted.
      ns_per_packet: time of a packet whatever it holds; None where bytes alone are counted.
      static_w: power of one direction while nothing is sent, in watts; None when no source is known.
    """

    name: str
    boundary: str
    source: str
    pj_per_bit: Range | None = None
    gbyte_per_s: Range | None = None
    latency_ns: Range | None = None
    packet_bytes: int | None = None
    pad_bytes: int = 1
    header_bytes: int = 0
    flit_bytes: int = 1
    least_packet_bytes: int = 0
    process_node: str | None = None
    endpoint_ns: Range = Range(0.0, 0.0)
    pj_per_packet: Range | None = None
    ns_per_packet: Range | None = None
    static_w: Range | None = None

    def __post_init__(self) -> None:
        if self.gbyte_per_s is not None and self.gbyte_per_s.low == 0:
            raise CostError(f"Link {self.name!r}: gbyte_per_s={self.gbyte_per_s}; want more than 0, or None if unknown")
        small = min(self.header_bytes, self.least_packet_bytes) < 0 or min(self.flit_bytes, self.pad_bytes) < 1
        if small or (self.packet_bytes is not None and self.packet_bytes < 1):
            raise CostError(
                f"Link {self.name!r}: want flit_bytes >= 1, pad_bytes >= 1, header_bytes >= 0, "
                "least_packet_bytes >= 0, packet_bytes >= 1 or None"
            )

    def packets(self, payload_bytes: Number) -> int:
        """Return the number of packets of a message."""
        if payload_bytes == 0:
            return 0
        return 1 if self.packet_bytes is None else math.ceil(payload_bytes / self.packet_bytes)

    def wire_bytes(self, payload_bytes: Number) -> Number:
        """Return the bytes that cross for a message: every packet with its header, in whole flits.

        >>> from snap_jax.cost.links import UCIE_STANDARD
        >>> [UCIE_STANDARD.wire_bytes(n) for n in (4, 64, 65)]  # flits of 68 bytes, 64 of them payload
        [68, 68, 136]
        """
        packets = self.packets(payload_bytes)
        if packets == 0:
            return 0
        if self.packet_bytes is None:
            return self._packet(payload_bytes)
        last = payload_bytes - (packets - 1) * self.packet_bytes
        return (packets - 1) * self._packet(self.packet_bytes) + self._packet(last)

    def _packet(self, payload_bytes: Number) -> Number:
        framed = _whole(payload_bytes, self.pad_bytes) + self.header_bytes
        return max(self.least_packet_bytes, _whole(framed, self.flit_bytes))

    def wide(self, times: int) -> "Link":
        """Return `times` such links side by side: the bandwidth grows, energy per bit and latency do not.

        >>> from snap_jax.cost.links import GRS_PIN
        >>> GRS_PIN.wide(16).gbyte_per_s
        Range(low=50.0, high=50.0)
        """
        return dataclasses.replace(self, name=f"{self.name} x{times}", gbyte_per_s=self.bandwidth() * times)

    def bare(self) -> "Link":
        """Return the same link without packets, headers and flits."""
        return dataclasses.replace(
            self, packet_bytes=None, pad_bytes=1, header_bytes=0, flit_bytes=1, least_packet_bytes=0
        )

    def message_energy(self, payload_bytes: Number, times: Number = 1) -> Joules:
        """Return the energy of a message that crosses so many times. Raises CostError without a source."""
        packets = self.pj_per_packet or Range(0.0, 0.0)
        of_packets = Joules(packets.low, packets.high) * (1e-12 * times * self.packets(payload_bytes))
        if self.pj_per_bit is None and self.pj_per_packet is not None:
            return of_packets
        return of_packets + self.energy(times * self.wire_bytes(payload_bytes))

    def message_time(self, payload_bytes: Number, times: Number = 1) -> Seconds:
        """Return the time of so many messages one after another, without latency. Raises CostError without a source."""
        packets = self.ns_per_packet or Range(0.0, 0.0)
        of_packets = Seconds(packets.low, packets.high) * (1e-9 * times * self.packets(payload_bytes))
        if self.gbyte_per_s is None and self.ns_per_packet is not None:
            return of_packets
        return of_packets + self.serialization(times * self.wire_bytes(payload_bytes))

    def energy(self, wire_bytes: Number) -> Joules:
        """Return the energy of bytes that cross once: 8 pJ/bit x bytes. Raises CostError when pj_per_bit is None."""
        per_bit = self._known(self.pj_per_bit, "pj_per_bit")
        return Joules(per_bit.low, per_bit.high) * (8e-12 * wire_bytes)

    def serialization(self, wire_bytes: Number) -> Seconds:
        """Return the time of the bytes alone: bytes / bandwidth. Raises CostError when gbyte_per_s is None."""
        rate = self.bandwidth()
        return Seconds(wire_bytes / (rate.high * 1e9), wire_bytes / (rate.low * 1e9))

    def alpha(self) -> Seconds:
        """Return the latency of one link. Raises CostError when latency_ns is None."""
        latency = self._known(self.latency_ns, "latency_ns")
        return Seconds(latency.low * 1e-9, latency.high * 1e-9)

    def bandwidth(self) -> Range:
        """Return gbyte_per_s. Raises CostError when it is None."""
        return self._known(self.gbyte_per_s, "gbyte_per_s")

    @property
    def full_w(self) -> Range:
        """Power of one direction that sends all the time: 8 pJ/bit x bandwidth. Raises CostError without a source.

        >>> from snap_jax.cost.links import UCIE_STANDARD
        >>> print(UCIE_STANDARD.full_w)
        Range(low=0.256, high=0.3072)
        """
        per_bit, rate = self._known(self.pj_per_bit, "pj_per_bit"), self.bandwidth()
        return Range(round(8e-3 * per_bit.low * rate.low, 9), round(8e-3 * per_bit.high * rate.high, 9))

    def idle_energy(self, wire_bytes: Number, link_seconds: Seconds) -> Joules:
        """Return what links that cannot sleep take while they wait: static power x (time switched on - time of bytes).

        Without `static_w` it lies between two bounds: waiting costs nothing, or as much as sending all the time.

        Args:
          wire_bytes: bytes that cross all of them.
          link_seconds: how long they are switched on, summed over the links.

        Raises:
          CostError: the bandwidth has no source, or neither static_w nor pj_per_bit has one.
        """
        idle = self.static_w or Range(0.0, self.full_w.high)
        busy = self.serialization(wire_bytes)
        waits = Seconds(max(0.0, link_seconds.low - busy.high), max(0.0, link_seconds.high - busy.low))
        return Joules(idle.low * waits.low, idle.high * waits.high)

    @property
    def without_source(self) -> tuple[str, ...]:
        """Fields among pj_per_bit, gbyte_per_s and latency_ns that pricing needs and no source gives."""
        needed = {
            "pj_per_bit": self.pj_per_bit or self.pj_per_packet,
            "gbyte_per_s": self.gbyte_per_s or self.ns_per_packet,
            "latency_ns": self.latency_ns,
        }
        return tuple(field for field, value in needed.items() if value is None)

    def missing(self, field: str) -> str:
        """Return the error message for a field that has no source."""
        return (
            f"no source for {field} of link {self.name!r} (known from: {self.source}); "
            f"give one: dataclasses.replace(link, {field}=Range(low, high), source=...)"
        )

    def _known(self, value: Range | None, field: str) -> Range:
        if value is None:
            raise CostError(self.missing(field))
        return value


def _whole(size: Number, unit: int) -> Number:
    """Return a size rounded up to whole units; a unit of one byte rounds nothing."""
    return size if unit == 1 else math.ceil(size / unit) * unit
