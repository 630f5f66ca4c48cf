"""Links between chips: energy per bit, bandwidth, latency, packet overhead, and the source of each number.

A number without a source is None. Pricing a None raises an error that says what is missing; it is never taken as 0.

Every figure is for one direction of a full-duplex link. `boundary` says what the energy figure includes. The name of a
preset says its width; `wide(k)` returns a link k times as wide.
"""

import dataclasses
import math
from typing import final

from snap_jax.cost.units import CostError, Joules, Number, Range, Seconds


@final
@dataclasses.dataclass(frozen=True)
class Link:
    """One physical link, or one lane, pin or millimetre of it.

    Attributes:
      name: what the report calls it.
      boundary: what the energy includes, and how far the figures can be trusted.
      source: where the figures come from.
      pj_per_bit: energy per bit that crosses, in picojoules; None when no source is known.
      gbyte_per_s: bandwidth in each direction, in 10^9 bytes per second.
      latency_ns: time that a message takes besides its bytes, per link that it crosses, in nanoseconds.
      packet_bytes: largest payload of one packet; None when a message travels as one packet.
      header_bytes: bytes added to every packet (headers, checksums, framing).
      flit_bytes: a message with its headers is rounded up to a multiple of this.
      process_node: silicon node of the energy figure, such as "16 nm", if the source names one.
    """

    name: str
    boundary: str
    source: str
    pj_per_bit: Range | None = None
    gbyte_per_s: Range | None = None
    latency_ns: Range | None = None
    packet_bytes: int | None = None
    header_bytes: int = 0
    flit_bytes: int = 1
    process_node: str | None = None

    def __post_init__(self) -> None:
        if self.gbyte_per_s is not None and self.gbyte_per_s.low == 0:
            raise CostError(f"Link {self.name!r}: gbyte_per_s={self.gbyte_per_s}; want more than 0, or None if unknown")
        if self.flit_bytes < 1 or self.header_bytes < 0 or (self.packet_bytes is not None and self.packet_bytes < 1):
            raise CostError(f"Link {self.name!r}: want flit_bytes >= 1, header_bytes >= 0, packet_bytes >= 1 or None")

    def wire_bytes(self, payload_bytes: Number) -> Number:
        """Return the bytes that cross for a message: payload, one header per packet, rounded up to whole flits.

        >>> UCIE_STANDARD.wire_bytes(128)  # two 64-byte flits, each with 4 bytes of header and checksum
        136
        """
        if payload_bytes == 0:
            return 0
        packets = 1 if self.packet_bytes is None else math.ceil(payload_bytes / self.packet_bytes)
        framed = payload_bytes + packets * self.header_bytes
        return framed if self.flit_bytes == 1 else math.ceil(framed / self.flit_bytes) * self.flit_bytes

    def wide(self, times: int) -> "Link":
        """Return `times` such links side by side: the bandwidth grows, energy per bit and latency do not.

        >>> GRS_PIN.wide(16).gbyte_per_s
        Range(low=50.0, high=50.0)
        """
        return dataclasses.replace(self, name=f"{self.name} x{times}", gbyte_per_s=self.bandwidth() * times)

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


_UCIE = "Converge Digest on D. Das Sharma, Hot Interconnects 2025"
_UCIE_BOUNDARY = "die-to-die PHY, published target; no measured silicon figure was found"
_UCIE_LOW = "; the lower figure is for 16 GT/s and below"
_UCIE_FLIT = "; 68-byte flit (64 payload, 2 header, 2 CRC): UCIe specification 1.1, 3.3"
_PIMID = "PIMID interconnect table"
_AS_TABULATED = "as tabulated; the table does not say what is included"
_PCIE_TLP = (
    "; a transaction packet adds 24 bytes (4 STP, 16 header, 4 LCRC) to at most 256 of payload, 128b/130b: "
    "PCI Express base specification"
)
_ETHERNET_FRAME = "; frame overhead 38 bytes (8 preamble, 14 header, 4 FCS, 12 gap) on 1500: IEEE 802.3"
_ICI = "jax-ml scaling-book, TPU chapter"
_ICI_BOUNDARY = "one link, one way; energy not published"


def _pcie(name: str, giga_transfers: int, pj_per_bit: Range, boundary: str, source: str) -> Link:
    return Link(
        name=name,
        boundary=boundary,
        source=source + _PCIE_TLP,
        pj_per_bit=pj_per_bit,
        gbyte_per_s=Range.exactly(16 * giga_transfers / 8 * 128 / 130),
        packet_bytes=256,
        header_bytes=24,
    )


def _ethernet(name: str, gbit_per_s: Number, latency_ns: Range | None = None, latency_source: str = "") -> Link:
    return Link(
        name=name,
        boundary="port to port, end to end",
        source=f"line rate {gbit_per_s:g} Gb/s{latency_source}{_ETHERNET_FRAME}",
        gbyte_per_s=Range.exactly(gbit_per_s / 8),
        latency_ns=latency_ns,
        packet_bytes=1500,
        header_bytes=38,
    )


def _ici(generation: str, gbyte_per_s: Number) -> Link:
    return Link(
        name=f"TPU {generation} ICI",
        boundary=_ICI_BOUNDARY,
        source=_ICI,
        gbyte_per_s=Range.exactly(gbyte_per_s),
        latency_ns=Range.exactly(1000.0),
    )


UCIE_STANDARD = Link(
    name="UCIe standard package, x16 at 32 GT/s",
    boundary=_UCIE_BOUNDARY + _UCIE_LOW,
    source=_UCIE + _UCIE_FLIT,
    pj_per_bit=Range(0.5, 0.6),
    gbyte_per_s=Range.exactly(64.0),  # 16 lanes each way x 32 GT/s / 8
    latency_ns=Range.exactly(1.0),  # half of the published round trip of about 2 ns
    packet_bytes=64,
    header_bytes=4,
)
UCIE_ADVANCED = Link(
    name="UCIe advanced package, x64 at 32 GT/s",
    boundary=_UCIE_BOUNDARY,
    source=_UCIE + _UCIE_FLIT,
    pj_per_bit=Range(0.25, 0.3),
    gbyte_per_s=Range.exactly(256.0),  # 64 lanes each way x 32 GT/s / 8
    latency_ns=Range.exactly(1.0),
    packet_bytes=64,
    header_bytes=4,
)
UCIE_3D_MM2 = Link(
    name="UCIe 3D, 1 mm²",
    boundary=_UCIE_BOUNDARY + "; bandwidth is the published upper limit of one square millimetre",
    source=_UCIE,
    pj_per_bit=Range(0.01, 0.05),
    gbyte_per_s=Range.exactly(300_000.0),
)
GRS_PIN = Link(
    name="GRS, 1 pin",
    boundary=_AS_TABULATED,
    source="JSSC 2019, as tabulated by PIMID",
    pj_per_bit=Range.exactly(1.17),
    gbyte_per_s=Range.exactly(25 / 8),
    process_node="16 nm",
)
NVLINK_C2C = Link(
    name="NVLink-C2C",
    boundary="chip-to-chip link of a superchip; latency published as below 5 ns",
    source="G. Lockwood; besthub (both secondary)",
    pj_per_bit=Range.exactly(1.3),
    gbyte_per_s=Range.exactly(450.0),
    latency_ns=Range(0.0, 5.0),
)
NVLINK_4 = Link(
    name="NVLink 4 (H100)",
    boundary="all links of one GPU; latency of a step for the LL (low) and Simple (high) protocols",
    source="NCCL source (latency of a step); nccl-tests#212 (370 effective of 450 GB/s)",
    gbyte_per_s=Range(370.0, 450.0),
    latency_ns=Range(600.0, 3400.0),
)
ICI_V4P = _ici("v4p", 45.0)
ICI_V5E = _ici("v5e", 45.0)
ICI_V5P = _ici("v5p", 90.0)
ICI_V6E = _ici("v6e", 90.0)
PCIE3 = _pcie("PCIe 3 x16", 8, Range.exactly(4.0), _AS_TABULATED, _PIMID)
PCIE4 = _pcie("PCIe 4 x16", 16, Range(1.93, 6.0), "low figure is the transmitter only", _PIMID)
PCIE5 = _pcie("PCIe 5 x16", 32, Range(7.6, 11.4), _AS_TABULATED, _PIMID)
UALINK_200G_LANE = Link(
    name="UALink 200G, 1 lane",
    boundary=_AS_TABULATED,
    source="arXiv 2510.15893, as tabulated by PIMID",
    pj_per_bit=Range.exactly(3.5),
    gbyte_per_s=Range.exactly(25.0),
)
INFINIBAND_400G = Link(
    name="InfiniBand 400G",
    boundary="port to port, end to end",
    source="line rate 400 Gb/s; latency 1 to 10 µs: a blog, secondary",
    gbyte_per_s=Range.exactly(50.0),
    latency_ns=Range(1000.0, 10_000.0),
)
ETHERNET_400G = _ethernet("Ethernet 400G", 400.0, Range(1000.0, 10_000.0), "; latency 1 to 10 µs: a blog, secondary")
ETHERNET_10G = _ethernet("Ethernet 10G", 10.0)
INTERNET_200M = _ethernet("Internet 200M", 0.2)
ON_CHIP_WIRE_MM = Link(
    name="on-chip wire, 1 mm",
    boundary="one millimetre of wire, no router",
    source="Noxim power.yaml",
    pj_per_bit=Range.exactly(0.049),
)

PRESETS: dict[str, Link] = {
    "UCIE_STANDARD": UCIE_STANDARD,
    "UCIE_ADVANCED": UCIE_ADVANCED,
    "UCIE_3D_MM2": UCIE_3D_MM2,
    "GRS_PIN": GRS_PIN,
    "NVLINK_C2C": NVLINK_C2C,
    "NVLINK_4": NVLINK_4,
    "ICI_V4P": ICI_V4P,
    "ICI_V5E": ICI_V5E,
    "ICI_V5P": ICI_V5P,
    "ICI_V6E": ICI_V6E,
    "PCIE3": PCIE3,
    "PCIE4": PCIE4,
    "PCIE5": PCIE5,
    "UALINK_200G_LANE": UALINK_200G_LANE,
    "INFINIBAND_400G": INFINIBAND_400G,
    "ETHERNET_400G": ETHERNET_400G,
    "ETHERNET_10G": ETHERNET_10G,
    "INTERNET_200M": INTERNET_200M,
    "ON_CHIP_WIRE_MM": ON_CHIP_WIRE_MM,
}
