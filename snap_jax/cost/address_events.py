"""Spikes that travel as address events between the cores of a neuromorphic chip, as links that `price` knows.

A packet costs the same whatever it holds: sending it, and its hops. So a spike of one core for another is a ppermute of
one pair, of as many bytes as there are spikes, on a mesh whose links cut messages into packets of one byte:

    energy of a packet    out + ew |dx| + ns |dy|
    time on a free way    ew |dx| + ns |dy|

after SANA-FE (Boyle et al. 2025, doi:10.1109/TCAD.2025.3537971). Flows that share a time step queue at the core that
sends or receives most packets. Neurons, synapses and the barrier between time steps are not part of it.
"""

from collections.abc import Iterable

from snap_jax.cost.link import Link
from snap_jax.cost.topologies import Mesh
from snap_jax.cost.topologies.grid import chip_at
from snap_jax.cost.units import Range
from snap_jax.traffic.transfer import Traffic, Transfer

Core = tuple[int, int]

_SOURCE = "SANA-FE arch/loihi.yaml, after Davies et al. 2018 (SPICE estimates)"


def _hop(direction: str, pj: Range, ns: float) -> Link:
    return Link(
        name=f"Loihi mesh, one hop {direction}",
        boundary="router hop of a packet of one spike, on chip",
        source=_SOURCE,
        pj_per_packet=pj,
        latency_ns=Range.exactly(ns),
        ns_per_packet=Range(0.0, 0.0),
        packet_bytes=1,
        process_node="14 nm",
    )


LOIHI_EAST_WEST = _hop("east or west", Range.exactly(3.0), 4.1)
LOIHI_NORTH_SOUTH = _hop("north or south", Range(4.0, 4.2), 6.5)
LOIHI_PORT = Link(
    name="Loihi core, axon out and in",
    boundary="sending a packet of one spike; time of a packet: low to send, high to receive",
    source=_SOURCE,
    pj_per_packet=Range.exactly(111.0),
    latency_ns=Range(0.0, 0.0),
    ns_per_packet=Range(5.1, 16.0),
    packet_bytes=1,
    process_node="14 nm",
)


def loihi(width: int = 8, height: int = 4) -> Mesh:
    """Return the mesh of a Loihi chip; core (x, y) is chip x * height + y, and packets go along x first.

    >>> loihi().size
    32
    """
    return Mesh((width, height), LOIHI_EAST_WEST, along=(LOIHI_EAST_WEST, LOIHI_NORTH_SOUTH), port=LOIHI_PORT)


def spike_traffic(
    flows: Iterable[tuple[Core, Core, int]], mesh: Mesh, axis: str = "core", time_steps: int = 1
) -> Traffic:
    """Return the traffic of (source core, target core, spikes per time step), one transfer a flow.

    Each is priced as if its way were free. `together` prices those of one time step as they share the mesh.

    >>> from snap_jax.cost import System, price
    >>> mesh = loihi()
    >>> print(price(spike_traffic([((0, 0), (7, 3), 1)], mesh), System({"core": mesh})).energy_j)
    144 – 145 pJ
    """
    return Traffic(
        tuple(_transfer(((source, target),), spikes, mesh, axis, time_steps) for source, target, spikes in flows)
    )


def together(pairs: Iterable[tuple[Core, Core]], mesh: Mesh, axis: str = "core", time_steps: int = 1) -> Traffic:
    """Return the traffic of one spike for each (source core, target core), all in the same time step."""
    return Traffic((_transfer(tuple(pairs), 1, mesh, axis, time_steps),))


def _transfer(pairs: tuple[tuple[Core, Core], ...], spikes: int, mesh: Mesh, axis: str, time_steps: int) -> Transfer:
    perm = tuple((chip_at(mesh.shape, source), chip_at(mesh.shape, target)) for source, target in pairs)
    return Transfer("ppermute", (axis,), mesh.size, "uint8", spikes, time_steps, pairs=len(perm), perm=perm)
