"""Traffic x system -> report.

Law: energy is additive over transfers, and so is time without overlap.
"""

import math
from collections.abc import Callable

from snap_jax.cost.collectives import ALGORITHMS, REDUCTIONS, Choice, Pairs, applies, default_algorithm, plan
from snap_jax.cost.errors import CostError
from snap_jax.cost.report import Leg, Report, Work
from snap_jax.cost.rounds import Plan
from snap_jax.cost.system import System
from snap_jax.cost.topologies.base import Topology
from snap_jax.cost.units import Joules, Number, Seconds
from snap_jax.traffic.operations import Operations
from snap_jax.traffic.transfer import Traffic, Transfer

Stage = tuple[int, Plan]


def price(traffic: Traffic, system: System, operations: Operations | None = None) -> Report:
    """Price what a program moves and, if given, what it computes.

    Args:
      traffic: what `collective_traffic` found; bytes are per chip, times are per run of the program.
      system: a topology for each mesh axis.
      operations: what the program computes, all chips together; needs `system.compute`.

    Raises:
      CostError: an axis, a size or an op that the system has no model for.

    >>> from snap_jax.cost import Ring, System, links
    >>> move = Transfer("all_gather", ("die",), group_size=4, dtype="uint8", bytes=64_000)
    >>> report = price(Traffic((move,)), System({"die": Ring(4, links.UCIE_STANDARD)}))
    >>> print(report.energy_j)
    3.26 – 3.92 µJ
    >>> print(report.latency_s)
    3.19 µs
    """
    work = None
    if operations is not None:
        if system.compute is None:
            raise CostError("price: operations are given but the system has no compute unit; set System(compute=...)")
        work = Work(system.compute, operations, system.chips)
    legs = tuple(leg for index, transfer in enumerate(traffic) for leg in _legs(index, transfer, system))
    return Report(system, legs, work, least_share=_least_share(traffic))


def _least_share(traffic: Traffic) -> Number:
    """Bytes with the cheapest branch of every switch, over those with the costliest, which are priced."""
    return traffic.least_sent_bytes / traffic.sent_bytes if traffic.sent_bytes else 1.0


def _legs(index: int, transfer: Transfer, system: System) -> tuple[Leg, ...]:
    found = system.topologies(transfer)
    chips = math.prod(topology.size for topology in found)
    coding = system.coding.seconds(transfer) if system.coding else Seconds(0.0, 0.0)
    legs = []
    for i, phases in _stages(transfer, found, system.algorithm):
        parallel = transfer.groups * chips // found[i].size
        legs.append(Leg(index, transfer, transfer.axes[i], found[i], phases, parallel, coding))
        coding = Seconds(0.0, 0.0)
    return tuple(legs)


def _stages(transfer: Transfer, found: tuple[Topology, ...], choice: Choice) -> list[Stage]:
    """Return (axis number, rounds) in the order in which a collective over several axes visits them.

    The last axis is taken as the inner, faster one: reductions shrink the array there first, gathers grow
    it there last.
    """
    shard = transfer.bytes / math.prod(topology.size for topology in found)
    if len(found) == 1:
        return [(0, chosen_plan(transfer.op, transfer.bytes, found[0], choice, pairs_of(transfer)))]
    if transfer.op in REDUCTIONS:
        return _scatter(transfer.bytes, found, choice) + _gather(shard, found, choice)
    if transfer.op == "psum_scatter":
        return _scatter(transfer.bytes, found, choice)
    if transfer.op == "all_gather":
        return _gather(transfer.bytes, found, choice)
    if transfer.op in ("all_to_all", "pbroadcast"):
        return [(i, chosen_plan(transfer.op, transfer.bytes, topology, choice)) for i, topology in enumerate(found)]
    raise CostError(f"price: no model of {transfer.op} over several axes {transfer.axes}; use one axis at a time")


def _gather(shard_bytes: Number, found: tuple[Topology, ...], choice: Choice) -> list[Stage]:
    stages = []
    for i, topology in enumerate(found):
        stages.append((i, chosen_plan("all_gather", shard_bytes, topology, choice)))
        shard_bytes *= topology.size
    return stages


def _scatter(full_bytes: Number, found: tuple[Topology, ...], choice: Choice) -> list[Stage]:
    stages = []
    for i, topology in reversed(list(enumerate(found))):
        stages.append((i, chosen_plan("psum_scatter", full_bytes, topology, choice)))
        full_bytes /= topology.size
    return stages


def chosen_plan(op: str, operand_bytes: Number, topology: Topology, choice: Choice, pairs: Pairs = ()) -> Plan:
    """Plan by the algorithm a choice stands for: a fixed one, or the cheapest of those that apply.

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
    cost = _slowest(topology) if choice == "fastest" else _hungriest(topology)
    return min(plans, key=cost)


def _slowest(topology: Topology) -> Callable[[Plan], Number]:
    return lambda phases: Seconds.total(phase.seconds(topology.link) for phase in phases).high


def _hungriest(topology: Topology) -> Callable[[Plan], Number]:
    return lambda phases: Joules.total(phase.joules(topology.link) for phase in phases).high


def pairs_of(transfer: Transfer) -> Pairs:
    """The pairs of a ppermute; where a transfer only counts them, a shift by one, and the report says so."""
    return transfer.perm or tuple((i, (i + 1) % transfer.group_size) for i in range(transfer.pairs))
