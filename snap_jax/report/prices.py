"""Charts of the energy and the time of one step's links, by system, run and part."""

import dataclasses
from collections.abc import Callable, Sequence

from snap_jax.report import number_format, svg
from snap_jax.report.run_data import Cost, Price, Range, RunData
from snap_jax.report.svg import Scale

_WIDTH, _BARS, _BAR, _GAP, _HEAD, _TOP = 410.0, 286.0, 13.0, 6.0, 20.0, 30.0
PARTS = ("forward", "backward", "gradients", "bookkeeping")

Pick = Callable[[Price], Range | None]


@dataclasses.dataclass(frozen=True)
class Bar:
    """The price of one run: parts by name, each its highest figure; `total` is the range of all."""

    index: int
    parts: tuple[tuple[str, float], ...]
    total: Range


def energies(runs: Sequence[RunData]) -> str:
    """Return bars of the energy of a step; "" if no link has one."""
    return _chart(runs, "energy of the links per step", "J", lambda price: price.energy_j)


def latencies(runs: Sequence[RunData]) -> str:
    """Return bars of the time of a step; "" if no link has one."""
    return _chart(runs, "time of the links per step", "s", lambda price: price.latency_s)


def used_parts(runs: Sequence[RunData]) -> list[str]:
    """Return the names of the parts that some run has."""
    return [part for part in PARTS if any(part in cost.parts for run in runs for cost in run.costs.values())]


def _chart(runs: Sequence[RunData], title: str, unit: str, pick: Pick) -> str:
    systems = dict.fromkeys(system for run in runs for system in run.costs)
    groups = {system: _bars(runs, system, pick) for system in systems}
    parts, top, said = [svg.text(0.0, 12.0, title, "title")], _TOP, []
    for system, bars in ((system, bars) for system, bars in groups.items() if bars):
        scale = Scale(0.0, max(bar.total[1] for bar in bars), 0.0, _BARS)
        parts.append(svg.text(0.0, top + 12, system, "name"))
        top += _HEAD
        for bar in bars:
            parts.append(svg.group(bar.index, _drawn(bar, scale, top, unit)))
            said.append(f"{runs[bar.index].label} on {system}: {number_format.span(bar.total, unit)}")
            top += _BAR + _GAP
        top += 12
    return svg.figure(_WIDTH, top, f"{title}. {'; '.join(said)}", parts) if said else ""


def _bars(runs: Sequence[RunData], system: str, pick: Pick) -> list[Bar]:
    costs = {i: run.costs[system] for i, run in enumerate(runs) if system in run.costs}
    bars = (_bar(i, cost, pick) for i, cost in costs.items())
    return [bar for bar in bars if bar is not None]


def _bar(index: int, cost: Cost, pick: Pick) -> Bar | None:
    total = pick(cost.total)
    if total is None or not number_format.finite(*total) or total[1] <= 0:
        return None
    priced = ((name, pick(cost.parts[name])) for name in PARTS if name in cost.parts)
    highs = [(name, ends[1]) for name, ends in priced if ends is not None and number_format.finite(*ends)]
    # Axes may work at the same time, so that parts do not add up to the whole: only their shares are drawn.
    whole = sum(high for _, high in highs)
    shares = tuple((name, high / whole * total[1]) for name, high in highs) if whole else (("forward", total[1]),)
    return Bar(index, shares, total)


def _drawn(bar: Bar, scale: Scale, top: float, unit: str) -> str:
    drawn, left = [], 0.0
    for name, value in bar.parts:
        width = scale.at(value)
        drawn.append(svg.box(left, top, max(width - 0.6, 0.0), _BAR, f"part-{name}"))
        left += width
    low, high = (scale.at(end) for end in bar.total)
    if high - low > 2:  # from the best figure of the link to the worst
        middle = top + _BAR / 2
        ends = [(low, middle, high, middle), *((end, top + 2, end, top + _BAR - 2) for end in (low, high))]
        drawn += [svg.line(*line, kind) for kind in ("halo", "whisker") for line in ends]
    words = number_format.span(bar.total, unit, scale.high)
    drawn.append(svg.text(high + 7, top + _BAR - 2, words, "tick"))
    return "".join(drawn)
