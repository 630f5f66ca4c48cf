"""Reports of several runs of one model in one table: dense, spiking, or spiking at the boundaries only."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import final

from rich.console import RenderableType
from rich.text import Text

from snap_jax.cost.report import Report
from snap_jax.cost.tables import Printable, table
from snap_jax.cost.units import CostError, Range, ratio, span


@final
@dataclasses.dataclass(frozen=True)
class Comparison(Printable):
    """Reports by the name of the run; the first is what the others are compared with. Prints as a table.

    All runs are priced with compute or none is, on one process node. A ratio divides best figures by best figures and
    worst by worst.

    Raises:
      CostError: no report; compute in some only; different process nodes.
    """

    reports: Mapping[str, Report]

    def __post_init__(self) -> None:
        if not self.reports:
            raise CostError("Comparison: no reports; want at least one")
        computes = {name: report.compute for name, report in self.reports.items()}
        without = [name for name, compute in computes.items() if compute is None]
        if without and len(without) < len(computes):
            raise CostError(f"Comparison: {without} priced without compute, the others with; price all alike")
        nodes = {name: compute.unit.process_node for name, compute in computes.items() if compute is not None}
        if len(set(nodes.values())) > 1:
            raise CostError(f"Comparison: different process nodes {nodes}; price all runs on one node")

    def energy_ratio(self, name: str) -> Range:
        """Return the energy of the first run divided by that of run `name`."""
        return ratio(self._first.energy_j, self.reports[name].energy_j)

    def time_ratio(self, name: str) -> Range:
        """Return the time of the first run divided by that of run `name`, without overlap."""
        return ratio(self._first.no_overlap_s, self.reports[name].no_overlap_s)

    @property
    def _first(self) -> Report:
        return next(iter(self.reports.values()))

    def render(self) -> Iterator[RenderableType]:
        have_energy = all(report.has_energy for report in self.reports.values())
        have_latency = all(report.has_latency for report in self.reports.values())
        rows = []
        for name, report in self.reports.items():
            energy = (str(report.energy_j), span(self.energy_ratio(name))) if have_energy else ("n/a", "")
            time = (str(report.no_overlap_s), span(self.time_ratio(name))) if have_latency else ("n/a", "")
            rows.append((name, *energy, *time, f"{report.wire_bytes:,.0f}"))
        headings = ("run", "energy", "reduction", "time", "reduction", "link bytes")
        yield table("Runs compared", headings, rows)
        yield "time without overlap; reduction: first run / this run"
        reasons = [reason for r in self.reports.values() for reason in (*r.missing_energy, *r.missing_latency)]
        yield from map(Text, dict.fromkeys(reasons))
