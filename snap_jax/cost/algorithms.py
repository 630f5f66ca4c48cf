"""Collectives on topologies, as rounds of messages.

With n chips, S bytes in the full array, m = S/n, a the latency of a link, B its bandwidth in each direction, W = 2B, an
all-gather or a reduce-scatter takes

    ring               (n-1) (a + m/B)                  nccl-tests, PERFORMANCE.md
    axes               max(a sum(n_i)/2, S/(W axes))    jax-ml scaling-book; rings and tori, both directions at once
    flood              ceil((n-1)/d) (a + m/B)          d the fewest links of a chip; derived
    direct             hops a + load m/B                load: messages on the busiest link, from the routes
                       a + (n-1) m/B on a switch        one latency, bytes queue at the ports; as ASTRA-sim does
    halving_doubling   sum of hops_k a + load_k 2^k m/B   n a power of two; Thakur et al. 2005

An all-reduce is a reduce-scatter, then an all-gather. "two_shot" makes the first half a direct all-to-all, as a coded
psum does. An all-to-all is direct: S_total/2/bisection on a torus, as in the jax roofline; "ring" hands its messages on
from chip to chip in n(n-1)/2 rounds. A ppermute takes hops a + load m/B. m/B stands for the time of a message on its
link, packets and flits included (`Link.message_time`).

A reduction reads two shards and writes one, n-1 times; a direct one reads n and writes one.
"""

import dataclasses
from typing import Literal, final

from snap_jax.cost.topologies import Graph, Mesh, Placed, Switch, Topology, Torus
from snap_jax.cost.topologies.base import Pairs, Use, shift
from snap_jax.cost.units import CostError, Joules, Number, Seconds

Algorithm = Literal["ring", "axes", "flood", "direct", "two_shot", "halving_doubling"]
AlgorithmChoice = Algorithm | Literal["default", "fastest", "least_energy"]

ALGORITHMS: tuple[Algorithm, ...] = ("ring", "axes", "flood", "direct", "two_shot", "halving_doubling")
REDUCTIONS = ("psum", "pmax", "pmin")


@final
@dataclasses.dataclass(frozen=True)
class Rounds:
    """Rounds that follow one another; in each, messages of one size travel at the same time.

    They take count x (latency of the slowest way + load x time of a message on the busiest link) seconds and
    crossings x energy of a message joules. Where messages hide the latency (`overlapped`), only the larger of the two
    terms of time counts.

    Attributes:
      algorithm: what the report calls it.
      count: number of rounds.
      message_bytes: payload of one message.
      uses: what one round does to each kind of link; crossings are those of all rounds and all chips of one group.
      overlapped: whether later messages hide the latency of earlier ones.
      memory_bytes: bytes that each chip reads and writes to add what arrives, in all rounds.

    >>> from snap_jax.cost import links
    >>> print(Rounds("ring", 3, message_bytes=1e6, uses=(Use(links.ICI_V5E, hops=1, load=1, crossings=12),)).seconds())
    69.7 µs
    """

    algorithm: str
    count: int
    message_bytes: Number
    uses: tuple[Use, ...]
    overlapped: bool = False
    memory_bytes: Number = 0

    def seconds(self) -> Seconds:
        """Return the time of all rounds. Raises CostError when the latency or bandwidth of a link has no source."""
        latency, bytes_ = self.latency(), self.serialization()
        if self.overlapped:
            return Seconds(max(latency.low, bytes_.low), max(latency.high, bytes_.high))
        return latency + bytes_

    def latency(self) -> Seconds:
        """Return the latency of all rounds: count x (hops x latency of a link + time at the end of the way)."""
        ways = [use.link.alpha() * (self.count * use.hops) for use in self.uses if use.hops]
        ends = [use.link.endpoint_ns * (1e-9 * self.count) for use in self.uses]
        slowest = Seconds(max(end.low for end in ends), max(end.high for end in ends))
        return Seconds.total([*ways, slowest])

    def serialization(self) -> Seconds:
        """Return the time of the bytes alone: count x load x time of a message, on the link where it is longest."""
        times = [use.link.message_time(self.message_bytes, self.count * use.load) for use in self.uses]
        return Seconds(max(time.low for time in times), max(time.high for time in times))

    def joules(self) -> Joules:
        """Return the energy: crossings x energy of a message. Raises CostError without a source."""
        return Joules.total(use.link.message_energy(self.message_bytes, use.crossings) for use in self.uses)

    @property
    def wire_bytes(self) -> Number:
        """Bytes that cross links, packet overhead included."""
        return sum(use.crossings * use.link.wire_bytes(self.message_bytes) for use in self.uses)

    def bare(self) -> "Rounds":
        """Return the same rounds on links without packets, headers and flits."""
        bare = (dataclasses.replace(use, link=use.link.bare()) for use in self.uses)
        return dataclasses.replace(self, uses=tuple(bare))


Plan = tuple[Rounds, ...]


def plan(op: str, operand_bytes: Number, topology: Topology, algorithm: Algorithm, pairs: Pairs = ()) -> Plan:
    """Return the rounds of one collective over all chips of a topology.

    Args:
      op: its `jax.lax` name.
      operand_bytes: operand on one chip: one shard for all_gather, the full array for psum and psum_scatter.
      topology: how the chips are wired.
      algorithm: see `ALGORITHMS`; all_to_all is direct unless it is "ring"; ppermute and pbroadcast ignore it.
      pairs: for ppermute, its (source, target) chips.

    Raises:
      CostError: an op without a model, or an algorithm that does not apply to the topology.

    >>> from snap_jax.cost import Ring, links
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
            return _handed_on(shard, topology) if algorithm == "ring" else _direct(shard, topology)
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
    'direct'
    """
    if choice == "default":
        return plan(op, operand_bytes, topology, default_algorithm(topology, op), pairs)
    if choice not in ("fastest", "least_energy"):
        return plan(op, operand_bytes, topology, choice, pairs)
    plans = [plan(op, operand_bytes, topology, a, pairs) for a in ALGORITHMS if applies(a, topology)]
    if choice == "fastest":
        return min(plans, key=lambda one: Seconds.total(rounds.seconds() for rounds in one).high)
    return min(plans, key=lambda one: Joules.total(rounds.joules() for rounds in one).high)


def default_algorithm(topology: Topology, op: str = "psum") -> Algorithm:
    """Return the algorithm that suits a topology at every message size: none moves fewer bytes over its links."""
    match topology:
        case _ if op == "all_to_all":
            return "direct"
        case Torus(bidirectional=False):
            return "ring"
        case Torus():
            return "axes"
        case Mesh():
            return "flood"
        case _:
            return "direct"


def applies(algorithm: Algorithm, topology: Topology) -> bool:
    """Return whether an algorithm has a model on a topology."""
    match algorithm:
        case "axes":
            return isinstance(topology, Torus) and len(topology.links) == 1
        case "flood":
            return isinstance(topology, Mesh | Torus) and len(topology.links) == 1
        case "halving_doubling":
            return topology.size & (topology.size - 1) == 0
        case _:
            return True


def _gather(shard_bytes: Number, topology: Topology, algorithm: Algorithm) -> Plan:
    if not applies(algorithm, topology):
        raise CostError(
            f"plan: algorithm={algorithm!r} has no model on {topology.kind} of {topology.size}; "
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
    sends: Algorithm = "direct" if algorithm == "two_shot" else algorithm
    rounds = _gather(shard_bytes, topology, sends)
    shards = topology.size + 1 if sends == "direct" else 3 * (topology.size - 1)
    return (*rounds[:-1], dataclasses.replace(rounds[-1], memory_bytes=shards * shard_bytes))


def _ring(shard_bytes: Number, topology: Topology) -> Plan:
    """In n - 1 rounds chip i sends a shard to chip i + 1 modulo n, on any topology."""
    n = topology.size
    return (_repeated("ring", n - 1, shard_bytes, topology),)


def _handed_on(message_bytes: Number, topology: Topology) -> Plan:
    """Hand each message of an all-to-all on from chip i to chip i + 1 until it arrives: 1 + ... + (n - 1) rounds."""
    n = topology.size
    return (_repeated("ring", n * (n - 1) // 2, message_bytes, topology),)


def _repeated(name: str, count: int, message_bytes: Number, topology: Topology) -> Rounds:
    uses = topology.uses(shift(topology.size))
    return Rounds(name, count, message_bytes, tuple(_often(use, count) for use in uses))


def _often(use: Use, count: int) -> Use:
    return dataclasses.replace(use, crossings=use.crossings * count)


def _axes(shard_bytes: Number, topology: Topology) -> Plan:
    """Use all axes of a torus at once, in both directions; the source counts S, not S (n-1)/n."""
    n, count = topology.size, max(1, topology.diameter)
    load = n / (topology.min_degree * count) if n > 2 else 1
    return (Rounds("axes", count, shard_bytes, (Use(topology.link, 1, load, n * (n - 1)),), overlapped=True),)


def _flood(shard_bytes: Number, topology: Topology) -> Plan:
    """In every round each link forwards a shard that the chip at its far end does not have yet."""
    n, degree = topology.size, topology.min_degree
    return (Rounds("flood", -(-(n - 1) // degree), shard_bytes, (Use(topology.link, 1, 1, n * (n - 1)),)),)


def _doubling(shard_bytes: Number, topology: Topology) -> Plan:
    """In round k chip i exchanges 2^k shards with chip i xor 2^k."""
    found = []
    for distance in (1 << k for k in range(topology.size.bit_length() - 1)):
        pairs = tuple((i, i ^ distance) for i in range(topology.size))
        found.append(_at_once("halving_doubling", shard_bytes * distance, topology, pairs))
    return tuple(found)


def _direct(message_bytes: Number, topology: Topology) -> Plan:
    """Send a message from every chip to every other at once; those that share a link queue."""
    return (Rounds("direct", 1, message_bytes, topology.all_to_all_uses),)


def _permute(operand_bytes: Number, topology: Topology, pairs: Pairs) -> Plan:
    """Send each source's operand to its target, all at once."""
    moves = tuple((s, t) for s, t in pairs if s != t)
    return (_at_once("permute", operand_bytes, topology, moves),) if moves else ()


def _broadcast(operand_bytes: Number, topology: Topology) -> Plan:
    """Hand one chip's operand on from chip to chip; with switches in between, send it to each."""
    pairs = tuple((0, target) for target in range(1, topology.size))
    uses = (Use(topology.link, topology.diameter, 1, len(pairs)),)
    if isinstance(topology, Graph | Switch | Placed) or len(topology.links) > 1:
        uses = topology.uses(pairs)
    return (Rounds("broadcast", 1, operand_bytes, uses),)


def _at_once(name: str, message_bytes: Number, topology: Topology, pairs: Pairs) -> Rounds:
    """Return the one round in which every (source, target) pair sends a message."""
    return Rounds(name, 1, message_bytes, topology.uses(pairs))
