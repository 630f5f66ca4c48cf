"""What traffic costs on a system: joules and seconds, with bounds, by transfer, by axis, by direction.

Law: the parts add up to the whole, and a number without a source is an error when asked for, never 0.

Bounds. Energy runs from the lower to the upper figure of each link. Time runs from full overlap (axes and
chips work at the same time, best figures) to no overlap (one thing after another, worst figures).
"""

import dataclasses
import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import final

from rich.console import Console, ConsoleOptions, RenderableType

from snap_jax.cost import report_format
from snap_jax.cost.axis_cost import Leg
from snap_jax.cost.compute import ComputeUnit
from snap_jax.cost.errors import CostError
from snap_jax.cost.links import Link
from snap_jax.cost.system import System
from snap_jax.cost.units import Joules, Number, Range, Seconds
from snap_jax.traffic.operations import Operations
from snap_jax.traffic.transfer import Direction, Transfer


@final
@dataclasses.dataclass(frozen=True)
class Work:
    """What the chips compute, and with what.

    Attributes:
      unit: energy and speed of an operation.
      operations: of one run, all chips together.
      chips: how many share them.
    """

    unit: ComputeUnit
    operations: Operations
    chips: int

    @property
    def energy_j(self) -> Joules:
        """Energy of one run."""
        return self.unit.energy(self.operations)

    @property
    def latency_s(self) -> Seconds:
        """Time of one run, spread evenly over the chips."""
        return self.unit.seconds(self.operations, self.chips)


@final
@dataclasses.dataclass(frozen=True)
class Report:
    """The price of one run on one system; prints as a table.

    Attributes:
      system: what it was priced on.
      legs: transfers by axis, in program order.
      work: what was computed; None when the links alone were priced.
      least_share: bytes with the cheapest branches of all switches taken, over bytes priced.
    """

    system: System
    legs: tuple[Leg, ...]
    work: Work | None = None
    least_share: Number = 1.0

    @property
    def energy_j(self) -> Joules:
        """Energy of one run: links, and compute where priced. Raises CostError naming missing sources."""
        _refuse(self.missing_energy)
        parts = [leg.energy_j for leg in self.legs] + ([self.work.energy_j] if self.work else [])
        return Joules.total(parts)

    @property
    def latency_s(self) -> Seconds:
        """From `overlap_s.low` to `no_overlap_s.high`. Raises CostError naming every missing source."""
        return Seconds(self.overlap_s.low, self.no_overlap_s.high)

    @property
    def no_overlap_s(self) -> Seconds:
        """Time of one run when everything waits for what came before: links, coding, compute."""
        _refuse(self.missing_latency)
        return Seconds.total(leg.link_s for leg in self.legs) + self._chip_s

    @property
    def overlap_s(self) -> Seconds:
        """Time of one run when the axes and the chips work side by side: that of the busiest one."""
        _refuse(self.missing_latency)
        axes = [Seconds.total(leg.link_s for leg in part.legs) for part in self.by_axis().values()]
        return Seconds(max(t.low for t in [*axes, self._chip_s]), max(t.high for t in [*axes, self._chip_s]))

    @property
    def serialisation_s(self) -> Seconds:
        """Time of the bytes alone, one transfer after another: a lower bound where latency has no source."""
        return Seconds.total(leg.serialisation_s for leg in self.legs)

    @property
    def coding_s(self) -> Seconds:
        """Time to encode and decode payloads; zero when the system does not say how fast that is."""
        return Seconds.total(leg.coding_s for leg in self.legs)

    @property
    def _chip_s(self) -> Seconds:
        return self.coding_s + self.work.latency_s if self.work else self.coding_s

    @property
    def link_share(self) -> Range:
        """Part of the energy that the links take, from links.low / (links.low + compute.high) upwards.

        Raises:
          CostError: no compute was priced.
        """
        return _share(self.links.energy_j, self._work.energy_j)

    @property
    def link_time_share(self) -> Range:
        """Part of the time without overlap that the links take. Raises CostError without compute."""
        work = self._work
        return _share(Seconds.total(leg.link_s for leg in self.legs), work.latency_s + self.coding_s)

    @property
    def amdahl_limit(self) -> Range:
        """How many times less energy the whole would take if the links took none: 1 / (1 - link share)."""
        share = self.link_share
        if share.high == 1:
            raise CostError("amdahl_limit: the links are all there is; price some compute with operations=")
        return Range(1 / (1 - share.low), 1 / (1 - share.high))

    @property
    def _work(self) -> Work:
        if self.work is None:
            raise CostError("link share: only the links were priced; call price with operations=")
        return self.work

    @property
    def has_energy(self) -> bool:
        """Whether `energy_j` can be given."""
        return not self.missing_energy

    @property
    def has_latency(self) -> bool:
        """Whether `latency_s` can be given."""
        return not self.missing_latency

    @property
    def missing_energy(self) -> tuple[str, ...]:
        """One line for each link in use, and each kind of operation, whose energy has no source."""
        links = tuple(link.missing("pj_per_bit") for link in self._used if link.pj_per_bit is None)
        return links + (self.work.unit.missing_energy(self.work.operations) if self.work else ())

    @property
    def missing_latency(self) -> tuple[str, ...]:
        """One line for each link in use, and the compute unit, whose speed has no source."""
        slow = tuple(link.missing("latency_ns") for link in self._used if link.latency_ns is None)
        narrow = tuple(link.missing("gbyte_per_s") for link in self._used if link.gbyte_per_s is None)
        return slow + narrow + (self.work.unit.missing_latency if self.work else ())

    @property
    def _used(self) -> tuple[Link, ...]:
        return tuple(dict.fromkeys(leg.link for leg in self.legs if leg.phases))

    @property
    def wire_bytes(self) -> Number:
        """Bytes that cross links, packet overhead included, each link counted."""
        return sum(leg.wire_bytes for leg in self.legs)

    @property
    def outside_bandwidth_regime(self) -> tuple[Transfer, ...]:
        """Transfers whose time latency decides, where an alpha-beta model is not to be trusted."""
        return tuple(dict.fromkeys(leg.transfer for leg in self.legs if not leg.in_bandwidth_regime))

    def by_axis(self) -> dict[str, "Report"]:
        """One report of the links for each mesh axis in use."""
        axes = dict.fromkeys(leg.axis for leg in self.legs)
        return {axis: self._links(tuple(leg for leg in self.legs if leg.axis == axis)) for axis in axes}

    def by_transfer(self) -> tuple[tuple[Transfer, "Report"], ...]:
        """One report of the links for each transfer, in program order."""
        parts = [tuple(legs) for _, legs in itertools.groupby(self.legs, key=lambda leg: leg.index)]
        return tuple((legs[0].transfer, self._links(legs)) for legs in parts)

    def direction(self, which: Direction) -> "Report":
        """Report the links of one pass alone."""
        return self._links(tuple(leg for leg in self.legs if leg.transfer.direction == which))

    @property
    def forward(self) -> "Report":
        """What the links cost in the forward pass."""
        return self.direction("forward")

    @property
    def backward(self) -> "Report":
        """What the links cost in the backward pass."""
        return self.direction("backward")

    @property
    def links(self) -> "Report":
        """The same without compute."""
        return self._links(self.legs)

    def _links(self, legs: tuple[Leg, ...]) -> "Report":
        return dataclasses.replace(self, legs=legs, work=None)

    def to_json(self) -> str:
        """JSON text: see `show.to_json`."""
        return report_format.to_json(self)

    def save(self, path: Path | str) -> None:
        """Write `to_json` to a file."""
        Path(path).write_text(self.to_json(), encoding="utf-8")

    def explain(self) -> str:
        """Spell out the formula of every transfer with its numbers put in: see `show.explain`."""
        return report_format.explain(self)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        yield from report_format.tables(self)

    def __str__(self) -> str:
        console = Console(width=110, file=io.StringIO())
        with console.capture() as captured:
            console.print(self)
        return captured.get()


def _share(links: Joules | Seconds, chips: Joules | Seconds) -> Range:
    if links.high + chips.high == 0:
        raise CostError("link share: nothing was moved and nothing was computed")
    low = links.low / (links.low + chips.high) if links.low else 0.0
    high = links.high / (links.high + chips.low) if links.high else 0.0
    return Range(low, high)


def _refuse(reasons: tuple[str, ...]) -> None:
    if reasons:
        raise CostError("; ".join(reasons))
