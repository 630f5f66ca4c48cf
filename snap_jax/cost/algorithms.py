"""Collectives on topologies, as rounds of messages.

With n chips, S bytes in the full array, m = S/n, a the latency of a link, B its bandwidth in each direction, W = 2B, an
all-gather or a reduce-scatter takes

    ring               (n-1) (a + m/B)                  nccl-tests, PERFORMANCE.md
    axes               max(a sum(n_i)/2, S/(W axes))    jax-ml scaling-book; rings and tori, both directions at once
    flood              ceil((n-1)/d) (a + m/B)          d the fewest links of a chip; derived
    direct             hops a + load m/B                load: messages on the busiest link, from the routes
                       (n-1) (a + m/B) on a switch      nccl-tests: one port sends its messages one after another
    halving_doubling   sum of hops_k a + load_k 2^k m/B   n a power of two; Thakur et al. 2005

An all-reduce is a reduce-scatter, then an all-gather. "two_shot" makes the first half a direct all-to-all, as a coded
psum does. An all-to-all is direct: S_total/2/bisection on a torus, as in the jax roofline. A ppermute takes
hops a + load m/B.
"""

import dataclasses
from typing import Literal, final

from snap_jax.cost.links import Link
from snap_jax.cost.topologies import Chain, Graph, Mesh, Ring, Switch, Topology, Torus
from snap_jax.cost.topologies.base import Pairs, shift
from snap_jax.cost.units import CostError, Joules, Number, Seconds

Algorithm = Literal["ring", "axes", "flood", "direct", "two_shot", "halving_doubling"]
AlgorithmChoice = Algorithm | Literal["default", "fastest", "least_energy"]

ALGORITHMS: tuple[Algorithm, ...] = ("ring", "axes", "flood", "direct", "two_shot", "halving_doubling")
REDUCTIONS = ("psum", "pmax", "pmin")


@final
@dataclasses.dataclass(frozen=True)
class Rounds:
    """Rounds that follow one another; in each, messages of one size travel at the same time.

    They take count x (hops x latency + load x wire bytes / bandwidth) seconds and crossings x wire bytes x 8 pJ/bit
    joules. Where messages hide the latency (`overlapped`), only the larger of the two terms of time counts.

    Attributes:
      algorithm: what the report calls it.
      count: number of rounds.
      message_bytes: payload of one message.
      hops: link latencies that the farthest message of a round pays.
      load: messages that share the busiest link in a round.
      crossings: messages times links crossed, summed over all rounds and all chips of one group.
      overlapped: whether later messages hide the latency of earlier ones.

    >>> from snap_jax.cost import links
    >>> rounds = Rounds("ring", count=3, message_bytes=1e6, hops=1, load=1, crossings=12)
    >>> print(rounds.seconds(links.ICI_V5E))
    69.7 µs
    """

    algorithm: str
    count: int
    message_bytes: Number
    hops: int
    load: Number
    crossings: Number
    overlapped: bool = False

    def seconds(self, link: Link) -> Seconds:
        """Return the time of all rounds. Raises CostError when the link's latency or bandwidth has no source."""
        latency, bytes_ = self.latency(link), self.serialization(link)
        if self.overlapped:
            return Seconds(max(latency.low, bytes_.low), max(latency.high, bytes_.high))
        return latency + bytes_

    def latency(self, link: Link) -> Seconds:
        """Return the latency of all rounds: count x hops x latency of a link."""
        return link.alpha() * (self.count * self.hops)

    def serialization(self, link: Link) -> Seconds:
        """Return the time of the bytes alone: count x load x wire bytes / bandwidth."""
        return link.serialization(self.count * self.load * link.wire_bytes(self.message_bytes))

    def joules(self, link: Link) -> Joules:
        """Return the energy: crossings x wire bytes x 8 pJ/bit. Raises CostError without a source."""
        return link.energy(self.crossings * link.wire_bytes(self.message_bytes))


Plan = tuple[Rounds, ...]


def plan(op: str, operand_bytes: Number, topology: Topology, algorithm: Algorithm, pairs: Pairs = ()) -> Plan:
    """Return the rounds of one collective over all chips of a topology.

    Args:
      op: its `jax.lax` name.
      operand_bytes: operand on one chip: one shard for all_gather, the full array for psum and psum_scatter.
      topology: how the chips are wired.
      algorithm: see `ALGORITHMS`; all_to_all, ppermute and pbroadcast have only one algorithm and ignore it.
      pairs: for ppermute, its (source, target) chips.

    Raises:
      CostError: an op without a model, or an algorithm that does not apply to the topology.

    >>> from snap_jax.cost import links
    >>> [rounds.count for rounds in plan("psum", 4096, Ring(4, links.UCIE_STANDARD), "ring")]
    [3, 3]
    """
    shard = operand_bytes / topology.size
    if topology.size == 1 or operand_bytes == 0:
        return ()
    match op:
        case "ppermute":
            return _permute(operand_bytes, topology, pairs)
        case "pbroadcast":
            return _broadcast(operand_bytes, topology)
        case "all_to_all":
            return _direct(shard, topology)
        case "all_gather":
            return _gather(operand_bytes, topology, algorithm)
        case "psum_scatter":
            return _scatter(shard, topology, algorithm)
        case "psum" | "pmax" | "pmin":
            return _scatter(shard, topology, algorithm) + _gather(shard, topology, algorithm)
    raise CostError(f"plan: no model of op={op!r}; want all_gather, psum, pmax, pmin, psum_scatter, all_to_all, ...")


def chosen_plan(op: str, operand_bytes: Number, topology: Topology, choice: AlgorithmChoice, pairs: Pairs = ()) -> Plan:
    """Return the plan of a fixed algorithm, of the default one, or of the cheapest of those that apply.

    >>> from snap_jax.cost import Switch, links
    >>> small = chosen_plan("psum", 64, Switch(8, links.ETHERNET_400G), "fastest")
    >>> small[0].algorithm
    'halving_doubling'
    """
    if choice == "default":
        return plan(op, operand_bytes, topology, default_algorithm(topology), pairs)
    if choice not in ("fastest", "least_energy"):
        return plan(op, operand_bytes, topology, choice, pairs)
    plans = [plan(op, operand_bytes, topology, a, pairs) for a in ALGORITHMS if applies(a, topology)]
    link = topology.link
    if choice == "fastest":
        return min(plans, key=lambda one: Seconds.total(rounds.seconds(link) for rounds in one).high)
    return min(plans, key=lambda one: Joules.total(rounds.joules(link) for rounds in one).high)


def default_algorithm(topology: Topology) -> Algorithm:
    """Return the algorithm that suits a topology at every message size: none moves fewer bytes over its links."""
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
    """Return whether an algorithm has a model on a topology."""
    match algorithm:
        case "axes":
            return isinstance(topology, Ring | Torus)
        case "flood":
            return isinstance(topology, Chain | Ring | Mesh | Torus)
        case "halving_doubling":
            return topology.size & (topology.size - 1) == 0
        case _:
            return True


def _gather(shard_bytes: Number, topology: Topology, algorithm: Algorithm) -> Plan:
    if not applies(algorithm, topology):
        raise CostError(
            f"plan: algorithm={algorithm!r} has no model on {type(topology).__name__} of {topology.size}; "
            f"want one of {', '.join(a for a in ALGORITHMS if applies(a, topology))}"
        )
    match algorithm:
        case "ring":
            return _ring(shard_bytes, topology)
        case "axes":
            return _axes(shard_bytes, topology)
        case "flood":
            return _flood(shard_bytes, topology)
        case "halving_doubling":
            return _doubling(shard_bytes, topology)
        case "direct":
            return _direct(shard_bytes, topology)
        case "two_shot":
            return _gather(shard_bytes, topology, default_algorithm(topology))


def _scatter(shard_bytes: Number, topology: Topology, algorithm: Algorithm) -> Plan:
    """Return a reduce-scatter that leaves a shard on each chip: a reversed all-gather, or direct for two_shot."""
    return _gather(shard_bytes, topology, "direct" if algorithm == "two_shot" else algorithm)


def _ring(shard_bytes: Number, topology: Topology) -> Plan:
    """In n - 1 rounds chip i sends a shard to chip i + 1 modulo n, on any topology."""
    n, pairs = topology.size, shift(topology.size)
    crossings = (n - 1) * sum(topology.hops(s, t) for s, t in pairs)
    return (Rounds("ring", n - 1, shard_bytes, _farthest(topology, pairs), topology.load(pairs), crossings),)


def _axes(shard_bytes: Number, topology: Topology) -> Plan:
    """Use all axes of a torus at once, in both directions; the source counts S, not S (n-1)/n."""
    n, count = topology.size, max(1, topology.diameter)
    load = n / (topology.min_degree * count) if n > 2 else 1
    return (Rounds("axes", count, shard_bytes, 1, load, n * (n - 1), overlapped=True),)


def _flood(shard_bytes: Number, topology: Topology) -> Plan:
    """In every round each link forwards a shard that the chip at its far end does not have yet."""
    n, degree = topology.size, topology.min_degree
    return (Rounds("flood", -(-(n - 1) // degree), shard_bytes, 1, 1, n * (n - 1)),)


def _doubling(shard_bytes: Number, topology: Topology) -> Plan:
    """In round k chip i exchanges 2^k shards with chip i xor 2^k."""
    found = []
    for distance in (1 << k for k in range(topology.size.bit_length() - 1)):
        pairs = tuple((i, i ^ distance) for i in range(topology.size))
        found.append(_at_once("halving_doubling", shard_bytes * distance, topology, pairs))
    return tuple(found)


def _direct(message_bytes: Number, topology: Topology) -> Plan:
    """Send a message from every chip to every other; a switch port sends its messages one after another."""
    crossings = topology.all_to_all_crossings
    if isinstance(topology, Switch):
        return (Rounds("direct", topology.size - 1, message_bytes, 1, 1, crossings),)
    return (Rounds("direct", 1, message_bytes, topology.diameter, topology.all_to_all_load, crossings),)


def _permute(operand_bytes: Number, topology: Topology, pairs: Pairs) -> Plan:
    """Send each source's operand to its target, all at once."""
    moves = tuple((s, t) for s, t in pairs if s != t)
    return (_at_once("permute", operand_bytes, topology, moves),) if moves else ()


def _broadcast(operand_bytes: Number, topology: Topology) -> Plan:
    """Hand one chip's operand on from chip to chip; with switches in between, send it to each."""
    pairs = tuple((0, target) for target in range(1, topology.size))
    load, crossings = 1, len(pairs)
    if isinstance(topology, Graph | Switch):
        load, crossings = topology.load(pairs), sum(topology.hops(s, t) for s, t in pairs)
    return (Rounds("broadcast", 1, operand_bytes, topology.diameter, load, crossings),)


def _at_once(name: str, message_bytes: Number, topology: Topology, pairs: Pairs) -> Rounds:
    """Return the one round in which every (source, target) pair sends a message."""
    crossings = sum(topology.hops(s, t) for s, t in pairs)
    return Rounds(name, 1, message_bytes, _farthest(topology, pairs), topology.load(pairs), crossings)


def _farthest(topology: Topology, pairs: Pairs) -> int:
    return max(topology.latencies(s, t) for s, t in pairs)
