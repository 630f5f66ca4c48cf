"""Several runs of one model on one table: dense everywhere, spiking everywhere, spiking at the boundaries.

Law: only like is compared with like: all runs are priced with compute or none is, on one process node.
A ratio is taken between two best or two worst figures, never across.
"""

import dataclasses
import io
from collections.abc import Iterator, Mapping
from typing import final

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from snap_jax.cost.errors import CostError
from snap_jax.cost.report import Report
from snap_jax.cost.units import Joules, Range, Seconds


@final
@dataclasses.dataclass(frozen=True)
class Comparison:
    """Reports by the name of the run; the first is what the others are measured against. Prints as a table.

    Raises:
      CostError: no report; compute in some only; different process nodes.
    """

    reports: Mapping[str, Report]

    def __post_init__(self) -> None:
        if not self.reports:
            raise CostError("Comparison: no reports; want at least one")
        works = {name: report.work for name, report in self.reports.items()}
        without = [name for name, work in works.items() if work is None]
        if without and len(without) < len(works):
            raise CostError(f"Comparison: {without} priced without compute, the others with; price all alike")
        nodes = {name: work.unit.process_node for name, work in works.items() if work is not None}
        if len(set(nodes.values())) > 1:
            raise CostError(f"Comparison: different process nodes {nodes}; a newer node wins whatever it runs")

    def energy_ratio(self, name: str) -> Range:
        """How many times less energy than the first run."""
        return ratio(self._first.energy_j, self.reports[name].energy_j)

    def time_ratio(self, name: str) -> Range:
        """How many times less time than the first run, nothing overlapped."""
        return ratio(self._first.no_overlap_s, self.reports[name].no_overlap_s)

    @property
    def _first(self) -> Report:
        return next(iter(self.reports.values()))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        table = Table(title="Runs compared", box=box.SIMPLE_HEAD)
        for heading in ("run", "energy", "times less", "time", "times less", "link bytes"):
            table.add_column(heading, justify="left" if heading == "run" else "right", no_wrap=True)
        for name, report in self.reports.items():
            energy = (str(report.energy_j), span(self.energy_ratio(name))) if self._have_energy else ("n/a", "")
            time = (str(report.no_overlap_s), span(self.time_ratio(name))) if self._have_latency else ("n/a", "")
            table.add_row(name, *energy, *time, f"{report.wire_bytes:,.0f}")
        yield table
        yield "time without overlap"
        reasons = [reason for r in self.reports.values() for reason in (*r.missing_energy, *r.missing_latency)]
        yield from map(Text, dict.fromkeys(reasons))

    @property
    def _have_energy(self) -> bool:
        return all(report.has_energy for report in self.reports.values())

    @property
    def _have_latency(self) -> bool:
        return all(report.has_latency for report in self.reports.values())

    def __str__(self) -> str:
        console = Console(width=110, file=io.StringIO())
        with console.capture() as captured:
            console.print(self)
        return captured.get()


def ratio(base: Joules | Seconds, other: Joules | Seconds) -> Range:
    """Divide base by other, with best and with worst figures; CostError when the other is nothing."""
    if other.low == 0:
        raise CostError("ratio: the other run costs nothing, so there is none")
    return Range(*sorted((base.low / other.low, base.high / other.high)))


def span(value: Range) -> str:
    """Bounds in three digits.

    >>> span(Range(1.0, 1.25)), span(Range(2.0, 2.0))
    ('1–1.25', '2')
    """
    low, high = f"{value.low:.3g}", f"{value.high:.3g}"
    return high if low == high else f"{low}–{high}"
