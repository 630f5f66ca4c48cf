"""The cost of traffic on a system: joules and seconds with bounds, by transfer, by axis and by direction.

A number without a source raises an error when it is asked for. Time runs from full overlap to none, both with bounds.
"""

import dataclasses
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import final

from rich.console import RenderableType
from rich.text import Text

from snap_jax.cost.axis_cost import AxisCost, idle_energy
from snap_jax.cost.compute import Compute
from snap_jax.cost.notes import missing_energy, missing_latency, notes, used_links
from snap_jax.cost.report_rows import by_part, explained, grouped
from snap_jax.cost.system import System
from snap_jax.cost.tables import Printable, plain, table
from snap_jax.cost.topologies import Placed, Topology
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
        chips = [self.memory_j, self.coding_j, *([self.compute.energy_j] if self.compute else [])]
        return Joules.total([*links, *chips])

    @property
    def awake_j(self) -> Joules:
        """Energy if the links cannot sleep: all links of the axes in use draw power until the run is over.

        Where a link has no `static_w`, the low end counts no idle power and the high end as much as sending takes.

        Raises:
          CostError: a missing source, of time too.
        """
        return self.energy_j + self.idle_j

    @property
    def idle_j(self) -> Joules:
        """What links that cannot sleep take while they wait, until the run is over. CostError as for `awake_j`."""
        return idle_energy(self.parts, self.no_overlap_s)

    @property
    def coding_j(self) -> Joules:
        """Energy to encode and decode payloads; zero when the system does not give it."""
        return Joules.total(part.coding_j for part in self.parts)

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
        wires = dict.fromkeys(_wires(part) for part in self.parts)
        times = [self.only(tuple(p for p in self.parts if _wires(p) == own))._link_s for own in wires]
        times.append(self._chip_s)
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
        axes = dict.fromkeys(p.axis for p in self.parts)
        return {axis: self.only(tuple(p for p in self.parts if p.axis == axis)) for axis in axes}

    def by_transfer(self) -> tuple[tuple[Transfer, "Report"], ...]:
        """Return one report of the links for each transfer, in program order."""
        groups = [tuple(parts) for _, parts in itertools.groupby(self.parts, key=lambda part: part.index)]
        return tuple((parts[0].transfer, self.only(parts)) for parts in groups)

    def direction(self, which: Direction) -> "Report":
        """Return the report of the links in one pass."""
        return self.only(tuple(part for part in self.parts if part.transfer.direction == which))

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
        return self.only(self.parts)

    def only(self, parts: tuple[AxisCost, ...]) -> "Report":
        """Return the report of the links for some of the parts."""
        return dataclasses.replace(self, parts=parts, compute=None)

    def explain(self) -> str:
        """Return the formula of every transfer with its numbers filled in."""
        return "\n".join(explained(self.parts))

    def to_json(self) -> str:
        """Return totals, parts and notes as JSON: joules and seconds as [low, high], null without a source."""
        kept = ("op", "axes", "path", "direction", "times")
        each = [{key: getattr(t, key) for key in kept} | part._numbers() for t, part in self.by_transfer()]
        parts: dict[str, object] = {
            "links": self.links._numbers(),
            "forward": self.forward._numbers(),
            "backward": self.backward._numbers(),
            "by_part": {name: self.only(parts)._numbers() for name, parts in by_part(self.parts).items()},
            "by_axis": {axis: part._numbers() for axis, part in self.by_axis().items()},
            "by_transfer": each,
            "notes": self.notes(),
        }
        return json.dumps({"system": self.system.name} | self._numbers() | parts, indent=1)

    def _numbers(self) -> dict[str, object]:
        times = ("latency_s", "overlap_s", "no_overlap_s")
        return {
            "energy_j": list(self.energy_j) if self.has_energy else None,
            "awake_j": list(self.awake_j) if self.has_awake else None,
            **{name: list(getattr(self, name)) if self.has_latency else None for name in times},
            "wire_bytes": self.wire_bytes,
        }

    def save(self, path: Path | str) -> None:
        """Write `to_json` to a file."""
        Path(path).write_text(self.to_json(), encoding="utf-8")

    def render(self) -> Iterator[RenderableType]:
        lines = [(label, direction, *part._cells()) for label, direction, part in self.rows()]
        headings = ("transfer", "pass", "wire bytes", "energy", "latency")
        made = table(f"Cost of one run on {self.system.name or 'the system'}", headings, lines, left=2)
        made.add_section()
        for label, part in self.subtotals():
            made.add_row(plain(label), "", *part._cells())
        if self.has_awake:
            made.add_row("total if links cannot sleep", "", "", str(self.awake_j), "")
        yield made
        yield from (Text(f"- {note}", style="dim") for note in self.notes())

    @property
    def has_awake(self) -> bool:
        """Whether `awake_j` is known."""
        known = all(k.gbyte_per_s and (k.static_w or k.pj_per_bit) for k in used_links(self.parts))
        return bool(self.parts) and known and self.has_energy and self.has_latency

    def rows(self) -> Iterator[tuple[str, str, "Report"]]:
        """Yield label, pass and report of each row; transfers that differ only in size share a row."""
        yield from ((label, direction, self.only(parts)) for label, direction, parts in grouped(self.parts))

    def subtotals(self) -> Iterator[tuple[str, "Report"]]:
        """Yield label and report of each line below the transfers."""
        axes = self.by_axis()
        if len(axes) > 1:
            yield from ((f"axis {axis}", part) for axis, part in axes.items())
        if len(named := by_part(self.parts)) > 1:
            yield from ((label, self.only(parts)) for label, parts in named.items())
        if self.compute is not None:
            yield "links", self.links
        yield "total" if self.compute is None else "total with compute", self

    def _cells(self) -> tuple[str, str, str]:
        energy = str(self.energy_j) if self.has_energy else "n/a"
        if self.has_latency:
            return f"{self.wire_bytes:,.0f}", energy, str(self.latency_s)
        known = not any("gbyte_per_s" in link.without_source for link in used_links(self.parts))
        return f"{self.wire_bytes:,.0f}", energy, f"> {self.serialization_s}" if known else "n/a"

    def notes(self) -> tuple[str, ...]:
        """Return what a reader must know, one sentence each: see `snap_jax.cost.notes`."""
        return tuple(notes(self.parts, self.system, self.compute, self.least_share))


def _wires(part: AxisCost) -> Topology | str:
    # What a part occupies: the links of its axis, or a network that several axes are placed on.
    return part.topology.physical if isinstance(part.topology, Placed) else part.axis


def _refuse(reasons: tuple[str, ...]) -> None:
    if reasons:
        raise CostError("; ".join(reasons))
