"""`price`: traffic and a system give a report. Energy is additive over transfers, and so is time without overlap."""

from snap_jax.cost.axis_cost import axis_costs
from snap_jax.cost.compute import Compute
from snap_jax.cost.report import Report
from snap_jax.cost.system import System
from snap_jax.cost.units import CostError
from snap_jax.traffic.operations import Operations
from snap_jax.traffic.transfer import Choice, Traffic, Transfer


def price(traffic: Traffic, system: System, operations: Operations | None = None) -> Report:
    """Return the cost of what a program moves and, if given, of what it computes.

    Args:
      traffic: what `collective_traffic` found; bytes are per chip, times are per run of the program.
      system: a topology for each mesh axis.
      operations: what the program computes, on all chips together; needs `system.compute`.

    Raises:
      CostError: an axis, a size or an op that the system has no model for.

    >>> from snap_jax.cost import Ring, System, links
    >>> move = Transfer("all_gather", ("device",), group_size=4, dtype="uint8", bytes=64_000)
    >>> report = price(Traffic((move,)), System({"device": Ring(4, links.UCIE_STANDARD)}))
    >>> print(report.energy_j)
    3.26 – 3.92 µJ
    >>> print(report.latency_s)
    3.19 µs
    """
    compute = None
    if operations is not None:
        if system.compute is None:
            raise CostError("price: operations are given but the system has no compute unit; set System(compute=...)")
        compute = Compute(system.compute, operations, system.chips)
    parts = tuple(part for index, transfer in enumerate(traffic) for part in axis_costs(index, transfer, system))
    least_share = traffic.least_sent_bytes / traffic.sent_bytes if traffic.sent_bytes else 1.0
    return Report(system, parts, compute, least_share)


def cheapest(traffic: Traffic) -> Traffic:
    """Return what a run sends in which every `cond` and `switch` takes the branch that sends least.

    Traffic counts the branch that sends most. Prices of both bound what a run costs.

    Raises:
      CostError: a choice whose counted branch is not among the transfers.

    >>> from snap_jax.traffic.branch_choice import choose
    >>> long, short = (Traffic((Transfer("psum", ("x",), 2, "uint8", n),)) for n in (80, 10))
    >>> cheapest(choose("layer", [long, short])).sent_bytes
    20
    """
    kept = list(traffic.transfers)
    for choice in traffic.choices:
        first = _remove(kept, choice)
        least = min(choice.branches, key=lambda branch: branch.least_sent_bytes)
        kept[first:first] = cheapest(least).transfers
    return Traffic(tuple(kept))


def _remove(kept: list[Transfer], choice: Choice) -> int:
    """Remove the transfers of the counted branch; return where it began."""
    first = len(kept)
    for transfer in choice.branches[choice.counted]:
        if transfer not in kept:
            raise CostError(
                f"cheapest: {transfer.op} of choice {choice.path!r} is not among the transfers; trace again"
            )
        first = min(first, kept.index(transfer))
        kept.remove(transfer)
    return first
