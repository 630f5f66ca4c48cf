"""Many priced points on one table: how the margin changes with the model, and where it ends.

Law: a margin is a ratio of two prices taken with the same figures, both best or both worst; never best to
worst.
"""

import dataclasses
import io
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import final

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table

from snap_jax.cost.compare import ratio, span
from snap_jax.cost.compute import ComputeUnit
from snap_jax.cost.errors import CostError
from snap_jax.cost.pricing import price
from snap_jax.cost.report import Report
from snap_jax.cost.system import Coding, System
from snap_jax.cost.topologies.base import Topology
from snap_jax.cost.units import Number, Range
from snap_jax.cost.workload import VARIANTS, Variant, Workload

Value = int | float | str


@final
@dataclasses.dataclass(frozen=True)
class Point:
    """One workload priced in three forms: dense everywhere, spiking at the boundaries, spiking everywhere."""

    workload: Workload
    reports: Mapping[Variant, Report]

    def energy_margin(self, variant: Variant) -> Range:
        """How many times less energy than dense; raises CostError where a source is missing."""
        return ratio(self.reports["dense"].energy_j, self.reports[variant].energy_j)

    def time_margin(self, variant: Variant) -> Range:
        """How many times less time than dense, nothing overlapped; CostError where a source is missing."""
        return ratio(self.reports["dense"].no_overlap_s, self.reports[variant].no_overlap_s)


@final
@dataclasses.dataclass(frozen=True)
class Sweep:
    """Priced points; prints as a table.

    Attributes:
      varied: names of the workload fields that differ, slowest first.
      points: in order, the last field varying fastest.
    """

    varied: tuple[str, ...]
    points: tuple[Point, ...]

    def values(self, point: Point) -> tuple[Value, ...]:
        """Values of the varied fields at a point."""
        fields = dataclasses.asdict(point.workload)
        return tuple(fields[name] for name in self.varied)

    def best(self, variant: Variant = "hybrid") -> Point:
        """Find the point with the largest time margin, lower bound."""
        return max(self.points, key=lambda point: point.time_margin(variant).low)

    def verdict(self, variant: Variant = "hybrid") -> str:
        """Say in one line where the time margin grows and where it ends.

        Raises:
          CostError: a source is missing, or more than one field is varied.
        """
        if len(self.varied) != 1:
            raise CostError(f"verdict: {len(self.varied)} fields vary, {self.varied}; sweep one")
        first, last, best = self.points[0], self.points[-1], self.best(variant)
        at = {
            id(p): f"{self.varied[0]}={self.values(p)[0]} ({span(p.time_margin(variant))}x)"
            for p in (first, last, best)
        }
        if best is last:
            return f"grows to the end: {at[id(first)]} to {at[id(last)]}"
        if best is first:
            return f"falls from the start: {at[id(first)]} to {at[id(last)]}"
        return f"grows from {at[id(first)]} to {at[id(best)]}, then falls to {at[id(last)]}"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        table = Table(title="Sweep: hybrid and spiking against dense", box=box.SIMPLE_HEAD)
        for heading in (
            *self.varied,
            "dense",
            "hybrid",
            "spiking",
            "energy margin",
            "time margin",
            "link share",
        ):
            table.add_column(heading, justify="right", no_wrap=True)
        for point in self.points:
            table.add_row(*map(str, self.values(point)), *_row(point))
        yield table
        yield "times without overlap; margins are hybrid / spiking against dense; link share of dense time"
        dense = self.points[0].reports["dense"]
        if dense.work is not None:
            unit = dense.work.unit
            yield f"compute: {unit.name}, {unit.process_node}; margins hold for that node only"

    def __str__(self) -> str:
        console = Console(width=140, file=io.StringIO())
        with console.capture() as captured:
            console.print(self)
        return captured.get()


def sweep(
    base: Workload,
    vary: Mapping[str, Sequence[Value]],
    topology: Callable[[int], Topology],
    compute: ComputeUnit | None = None,
    coding: Coding | None = None,
) -> Sweep:
    """Price a workload at every combination of some fields.

    Args:
      base: the fields that stay.
      vary: values by field of `Workload`: width, depth, chips, bandwidth, firing_rate, bits, ...
      topology: from a number of chips to their wiring, such as `lambda n: Ring(n, links.UCIE_STANDARD)`.
      compute: what a chip computes with; None prices the links alone.
      coding: time to encode and decode payloads; None leaves it out.

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
) -> Point:
    wired = scaled(topology(workload.chips), workload.bandwidth)
    reports = {}
    for variant in VARIANTS:
        # A dense element is not a payload: nothing is encoded.
        system = System({workload.axis: wired}, compute=compute, coding=None if variant == "dense" else coding)
        operations = workload.operations(variant) if compute else None
        reports[variant] = price(workload.traffic(variant), system, operations)
    return Point(workload, reports)


def scaled(topology: Topology, bandwidth: Number) -> Topology:
    """Keep the wiring and make its links `bandwidth` times as fast."""
    link = topology.link
    if bandwidth == 1:
        return topology
    faster = dataclasses.replace(link, name=f"{link.name} x {bandwidth:g}", gbyte_per_s=link.bandwidth() * bandwidth)
    return dataclasses.replace(topology, link=faster)  # pyright: ignore[reportArgumentType, reportCallIssue]


def _row(point: Point) -> list[str]:
    reports = [point.reports[variant] for variant in VARIANTS]
    times = [str(report.no_overlap_s) if report.has_latency else "n/a" for report in reports]
    margins = [_or_na(lambda: _both(point.energy_margin)), _or_na(lambda: _both(point.time_margin))]
    return [*times, *margins, _or_na(lambda: _percent(point.reports["dense"].link_time_share))]


def _both(margin: Callable[[Variant], Range]) -> str:
    return " / ".join(span(margin(variant)) for variant in VARIANTS[1:])


def _percent(value: Range) -> str:
    return f"{value.low:.0%}–{value.high:.0%}"


def _or_na(text: Callable[[], str]) -> str:
    try:
        return text()
    except CostError:
        return "n/a"
