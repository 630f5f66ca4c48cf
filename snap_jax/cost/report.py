"""The cost of traffic on a system: joules and seconds with bounds, by transfer, by axis and by direction.

The parts add up to the whole. A number without a source raises an error when it is asked for; it is never 0.

Energy runs from the lower to the upper figure of each link. Time runs from full overlap (axes and chips work at the
same time, best figures) to no overlap (one thing after another, worst figures).
"""

import dataclasses
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import final

from rich.console import RenderableType
from rich.text import Text

from snap_jax.cost.axis_cost import AxisCost
from snap_jax.cost.compute import Compute
from snap_jax.cost.notes import missing_energy, missing_latency, notes
from snap_jax.cost.system import System
from snap_jax.cost.tables import Printable, table
from snap_jax.cost.units import CostError, Joules, Number, Range, Seconds, share
from snap_jax.traffic.transfer import Direction, Transfer


@final
@dataclasses.dataclass(frozen=True)
class Report(Printable):
    """The cost of one run on one system; prints as a table.

    Attributes:
      system: what the run was priced on.
      parts: transfers by axis, in program order.
      compute: what was computed; None when only the links were priced.
      least_share: bytes sent if every switch takes its cheapest branch, divided by the bytes priced.
    """

    system: System
    parts: tuple[AxisCost, ...]
    compute: Compute | None = None
    least_share: Number = 1.0

    @property
    def energy_j(self) -> Joules:
        """Energy of one run: links, and compute where priced. Raises CostError naming every missing source."""
        _refuse(self.missing_energy)
        links = [part.energy_j for part in self.parts]
        chips = [self.memory_j, *([self.compute.energy_j] if self.compute else [])]
        return Joules.total([*links, *chips])

    @property
    def latency_s(self) -> Seconds:
        """Time from `overlap_s.low` to `no_overlap_s.high`. Raises CostError naming every missing source."""
        return Seconds(self.overlap_s.low, self.no_overlap_s.high)

    @property
    def no_overlap_s(self) -> Seconds:
        """Time of one run when links, coding and compute follow one another."""
        _refuse(self.missing_latency)
        return self._link_s + self._chip_s

    @property
    def overlap_s(self) -> Seconds:
        """Time of one run when the axes and the chips work at the same time: that of the busiest one."""
        _refuse(self.missing_latency)
        times = [*(part._link_s for part in self.by_axis().values()), self._chip_s]
        return Seconds(max(t.low for t in times), max(t.high for t in times))

    @property
    def serialization_s(self) -> Seconds:
        """Time of the bytes alone, one transfer after another: a lower bound that needs no latency."""
        return Seconds.total(part.serialization_s for part in self.parts)

    @property
    def coding_s(self) -> Seconds:
        """Time to encode and decode payloads; zero when the system does not say how fast that is."""
        return Seconds.total(part.coding_s for part in self.parts)

    @property
    def memory_s(self) -> Seconds:
        """Time in which reductions read and write memory; zero when the system gives none."""
        memory = self.system.memory
        count = sum(part.memory_bytes for part in self.parts)
        return memory.seconds(count) if memory and count else Seconds(0.0, 0.0)

    @property
    def memory_j(self) -> Joules:
        """Energy of what reductions read and write, on all chips; zero when the system gives no memory."""
        memory = self.system.memory
        count = sum(part.memory_bytes * part.parallel * part.topology.size for part in self.parts)
        return memory.energy(count) if memory and count else Joules(0.0, 0.0)

    @property
    def _link_s(self) -> Seconds:
        return Seconds.total(part.link_s for part in self.parts)

    @property
    def _chip_s(self) -> Seconds:
        chips = [self.coding_s, self.memory_s, *([self.compute.latency_s] if self.compute else [])]
        return Seconds.total(chips)

    @property
    def link_share(self) -> Range:
        """Share of the links in the energy: the low end is links.low / (links.low + compute.high).

        Raises:
          CostError: no compute was priced.
        """
        return share(self.links.energy_j, self._computed().energy_j)

    @property
    def link_time_share(self) -> Range:
        """Share of the links in the time without overlap. Raises CostError without compute."""
        return share(self._link_s, self._computed().latency_s + self.coding_s + self.memory_s)

    @property
    def amdahl_limit(self) -> Range:
        """Energy reduction if the links took no energy at all: 1 / (1 - link share)."""
        links = self.link_share
        if links.high == 1:
            raise CostError("amdahl_limit: the links are all there is; price some compute with operations=")
        return Range(1 / (1 - links.low), 1 / (1 - links.high))

    def _computed(self) -> Compute:
        if self.compute is None:
            raise CostError("link share: only the links were priced; call price with operations=")
        return self.compute

    @property
    def has_energy(self) -> bool:
        """Whether `energy_j` is known."""
        return not self.missing_energy

    @property
    def has_latency(self) -> bool:
        """Whether `latency_s` is known."""
        return not self.missing_latency

    @property
    def missing_energy(self) -> tuple[str, ...]:
        """One line for each link in use, and each kind of operation, whose energy has no source."""
        return missing_energy(self.parts, self.compute, self.system.memory)

    @property
    def missing_latency(self) -> tuple[str, ...]:
        """One line for each link in use, and the compute unit, whose speed has no source."""
        return missing_latency(self.parts, self.compute, self.system.memory)

    @property
    def wire_bytes(self) -> Number:
        """Bytes that cross links, packet overhead included; a byte counts on each link that it crosses."""
        return sum(part.wire_bytes for part in self.parts)

    @property
    def outside_bandwidth_regime(self) -> tuple[Transfer, ...]:
        """Transfers whose time is mostly latency; an alpha-beta model is not reliable there."""
        return tuple(dict.fromkeys(part.transfer for part in self.parts if not part.in_bandwidth_regime))

    def by_axis(self) -> dict[str, "Report"]:
        """Return one report of the links for each mesh axis in use."""
        axes = dict.fromkeys(part.axis for part in self.parts)
        return {axis: self._only(tuple(part for part in self.parts if part.axis == axis)) for axis in axes}

    def by_transfer(self) -> tuple[tuple[Transfer, "Report"], ...]:
        """Return one report of the links for each transfer, in program order."""
        groups = [tuple(parts) for _, parts in itertools.groupby(self.parts, key=lambda part: part.index)]
        return tuple((parts[0].transfer, self._only(parts)) for parts in groups)

    def direction(self, which: Direction) -> "Report":
        """Return the report of the links in one pass."""
        return self._only(tuple(part for part in self.parts if part.transfer.direction == which))

    @property
    def forward(self) -> "Report":
        """Report of the links in the forward pass."""
        return self.direction("forward")

    @property
    def backward(self) -> "Report":
        """Report of the links in the backward pass."""
        return self.direction("backward")

    @property
    def links(self) -> "Report":
        """The same report without compute."""
        return self._only(self.parts)

    def _only(self, parts: tuple[AxisCost, ...]) -> "Report":
        return dataclasses.replace(self, parts=parts, compute=None)

    def explain(self) -> str:
        """Return the formula of every transfer with its numbers filled in."""
        lines = []
        for transfer, report in self.by_transfer():
            label = f"{transfer.op} {transfer.path}".strip()
            lines.append(f"{label} over {','.join(transfer.axes)}, executed {transfer.times:,} times:")
            lines += [line for part in report.parts for line in part.explain()]
        return "\n".join(lines)

    def to_json(self) -> str:
        """Return totals, parts and notes as JSON: joules and seconds as [low, high], null without a source."""
        rows = [
            {"op": t.op, "axes": t.axes, "path": t.path, "direction": t.direction, "times": t.times} | part._numbers()
            for t, part in self.by_transfer()
        ]
        parts: dict[str, object] = {
            "links": self.links._numbers(),
            "forward": self.forward._numbers(),
            "backward": self.backward._numbers(),
            "by_axis": {axis: part._numbers() for axis, part in self.by_axis().items()},
            "by_transfer": rows,
            "notes": self.notes(),
        }
        return json.dumps({"system": self.system.name} | self._numbers() | parts, indent=1)

    def _numbers(self) -> dict[str, object]:
        return {
            "energy_j": list(self.energy_j) if self.has_energy else None,
            "latency_s": list(self.latency_s) if self.has_latency else None,
            "overlap_s": list(self.overlap_s) if self.has_latency else None,
            "no_overlap_s": list(self.no_overlap_s) if self.has_latency else None,
            "wire_bytes": self.wire_bytes,
        }

    def save(self, path: Path | str) -> None:
        """Write `to_json` to a file."""
        Path(path).write_text(self.to_json(), encoding="utf-8")

    def render(self) -> Iterator[RenderableType]:
        rows = [(label, direction, *part._cells()) for label, direction, part in self._rows()]
        headings = ("transfer", "pass", "wire bytes", "energy", "latency")
        made = table(f"Cost of one run on {self.system.name or 'the system'}", headings, rows, left=2)
        made.add_section()
        for label, part in self._subtotals():
            made.add_row(label, "", *part._cells())
        yield made
        yield from (Text(f"- {note}", style="dim") for note in self.notes())

    def _rows(self) -> Iterator[tuple[str, str, "Report"]]:
        """Yield label, pass and report of each row; transfers that differ only in size share a row."""
        groups: dict[tuple[str, str], list[AxisCost]] = {}
        for part in self.parts:
            groups.setdefault((_label(part.transfer), part.transfer.direction), []).append(part)
        for (label, direction), parts in groups.items():
            times = sum({part.index: part.transfer.times for part in parts}.values())
            yield f"{times:,} x {label}", direction, self._only(tuple(parts))

    def _subtotals(self) -> Iterator[tuple[str, "Report"]]:
        axes = self.by_axis()
        if len(axes) > 1:
            yield from ((f"axis {axis}", part) for axis, part in axes.items())
        if self.forward.parts and self.backward.parts:
            yield "forward", self.forward
            yield "backward", self.backward
        if self.compute is not None:
            yield "links", self.links
        yield "total" if self.compute is None else "total with compute", self

    def _cells(self) -> tuple[str, str, str]:
        energy = str(self.energy_j) if self.has_energy else "n/a"
        if self.has_latency:
            return f"{self.wire_bytes:,.0f}", energy, str(self.latency_s)
        known = not any("gbyte_per_s" in link.without_source for part in self.parts for link in part.links)
        return f"{self.wire_bytes:,.0f}", energy, f"> {self.serialization_s}" if known else "n/a"

    def notes(self) -> tuple[str, ...]:
        """Return what a reader must know, one sentence each: see `snap_jax.cost.notes`."""
        return tuple(notes(self.parts, self.system, self.compute, self.least_share))


def _label(transfer: Transfer) -> str:
    """Return op, axes and path, without repeated path components and without a last one that names the op again."""
    scopes = [name for name, _ in itertools.groupby(transfer.path.split("/"))]
    if scopes[-1] == f"snap.{transfer.op}":
        scopes.pop()
    return f"{transfer.op} over {','.join(transfer.axes)} {'/'.join(scopes)}".rstrip()


def _refuse(reasons: tuple[str, ...]) -> None:
    if reasons:
        raise CostError("; ".join(reasons))
