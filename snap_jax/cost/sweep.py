"""Many priced points in one table: how the saving changes with the model, and where it ends.

A reduction factor divides two prices with the same figures: best by best, worst by worst.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import final

from rich.console import RenderableType

from snap_jax.cost.compute import ComputeUnit
from snap_jax.cost.pricing import price
from snap_jax.cost.report import Report
from snap_jax.cost.system import Coding, System
from snap_jax.cost.tables import Printable, table
from snap_jax.cost.topologies import Topology
from snap_jax.cost.units import CostError, Number, Range, ratio, span
from snap_jax.cost.workload import VARIANTS, Variant, Workload

Value = int | float | str


@final
@dataclasses.dataclass(frozen=True)
class SweepPoint:
    """One workload priced in three variants: dense, spiking at the boundaries ("hybrid"), spiking everywhere."""

    workload: Workload
    reports: Mapping[Variant, Report]

    def energy_reduction(self, variant: Variant) -> Range:
        """Return the energy of dense divided by that of a variant. Raises CostError where a source is missing."""
        return ratio(self.reports["dense"].energy_j, self.reports[variant].energy_j)

    def time_reduction(self, variant: Variant) -> Range:
        """Return the time of dense divided by that of a variant, without overlap. Raises CostError as above."""
        return ratio(self.reports["dense"].no_overlap_s, self.reports[variant].no_overlap_s)


@final
@dataclasses.dataclass(frozen=True)
class Sweep(Printable):
    """Priced points; prints as a table.

    Attributes:
      varied: names of the workload fields that differ.
      points: all combinations in order; the last field varies fastest.
    """

    varied: tuple[str, ...]
    points: tuple[SweepPoint, ...]
    text_width = 140

    def values(self, point: SweepPoint) -> tuple[Value, ...]:
        """Return the values of the varied fields at a point."""
        fields = dataclasses.asdict(point.workload)
        return tuple(fields[name] for name in self.varied)

    def best(self, variant: Variant = "hybrid") -> SweepPoint:
        """Return the point with the largest time reduction, by its lower bound."""
        return max(self.points, key=lambda point: point.time_reduction(variant).low)

    def verdict(self, variant: Variant = "hybrid") -> str:
        """Return one line that says where the time reduction grows and where it falls.

        Raises:
          CostError: a source is missing, or more than one field is varied.
        """
        if len(self.varied) != 1:
            raise CostError(f"verdict: {len(self.varied)} fields vary, {self.varied}; sweep one")
        first, last, best = self.points[0], self.points[-1], self.best(variant)
        at = {
            id(p): f"{self.varied[0]}={self.values(p)[0]} ({span(p.time_reduction(variant))}x)"
            for p in (first, last, best)
        }
        if best is last:
            return f"grows to the end: {at[id(first)]} to {at[id(last)]}"
        if best is first:
            return f"falls from the start: {at[id(first)]} to {at[id(last)]}"
        return f"grows from {at[id(first)]} to {at[id(best)]}, then falls to {at[id(last)]}"

    def render(self) -> Iterator[RenderableType]:
        headings = (*self.varied, *VARIANTS, "energy reduction", "time reduction", "link share")
        rows = [(*map(str, self.values(point)), *_row(point)) for point in self.points]
        yield table("Sweep: hybrid and spiking against dense", headings, rows, left=0)
        yield "times without overlap; reductions are hybrid / spiking against dense; link share of dense time"
        compute = self.points[0].reports["dense"].compute
        if compute is not None:
            yield f"compute: {compute.unit.name}, {compute.unit.process_node}; reductions hold for that node only"


def sweep(
    base: Workload,
    vary: Mapping[str, Sequence[Value]],
    topology: Callable[[int], Topology],
    compute: ComputeUnit | None = None,
    coding: Coding | None = None,
) -> Sweep:
    """Price a workload at every combination of some fields.

    Args:
      base: the fields that do not vary.
      vary: values by field of `Workload`: width, depth, chips, bandwidth, firing_rate, bits, ...
      topology: function from a number of chips to their topology, such as `lambda n: Ring(n, links.UCIE_STANDARD)`.
      compute: what a chip computes with; None prices the links alone.
      coding: speed of encoding and decoding; None leaves that time out.

    Raises:
      CostError: a name that is no field of `Workload`, or nothing to vary.

    >>> from snap_jax.cost import Ring, links
    >>> swept = sweep(Workload(), {"width": [256, 1024]}, lambda n: Ring(n, links.UCIE_STANDARD))
    >>> [len(point.reports) for point in swept.points]
    [3, 3]
    """
    fields = {field.name for field in dataclasses.fields(Workload)}
    if not vary or not vary.keys() <= fields:
        raise CostError(f"sweep: vary={list(vary)}; want some of {sorted(fields)}")
    points = [
        _point(dataclasses.replace(base, **dict(zip(vary, values, strict=True))), topology, compute, coding)
        for values in itertools.product(*vary.values())
    ]
    return Sweep(tuple(vary), tuple(points))


def _point(
    workload: Workload,
    topology: Callable[[int], Topology],
    compute: ComputeUnit | None,
    coding: Coding | None,
) -> SweepPoint:
    wired = scaled(topology(workload.chips), workload.bandwidth)
    reports = {}
    for variant in VARIANTS:
        # A dense element is not a payload: nothing is encoded.
        system = System({workload.axis: wired}, compute=compute, coding=None if variant == "dense" else coding)
        operations = workload.operations(variant) if compute else None
        reports[variant] = price(workload.traffic(variant), system, operations)
    return SweepPoint(workload, reports)


def scaled(topology: Topology, bandwidth: Number) -> Topology:
    """Return the topology with links `bandwidth` times as fast."""
    link = topology.link
    if bandwidth == 1:
        return topology
    faster = dataclasses.replace(link, name=f"{link.name} x {bandwidth:g}", gbyte_per_s=link.bandwidth() * bandwidth)
    return dataclasses.replace(topology, link=faster)  # pyright: ignore[reportArgumentType, reportCallIssue]


def _row(point: SweepPoint) -> list[str]:
    reports = [point.reports[variant] for variant in VARIANTS]
    times = [str(report.no_overlap_s) if report.has_latency else "n/a" for report in reports]
    reductions = [_or_na(lambda: _both(point.energy_reduction)), _or_na(lambda: _both(point.time_reduction))]
    return [*times, *reductions, _or_na(lambda: _percent(point.reports["dense"].link_time_share))]


def _both(reduction: Callable[[Variant], Range]) -> str:
    return " / ".join(span(reduction(variant)) for variant in VARIANTS[1:])


def _percent(value: Range) -> str:
    return f"{value.low:.0%}–{value.high:.0%}"


def _or_na(text: Callable[[], str]) -> str:
    try:
        return text()
    except CostError:
        return "n/a"
