"""Energy and time of spikes that travel as address-event packets on a neuromorphic mesh.

A packet costs the same for any content: sending it plus its hops. Spikes of one time step between the same two cores
share packets. With dx, dy the hops east-west and north-south, q the packets met on the route and t the time to receive
one:

    energy of a packet    out + ew |dx| + ns |dy|
    delay, route free     ew |dx| + ns |dy|
    delay, route shared   max(route free, q t / (hops + 1)) + max(0, q - (hops + 1) buffer) t

after SANA-FE (Boyle et al. 2025, doi:10.1109/TCAD.2025.3537971): each packet in flight weighs
1 / (hops + 2) on every core it visits, and q is the weight on a route.
"""

import collections
import dataclasses
import math
from collections.abc import Sequence
from typing import final

from snap_jax.cost.units import CostError, Joules, Number, Range, Seconds

Core = tuple[int, int]


@final
@dataclasses.dataclass(frozen=True)
class Flow:
    """Spikes that one core sends to another in every time step.

    Attributes:
      source: (x, y) of the sending core.
      target: (x, y) of the receiving core.
      spikes: spikes per time step; a mean may be a fraction, and then the number of packets is one, too.
    """

    source: Core
    target: Core
    spikes: Number = 1

    @property
    def route(self) -> tuple[Core, ...]:
        """Cores visited, both ends included: along x first, then along y.

        >>> Flow((0, 0), (2, 1)).route
        ((0, 0), (1, 0), (2, 0), (2, 1))
        """
        (x, y), (goal_x, goal_y) = self.source, self.target
        across, up = (1 if goal_x >= x else -1), (1 if goal_y >= y else -1)
        row = [(k, y) for k in range(x, goal_x, across)]
        column = [(goal_x, k) for k in range(y, goal_y, up)]
        return (*row, *column, self.target)

    @property
    def hops(self) -> int:
        """Number of links crossed."""
        return len(self.route) - 1


@final
@dataclasses.dataclass(frozen=True)
class SpikeMesh:
    """A mesh of cores that send spikes as packets.

    Attributes:
      name: what a report calls it.
      boundary: what the figures include.
      source: where the figures come from.
      process_node: silicon node of the energies.
      width: cores along x.
      height: cores along y.
      pj_out: energy of sending one packet, in picojoules.
      pj_east_west: energy of one hop along x.
      pj_north_south: energy of one hop along y.
      ns_east_west: time of one hop along x, in nanoseconds.
      ns_north_south: time of one hop along y.
      ns_send: time in which a core puts one packet on the mesh.
      ns_receive: time in which a core takes one packet in.
      ns_sync: time between two time steps that do not overlap.
      buffer_packets: packets that one link holds.
      spikes_per_packet: spikes for one core that fit in one packet.
      header_bits: bits of a packet besides its spikes; None when unknown.
      address_bits: bits of the address of the neuron that fired.
      payload_bits: bits of a graded spike; 0 for a binary one.
    """

    name: str
    boundary: str
    source: str
    process_node: str
    width: int
    height: int
    pj_out: Range
    pj_east_west: Range
    pj_north_south: Range
    ns_east_west: Range
    ns_north_south: Range
    ns_send: Range
    ns_receive: Range
    ns_sync: Range
    buffer_packets: int
    spikes_per_packet: int = 1
    header_bits: int | None = None
    address_bits: int | None = None
    payload_bits: int = 0

    def packets(self, flow: Flow) -> Number:
        """Return the packets per time step: spikes for one core share packets; at least one if there is a spike."""
        self._check(flow)
        whole = float(flow.spikes).is_integer()
        share = flow.spikes / self.spikes_per_packet
        return math.ceil(share) if whole else max(share, min(flow.spikes, 1.0))

    def bits(self, flow: Flow) -> Number:
        """Return the bits per time step: packets x header + spikes x (address + payload). CostError if None."""
        if self.header_bits is None or self.address_bits is None:
            raise CostError(
                f"no source for header_bits and address_bits of {self.name!r} (known from: {self.source}); "
                "give them: dataclasses.replace(mesh, header_bits=..., address_bits=...)"
            )
        return self.packets(flow) * self.header_bits + flow.spikes * (self.address_bits + self.payload_bits)

    def packet_energy(self, flow: Flow) -> Joules:
        """Return the energy of one packet.

        >>> print(LOIHI.packet_energy(Flow((0, 0), (7, 3))))
        144 – 145 pJ
        """
        dx, dy = self._distance(flow)
        parts = ((self.pj_out, 1), (self.pj_east_west, dx), (self.pj_north_south, dy))
        return Joules.total(Joules(r.low * 1e-12, r.high * 1e-12) * k for r, k in parts)

    def hop_delay(self, flow: Flow) -> Seconds:
        """Return the time on a free route.

        >>> print(LOIHI.hop_delay(Flow((0, 0), (7, 3))))
        48.2 ns
        """
        dx, dy = self._distance(flow)
        parts = ((self.ns_east_west, dx), (self.ns_north_south, dy))
        return Seconds.total(_nanoseconds(r) * k for r, k in parts)

    def shared_delay(self, flow: Flow, met: Number) -> Seconds:
        """Return the time on a route with `met` packets in flight, including the wait to enter it."""
        free, receive, room = self.hop_delay(flow), _nanoseconds(self.ns_receive), flow.hops + 1
        blocked = max(0.0, met - room * self.buffer_packets)
        low, high = (max(c, met * t / room) + blocked * t for c, t in zip(free, receive, strict=True))
        return Seconds(low, high)

    def _distance(self, flow: Flow) -> tuple[int, int]:
        self._check(flow)
        return abs(flow.target[0] - flow.source[0]), abs(flow.target[1] - flow.source[1])

    def _check(self, flow: Flow) -> None:
        for x, y in (flow.source, flow.target):
            if not (0 <= x < self.width and 0 <= y < self.height):
                raise CostError(f"{self.name}: no core ({x}, {y}); it has {self.width} x {self.height} cores")
        if not flow.spikes >= 0:
            raise CostError(f"{self.name}: {flow.spikes} spikes from {flow.source}; want 0 or more")


def met_on_route(flow: Flow, weight: dict[Core, Number]) -> Number:
    """Return the packets in flight that a packet of `flow` meets: the weight on the cores that it visits."""
    return sum(weight.get(core, 0.0) for core in flow.route)


def weights(flows: Sequence[Flow], mesh: SpikeMesh) -> dict[Core, Number]:
    """Return the weight on every core when all packets of a time step are in flight at once."""
    total: collections.Counter[Core] = collections.Counter()
    for flow in flows:
        for core in flow.route:
            total[core] += mesh.packets(flow) / (flow.hops + 2)  # pyright: ignore[reportArgumentType]
    return dict(total)


@final
@dataclasses.dataclass(frozen=True)
class SpikePrice:
    """What the spikes of some time steps cost.

    Attributes:
      energy_j: energy of all packets.
      latency_s: low: time steps overlap and routes are free; high: they follow one another and routes are shared.
      packets: packets of all time steps.
    """

    energy_j: Joules
    latency_s: Seconds
    packets: Number


def price_spikes(flows: Sequence[Flow], mesh: SpikeMesh, time_steps: int = 1) -> SpikePrice:
    """Return the cost of the same flows over some time steps.

    Raises:
      CostError: a core outside the mesh, or less than one time step.

    >>> price_spikes([Flow((0, 0), (1, 0), spikes=10)], LOIHI, time_steps=4).packets
    40
    """
    if time_steps < 1:
        raise CostError(f"price_spikes: time_steps={time_steps}; want at least 1")
    energy = Joules.total(mesh.packet_energy(flow) * mesh.packets(flow) for flow in flows) * time_steps
    packets = sum(mesh.packets(flow) for flow in flows) * time_steps
    return SpikePrice(energy, _latency(flows, mesh, time_steps), packets)


def _latency(flows: Sequence[Flow], mesh: SpikeMesh, time_steps: int) -> Seconds:
    weight, moving = weights(flows, mesh), [flow for flow in flows if flow.spikes]
    if not moving:
        return Seconds(0.0, 0.0)
    out, into = _busiest(moving, mesh)
    free = max(mesh.hop_delay(flow).low for flow in moving)
    shared = max(mesh.shared_delay(flow, met_on_route(flow, weight)).high for flow in moving)
    send, receive = _nanoseconds(mesh.ns_send) * out, _nanoseconds(mesh.ns_receive) * into
    first = max(send.low, free, receive.low)
    alone = send.high + shared + receive.high + _nanoseconds(mesh.ns_sync).high
    return Seconds(first + (time_steps - 1) * max(send.low, receive.low), alone * time_steps)


def _busiest(flows: Sequence[Flow], mesh: SpikeMesh) -> tuple[Number, Number]:
    """Return the packets per time step of (the core that sends most, the core that receives most)."""
    out: collections.Counter[Core] = collections.Counter()
    into: collections.Counter[Core] = collections.Counter()
    for flow in flows:
        out[flow.source] += mesh.packets(flow)  # pyright: ignore[reportArgumentType]
        into[flow.target] += mesh.packets(flow)  # pyright: ignore[reportArgumentType]
    return max(out.values()), max(into.values())


def _nanoseconds(figure: Range) -> Seconds:
    return Seconds(figure.low * 1e-9, figure.high * 1e-9)


LOIHI = SpikeMesh(
    name="Loihi mesh",
    boundary="on-chip packets: axon out and router hops; neurons and synapses not included",
    source="SANA-FE arch/loihi.yaml, after Davies et al. 2018 (SPICE estimates)",
    process_node="14 nm",
    width=8,
    height=4,
    pj_out=Range.exactly(111.0),
    pj_east_west=Range.exactly(3.0),
    pj_north_south=Range(4.0, 4.2),
    ns_east_west=Range.exactly(4.1),
    ns_north_south=Range.exactly(6.5),
    ns_send=Range.exactly(5.1),
    ns_receive=Range.exactly(16.0),
    ns_sync=Range(600.0, 1800.0),
    buffer_packets=16,
)
