"""The cost of one transfer over one mesh axis.

Energy is that of every execution in every group. Time is that of every execution; groups run side by side.
"""

import collections
import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import final

from snap_jax.cost.algorithms import REDUCTIONS, AlgorithmChoice, Plan, Rounds, chosen_plan
from snap_jax.cost.link import Link
from snap_jax.cost.permutes import permute_stages
from snap_jax.cost.system import System
from snap_jax.cost.topologies import Topology
from snap_jax.cost.topologies.base import Pairs, Use, shift
from snap_jax.cost.units import CostError, Joules, Number, Range, Seconds
from snap_jax.traffic.transfer import Transfer

# Bytes decide the time of a message when its latency is at most this part of the time of its bytes. For shorter
# messages an alpha-beta model is not reliable: fitted to four A100 it missed a 1 MiB message by a factor of 2.7.
BANDWIDTH_REGIME = 0.1


@final
@dataclasses.dataclass(frozen=True)
class AxisCost:
    """The part of one transfer that runs over one mesh axis.

    Attributes:
      index: position of the transfer in the traffic.
      transfer: the transfer.
      axis: mesh axis.
      topology: topology of that axis.
      plan: rounds of one execution in one group.
      parallel: groups that do the same side by side, on links of their own.
      coding_s: time to encode and decode, all executions; zero on all axes of a transfer but the first.
      coding_j: energy of that.
    """

    index: int
    transfer: Transfer
    axis: str
    topology: Topology
    plan: Plan
    parallel: int
    coding_s: Seconds
    coding_j: Joules

    @property
    def links(self) -> tuple[Link, ...]:
        """Kinds of link that messages cross; those of the topology when nothing is sent."""
        used = tuple(dict.fromkeys(use.link for rounds in self.plan for use in rounds.uses))
        return used or self.topology.links

    @property
    def energy_j(self) -> Joules:
        """Energy on the links. Raises CostError when pj_per_bit has no source."""
        once = Joules.total(rounds.joules() for rounds in self.plan)
        return once * (self.parallel * self.transfer.times)

    @property
    def link_s(self) -> Seconds:
        """Time on the links, one execution after another. Raises CostError when the latency has no source."""
        return (Seconds.total(rounds.seconds() for rounds in self.plan) + self._start_s) * self.transfer.times

    @property
    def _start_s(self) -> Seconds:
        """Time in which the first chip hands over its first message; the other chips are counted in each round."""
        ends = [use.link.endpoint_ns * 1e-9 for rounds in self.plan[:1] for use in rounds.uses]
        return Seconds(max((end.low for end in ends), default=0.0), max((end.high for end in ends), default=0.0))

    @property
    def serialization_s(self) -> Seconds:
        """Time of the bytes alone: a lower bound that needs no latency figure."""
        return Seconds.total(rounds.serialization() for rounds in self.plan) * self.transfer.times

    @property
    def memory_bytes(self) -> Number:
        """Bytes that each chip reads and writes to add what arrives."""
        return sum(rounds.memory_bytes for rounds in self.plan) * self.transfer.times

    @property
    def wire_bytes(self) -> Number:
        """Bytes that cross links, packet overhead included; a byte counts on each link that it crosses."""
        return sum(rounds.wire_bytes for rounds in self.plan) * self.parallel * self.transfer.times

    @property
    def in_bandwidth_regime(self) -> bool:
        """Whether bytes, not latency, decide its time; False where the latency has no source."""
        half = self.half_size_bytes
        if half is None:
            return not self.plan
        return half.high <= BANDWIDTH_REGIME * self.transfer.bytes

    @property
    def half_size_bytes(self) -> Range | None:
        """Operand bytes at which latency takes as long as the bytes do; None where either has no source."""
        if any({"latency_ns", "gbyte_per_s"} & set(link.without_source) for link in self.links) or not self.plan:
            return None
        latency = Seconds.total(rounds.latency() for rounds in self.plan)
        bytes_ = Seconds.total(rounds.serialization() for rounds in self.plan)
        halves = sorted((latency.low / bytes_.low, latency.high / bytes_.high))
        return Range(halves[0], halves[1]) * self.transfer.bytes

    def explain(self) -> Iterator[str]:
        """Yield the formulas of time and energy, with the numbers filled in."""
        for rounds in self.plan:
            for use in rounds.uses:
                yield from self._explained(rounds, use)
        if self.half_size_bytes is not None:
            half = _either(self.half_size_bytes, ",.0f")
            yield f"  latency takes as long as the bytes on {self.axis} at {half} B per operand"

    def _explained(self, rounds: Rounds, use: Use) -> Iterator[str]:
        wire = use.link.wire_bytes(rounds.message_bytes)
        size = f"{rounds.message_bytes:,.0f} B = {wire:,.0f} B on the wire"
        yield f"  {rounds.algorithm} on {self.axis} ({use.link.name}), {size}"
        yield f"    time   {self.transfer.times} x {_time_formula(rounds, use, wire)}"
        yield f"    energy {self._energy_formula(rounds, use, wire)}"

    def _energy_formula(self, rounds: Rounds, use: Use, wire: Number) -> str:
        if "pj_per_bit" in use.link.without_source:
            return "n/a: no source"
        each = [f"{wire:,.0f} B x 8 x {_either(use.link.pj_per_bit)} pJ/bit"] if use.link.pj_per_bit else []
        if use.link.pj_per_packet is not None:
            packets = use.link.packets(rounds.message_bytes)
            each.append(f"{packets:,} packets x {_either(use.link.pj_per_packet)} pJ")
        joules = use.link.message_energy(rounds.message_bytes, use.crossings) * (self.parallel * self.transfer.times)
        crossings = f"{self.transfer.times} x {self.parallel} groups x {use.crossings:g} crossings"
        return f"{crossings} x {' + '.join(each)} = {joules}"


def _time_formula(rounds: Rounds, use: Use, wire: Number) -> str:
    alpha = "unknown" if use.link.latency_ns is None else f"{_either(use.link.latency_ns)} ns"
    rate = "unknown" if use.link.gbyte_per_s is None else f"{_either(use.link.gbyte_per_s)} GB/s"
    hops, bytes_ = f"{use.hops} hops x {alpha}", f"{use.load:g} x {wire:,.0f} B / {rate}"
    if use.link.ns_per_packet is not None:
        bytes_ = f"{use.load:g} x {use.link.packets(rounds.message_bytes):,} x {_either(use.link.ns_per_packet)} ns"
    once = f"max({hops}, {bytes_})" if rounds.overlapped else f"({hops} + {bytes_})"
    known = len(rounds.uses) == 1 and not {"latency_ns", "gbyte_per_s"} & set(use.link.without_source)
    total = f" = {rounds.seconds()} each" if known else ""
    return f"{rounds.count} rounds x {once}{total}"


def _either(value: Range, digits: str = "g") -> str:
    low, high = f"{value.low:{digits}}", f"{value.high:{digits}}"
    return high if low == high else f"({low} to {high})"


def idle_energy(parts: Sequence[AxisCost], switched_on: Seconds) -> Joules:
    """Return what all links of the axes in use take while they wait, in a run of that time. CostError without a source.

    Links are those of every group that a transfer of the axis runs in.
    """
    counts: dict[tuple[str, Link], int] = {}
    crossed: collections.Counter[tuple[str, Link]] = collections.Counter()
    for part in parts:
        edges = collections.Counter(map(part.topology.link_of, part.topology.edges))
        for link, times in edges.items():
            counts[part.axis, link] = max(
                counts.get((part.axis, link), 0), times * part.parallel // part.topology.sharing
            )
        for rounds in part.plan:
            for use in rounds.uses:
                wire = use.crossings * use.link.wire_bytes(rounds.message_bytes)
                crossed[part.axis, use.link] += wire * part.parallel * part.transfer.times  # pyright: ignore
    return Joules.total(link.idle_energy(crossed[axis, link], switched_on * n) for (axis, link), n in counts.items())


def axis_costs(index: int, transfer: Transfer, system: System) -> tuple[AxisCost, ...]:
    """Return the parts of a transfer, one or more per mesh axis, in the order in which they run.

    Raises:
      CostError: an axis, a size or an op that the system has no model for.
    """
    topologies = system.topologies(transfer)
    chips = math.prod(topology.size for topology in topologies)
    coding = system.coding.seconds(transfer) if system.coding else Seconds(0.0, 0.0)
    energy = system.coding.energy(transfer) if system.coding else Joules(0.0, 0.0)
    found = []
    for i, plan in _stages(transfer, topologies, system.algorithm):
        parallel = transfer.groups * chips // topologies[i].size
        found.append(AxisCost(index, transfer, transfer.axes[i], topologies[i], plan, parallel, coding, energy))
        coding, energy = Seconds(0.0, 0.0), Joules(0.0, 0.0)
    return tuple(found)


Stages = list[tuple[int, Plan]]


def _stages(transfer: Transfer, topologies: tuple[Topology, ...], choice: AlgorithmChoice) -> Stages:
    """Return (axis number, rounds) in the order in which a collective over several axes visits them.

    The last axis is taken as the inner, faster one: reductions shrink the array there first, gathers grow
    it there last.
    """
    if len(topologies) == 1:
        return [(0, chosen_plan(transfer.op, transfer.bytes, topologies[0], choice, pairs_of(transfer)))]
    if transfer.op in REDUCTIONS:
        shard = transfer.bytes / math.prod(topology.size for topology in topologies)
        (*before, (axis, scatter)) = _scatter(transfer.bytes, topologies, choice)
        ((_, gather), *after) = _gather(shard, topologies, choice)
        return [*before, (axis, scatter + gather), *after]
    if transfer.op == "psum_scatter":
        return _scatter(transfer.bytes, topologies, choice)
    if transfer.op == "all_gather":
        return _gather(transfer.bytes, topologies, choice)
    if transfer.op in ("all_to_all", "pbroadcast"):
        return [(i, chosen_plan(transfer.op, transfer.bytes, one, choice)) for i, one in enumerate(topologies)]
    if transfer.op == "ppermute":
        return permute_stages(transfer.bytes, topologies, pairs_of(transfer))
    raise CostError(f"price: no model of {transfer.op} over several axes {transfer.axes}; use one axis at a time")


def _gather(shard_bytes: Number, topologies: tuple[Topology, ...], choice: AlgorithmChoice) -> Stages:
    stages = []
    for i, topology in enumerate(topologies):
        stages.append((i, chosen_plan("all_gather", shard_bytes, topology, choice)))
        shard_bytes *= topology.size
    return stages


def _scatter(full_bytes: Number, topologies: tuple[Topology, ...], choice: AlgorithmChoice) -> Stages:
    stages = []
    for i, topology in reversed(list(enumerate(topologies))):
        stages.append((i, chosen_plan("psum_scatter", full_bytes, topology, choice)))
        full_bytes /= topology.size
    return stages


def pairs_of(transfer: Transfer) -> Pairs:
    """Return the pairs of a ppermute; a shift by one where the transfer only counts them, and the report says so."""
    return transfer.perm or shift(transfer.group_size, transfer.pairs)
