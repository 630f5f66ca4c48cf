"""Collectives on topologies, as rounds.

Law: with n chips, S bytes in the full array, m = S/n, a the latency of a link, B its bandwidth each way,
W = 2B:

    ring               (n-1) (a + m/B)                  nccl-tests, PERFORMANCE.md
    axes               max(a sum(n_i)/2, S/(W axes))    jax-ml scaling-book; rings and tori, both ways at once
    flood              ceil((n-1)/d) (a + m/B)          d the fewest links a chip has; derived
    direct             hops a + load m/B                load: messages on the busiest link, from the routes
                       (n-1) (a + m/B) on a switch      nccl-tests: one port sends its messages in turn
    halving_doubling   sum of hops_k a + load_k 2^k m/B   n a power of two; Thakur et al. 2005

is the time of an all-gather or a reduce-scatter. An all-reduce is both, one after the other; "two_shot"
makes the first half a direct all-to-all, as a coded psum does. An all-to-all is direct:
S_total/2/bisection on a torus, as in the jax roofline. A ppermute takes hops a + load m/B.
"""

from typing import Literal

from snap_jax.cost.errors import CostError
from snap_jax.cost.rounds import Phase, Plan
from snap_jax.cost.topologies.base import Topology
from snap_jax.cost.topologies.chain_ring import Chain, Ring
from snap_jax.cost.topologies.graph import Graph
from snap_jax.cost.topologies.mesh_torus import Mesh, Torus
from snap_jax.cost.topologies.switch import Switch
from snap_jax.cost.units import Number

Algorithm = Literal["ring", "axes", "flood", "direct", "two_shot", "halving_doubling"]
Choice = Algorithm | Literal["default", "fastest", "least_energy"]
Pairs = tuple[tuple[int, int], ...]

ALGORITHMS: tuple[Algorithm, ...] = ("ring", "axes", "flood", "direct", "two_shot", "halving_doubling")
REDUCTIONS = ("psum", "pmax", "pmin")


def plan(op: str, operand_bytes: Number, topology: Topology, algorithm: Algorithm, pairs: Pairs = ()) -> Plan:
    """List the rounds of one collective over all chips of a topology.

    Args:
      op: its `jax.lax` name.
      operand_bytes: operand on one chip: one shard for all_gather, the full array for psum and psum_scatter.
      topology: the wiring.
      algorithm: see `ALGORITHMS`; all_to_all, ppermute and pbroadcast have one way only and ignore it.
      pairs: for ppermute, its (source, target) chips.

    Raises:
      CostError: an op without a model, or an algorithm that does not apply to the topology.

    >>> from snap_jax.cost import links
    >>> [phase.rounds for phase in plan("psum", 4096, Ring(4, links.UCIE_STANDARD), "ring")]
    [3, 3]
    """
    shard = operand_bytes / topology.size
    if topology.size == 1 or operand_bytes == 0:
        return ()
    if op == "ppermute":
        return permute(operand_bytes, topology, pairs)
    if op == "pbroadcast":
        return broadcast(operand_bytes, topology)
    if op == "all_to_all":
        return direct(shard, topology)
    if op == "all_gather":
        return gather(operand_bytes, topology, algorithm)
    if op == "psum_scatter":
        return scatter(shard, topology, algorithm)
    if op in REDUCTIONS:
        return scatter(shard, topology, algorithm) + gather(shard, topology, algorithm)
    raise CostError(f"plan: no model of op={op!r}; want all_gather, psum, pmax, pmin, psum_scatter, all_to_all, ...")


def default_algorithm(topology: Topology) -> Algorithm:
    """Name the algorithm that suits a wiring at every message size: none moves fewer bytes over its links."""
    match topology:
        case Ring(bidirectional=False):
            return "ring"
        case Ring() | Torus():
            return "axes"
        case Chain() | Mesh():
            return "flood"
        case _:
            return "direct"


def applies(algorithm: Algorithm, topology: Topology) -> bool:
    """Whether an algorithm has a model on a wiring."""
    match algorithm:
        case "axes":
            return isinstance(topology, Ring | Torus)
        case "flood":
            return isinstance(topology, Chain | Ring | Mesh | Torus)
        case "halving_doubling":
            return topology.size & (topology.size - 1) == 0
        case _:
            return True


def gather(shard_bytes: Number, topology: Topology, algorithm: Algorithm) -> Plan:
    """All-gather of one shard from each chip."""
    if not applies(algorithm, topology):
        raise CostError(
            f"plan: algorithm={algorithm!r} has no model on {type(topology).__name__} of {topology.size}; "
            f"want one of {', '.join(a for a in ALGORITHMS if applies(a, topology))}"
        )
    match algorithm:
        case "ring":
            return ring(shard_bytes, topology)
        case "axes":
            return axes(shard_bytes, topology)
        case "flood":
            return flood(shard_bytes, topology)
        case "halving_doubling":
            return doubling(shard_bytes, topology)
        case "direct":
            return direct(shard_bytes, topology)
        case "two_shot":
            return gather(shard_bytes, topology, default_algorithm(topology))


def scatter(shard_bytes: Number, topology: Topology, algorithm: Algorithm) -> Plan:
    """Reduce-scatter that leaves a shard on each chip: an all-gather backwards, or all at once (two_shot)."""
    return gather(shard_bytes, topology, "direct" if algorithm == "two_shot" else algorithm)


def ring(shard_bytes: Number, topology: Topology) -> Plan:
    """In n - 1 rounds chip i sends a shard to chip i + 1 modulo n, whatever the wiring."""
    n = topology.size
    pairs = tuple((i, (i + 1) % n) for i in range(n))
    hops = max(topology.latencies(s, t) for s, t in pairs)
    crossings = (n - 1) * sum(topology.hops(s, t) for s, t in pairs)
    return (Phase("ring", n - 1, shard_bytes, hops, topology.load(pairs), crossings),)


def axes(shard_bytes: Number, topology: Topology) -> Plan:
    """All axes of a torus at once, both ways round each; the source counts S, not S (n-1)/n."""
    n, rounds = topology.size, max(1, topology.diameter)
    load = n / (topology.min_degree * rounds) if n > 2 else 1
    return (Phase("axes", rounds, shard_bytes, 1, load, n * (n - 1), overlapped=True),)


def flood(shard_bytes: Number, topology: Topology) -> Plan:
    """In every round each link forwards a shard that its far end does not have yet."""
    n, degree = topology.size, topology.min_degree
    return (Phase("flood", -(-(n - 1) // degree), shard_bytes, 1, 1, n * (n - 1)),)


def doubling(shard_bytes: Number, topology: Topology) -> Plan:
    """In round k chip i swaps 2^k shards with chip i xor 2^k."""
    phases = []
    for k in range(topology.size.bit_length() - 1):
        pairs = tuple((i, i ^ (1 << k)) for i in range(topology.size))
        hops = max(topology.latencies(s, t) for s, t in pairs)
        crossings = sum(topology.hops(s, t) for s, t in pairs)
        phases.append(Phase("halving_doubling", 1, shard_bytes * (1 << k), hops, topology.load(pairs), crossings))
    return tuple(phases)


def direct(message_bytes: Number, topology: Topology) -> Plan:
    """Every chip sends a message to every other; a switch port sends its own one after another."""
    crossings = topology.all_to_all_crossings
    if isinstance(topology, Switch):
        return (Phase("direct", topology.size - 1, message_bytes, 1, 1, crossings),)
    return (Phase("direct", 1, message_bytes, topology.diameter, topology.all_to_all_load, crossings),)


def permute(operand_bytes: Number, topology: Topology, pairs: Pairs) -> Plan:
    """Each source sends its operand to its target, all at once."""
    moves = tuple((s, t) for s, t in pairs if s != t)
    if not moves:
        return ()
    hops = max(topology.latencies(s, t) for s, t in moves)
    crossings = sum(topology.hops(s, t) for s, t in moves)
    return (Phase("permute", 1, operand_bytes, hops, topology.load(moves), crossings),)


def broadcast(operand_bytes: Number, topology: Topology) -> Plan:
    """One chip's operand: handed on from chip to chip, or sent to each where switches stand between."""
    pairs = tuple((0, target) for target in range(1, topology.size))
    if isinstance(topology, Graph | Switch):
        crossings = sum(topology.hops(s, t) for s, t in pairs)
        return (Phase("broadcast", 1, operand_bytes, topology.diameter, topology.load(pairs), crossings),)
    return (Phase("broadcast", 1, operand_bytes, topology.diameter, 1, len(pairs)),)
