"""Figures of runs: loss, bits, firing rate and thresholds over training steps, and bytes by boundary."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence

from snap_jax.report import number_format, svg
from snap_jax.report.run_data import BoundaryBytes, LogLine, RunData
from snap_jax.report.svg import Axis, Scale, axis

_LEFT, _RIGHT, _TOP, _BOTTOM, _WIDTH, _HEIGHT = 54.0, 380.0, 36.0, 232.0, 410.0, 274.0
_MOST = 120  # points of a curve
_BAR, _GAP, _HEAD, _END = 11.0, 4.0, 20.0, 64.0  # sizes of the bars of bytes

Points = list[tuple[float, float]]


@dataclasses.dataclass(frozen=True)
class Curve:
    """A line in the color of run `index`; `kind` is a CSS class; `name` is written at its right end.

    `spread` are low and high ends over seeds, as (step, low, high).
    """

    index: int
    points: Points
    kind: str = "curve"
    name: str = ""
    spread: tuple[tuple[float, float, float], ...] = ()


def training(runs: Sequence[RunData]) -> str:
    """Return bits per byte over steps: faint for training data, strong for held-out data; "" if not logged."""
    faint = [Curve(i, _points(run, lambda log: log.loss_bits), "faint") for i, run in enumerate(runs)]
    strong = [
        Curve(i, _points(run, lambda log: log.heldout_bits), "dotted", spread=_spread(run))
        for i, run in enumerate(runs)
    ]
    curves = [curve for curve in _below(runs[0].order0, [*faint, *strong]) if curve.points]
    if not curves:
        return ""
    baselines = {"gzip -9": runs[0].gzip, "order-0 entropy": runs[0].order0}
    lines = {name: value for name, value in baselines.items() if value and math.isfinite(value)}
    values = [value for curve in curves for _, value in curve.points] + list(lines.values())
    scale = Scale(min(values) * 0.96, max(values) * 1.02, _BOTTOM, _TOP, log=True)
    ends = [f"{runs[c.index].label} ends at {c.points[-1][1]:.3f}" for c in curves if c.kind == "dotted"]
    unit = _unit(runs)
    label = "; ".join([f"{unit[0].upper()}{unit[1:]} over training steps", *ends])
    return _draw(label, curves, axis(scale, unit), lines)


def accuracy(runs: Sequence[RunData]) -> str:
    """Return held-out accuracy over steps; "" if not logged."""
    curves = [Curve(i, _points(run, lambda log: log.accuracy), "dotted") for i, run in enumerate(runs)]
    return _near("Accuracy over training steps", curves, "held-out accuracy, %", "{:g}".format)


def bits(runs: Sequence[RunData]) -> str:
    """Return the entropy of what crosses over steps; "" if not logged."""
    curves = [Curve(i, _positive(_points(run, lambda log: log.entropy))) for i, run in enumerate(runs)]
    return _near("Entropy of what crosses over training steps", curves, "entropy, bits per element", "{:g}".format)


def firing(runs: Sequence[RunData]) -> str:
    """Return the firing rate over steps; "" if not logged."""
    curves = [Curve(i, _points(run, lambda log: log.firing_rate)) for i, run in enumerate(runs)]
    return _near("Firing rate over training steps", curves, "values that are not zero", number_format.share)


def thresholds(runs: Sequence[RunData]) -> str:
    """Return the mean threshold of each boundary over steps; "" if not logged."""
    curves = [curve for i, run in enumerate(runs) for curve in _by_boundary(i, run)]
    return _near("Thresholds over training steps", curves, "mean threshold, by boundary", "{:g}".format)


def thinned(points: Sequence[tuple[float, float]], most: int) -> Points:
    """Return averages of neighbors, so that at most `most` points are left.

    >>> thinned([(0.0, 4.0), (1.0, 2.0), (2.0, 7.0)], most=2)
    [(0.5, 3.0), (2.0, 7.0)]
    """
    size = max(-(-len(points) // most), 1)
    chunks = [points[i : i + size] for i in range(0, len(points), size)]
    return [(sum(x for x, _ in c) / len(c), sum(y for _, y in c) / len(c)) for c in chunks]


def _points(run: RunData, pick: Callable[[LogLine], float | None]) -> Points:
    pairs = [(log.step, pick(log)) for log in run.logs]
    return thinned([(step, value) for step, value in pairs if value is not None and math.isfinite(value)], _MOST)


def _spread(run: RunData) -> tuple[tuple[float, float, float], ...]:
    known = [(log.step, log.heldout_bits, log.spread) for log in run.logs]
    ends = [(step, at - off, at + off) for step, at, off in known if at is not None and off is not None]
    return tuple(end for end in ends if number_format.finite(*end) and end[1] > 0)


def _unit(runs: Sequence[RunData]) -> str:
    units = {"bits per image" if run.metric == number_format.ACCURACY else "bits per byte" for run in runs}
    return units.pop() if len(units) == 1 else "bits"


def _positive(points: Points) -> Points:
    return [(step, value) for step, value in points if value > 0]


def _below(order0: float | None, curves: list[Curve]) -> list[Curve]:
    """Leave out points worse than the order-0 entropy, unless most points of a curve are."""

    def cut(points: Points) -> Points:
        low = [point for point in points if order0 is None or point[1] <= order0]
        return low if len(low) > len(points) // 2 else points

    return [dataclasses.replace(curve, points=cut(_positive(curve.points))) for curve in curves]


def _by_boundary(index: int, run: RunData) -> list[Curve]:
    def curve(n: int) -> Curve:
        points = _points(run, lambda log: log.thresholds[n] if n < len(log.thresholds) else None)
        return Curve(index, points, name=str(n + 1))

    return [curve(n) for n in range(max((len(log.thresholds) for log in run.logs), default=0))]


def _near(label: str, curves: list[Curve], title: str, words: Callable[[float], str]) -> str:
    """Return curves on an axis that starts near the lowest value, or at zero where that is not far away."""
    values = [value for curve in curves for _, value in curve.points]
    if not values:
        return ""
    least, most = min(values), max(values)
    room = 0.15 * (most - least) or 0.05 * abs(most) or 0.5
    low = 0.0 if 0 <= least < 0.4 * most else least - room
    return _draw(
        label,
        [curve for curve in curves if curve.points],
        axis(Scale(low, most + room, _BOTTOM, _TOP), title, words),
        {},
    )


def _draw(label: str, curves: list[Curve], y: Axis, lines: dict[str, float]) -> str:
    last = max(step for curve in curves for step, _ in curve.points)
    x = axis(Scale(0.0, last or 1.0, _LEFT, _RIGHT), "training step", "{:,.0f}".format)
    # Curves fall from the left, so a line below them is named on the left and a line above them on the right.
    middle = (y.scale.start + y.scale.end) / 2
    ends = {name: "start" if y.scale.at(value) > middle else "end" for name, value in lines.items()}
    dashes = [svg.reference(x, y, value, name, ends[name]) for name, value in lines.items()]
    drawn = [svg.group(curve.index, *_curve(curve, x, y)) for curve in curves]
    return svg.figure(_WIDTH, _HEIGHT, label, [svg.frame(x, y), *dashes, *drawn, *_names(curves, x, y)])


def _curve(curve: Curve, x: Axis, y: Axis) -> list[str]:
    places = [(x.scale.at(step), y.scale.at(value)) for step, value in curve.points]
    signs = places if curve.kind == "dotted" and len(places) <= 12 else places[-1:]
    marks = [] if curve.kind == "faint" else [svg.marker(curve.index, *place, size=3.2) for place in signs]
    return [*_ribbon(curve, x, y), svg.polyline(places, curve.kind), *marks]


def _ribbon(curve: Curve, x: Axis, y: Axis) -> list[str]:
    """Return the area between the ends of the spread over seeds."""
    above = [(x.scale.at(step), y.scale.at(high)) for step, _, high in curve.spread]
    below = [(x.scale.at(step), y.scale.at(low)) for step, low, _ in reversed(curve.spread)]
    return [svg.polygon([*above, *below], "spread")] if len(above) > 1 else []


def _names(curves: list[Curve], x: Axis, y: Axis) -> list[str]:
    """Return the names at the right ends of curves, at least a line apart and within the frame."""
    ends = [(*curve.points[-1], curve.name) for curve in curves if curve.name]
    named = sorted((x.scale.at(step) + 8, y.scale.at(value) + 4, name) for step, value, name in ends)
    drawn = []
    for left, column in itertools.groupby(named, lambda end: end[0]):
        _, heights, names = zip(*column, strict=True)
        for height, at, name in zip(heights, _apart(heights), names, strict=True):
            drawn += [svg.line(left - 4, height - 4, left + 6, at - 4, "leader"), svg.text(left + 8, at, name, "tick")]
    return drawn


def _apart(heights: Sequence[float], line: float = 12.5) -> list[float]:
    """Move rising heights down until they are a line apart, and up again where that leaves the frame.

    >>> _apart([100.0, 101.0, 150.0])
    [100.0, 112.5, 150.0]
    >>> _apart([230.0, 231.0])
    [223.5, 236.0]
    """
    down = itertools.accumulate(heights, lambda last, height: max(height, last + line))
    lowest = [_BOTTOM + 4 - line * below for below in reversed(range(len(heights)))]
    return [min(*pair) for pair in zip(down, lowest, strict=True)]


def bars(runs: Sequence[RunData]) -> str:
    """Return bars of the bytes of one step at each boundary, forward and backward; "" if no run lists boundaries."""
    paths = list(dict.fromkeys(boundary.path for run in runs for boundary in run.boundaries))
    most = max((b.forward_bytes + b.backward_bytes for run in runs for b in run.boundaries), default=0)
    if not most:
        return ""
    scale = Scale(0.0, most, 0.0, _WIDTH - _END)
    parts, top = [svg.text(0.0, _TOP - 16, "bytes per step", "title")], _TOP
    for path in paths:
        found = [(i, b) for i, run in enumerate(runs) for b in run.boundaries if b.path == path]
        parts += [svg.text(0.0, top + 12, path, "name"), *_bars(found, scale, top + _HEAD)]
        top += _HEAD + len(found) * (_BAR + _GAP) + 12
    return svg.figure(_WIDTH, top, "Bytes per step by boundary. " + "; ".join(_said(run) for run in runs), parts)


def _bars(found: list[tuple[int, BoundaryBytes]], scale: Scale, top: float) -> list[str]:
    return [svg.group(i, _bar(b, scale, top + n * (_BAR + _GAP))) for n, (i, b) in enumerate(found)]


def _bar(boundary: BoundaryBytes, scale: Scale, y: float) -> str:
    ahead = scale.at(boundary.forward_bytes)
    both = boundary.forward_bytes + boundary.backward_bytes
    end = scale.at(both)
    return (
        svg.box(0.0, y, ahead, _BAR, "forward")
        + svg.box(ahead, y, end - ahead, _BAR, "backward")
        + svg.text(end + 6, y + _BAR - 1.0, number_format.span((both, both), "B"), "tick")
    )


def _said(run: RunData) -> str:
    total = sum(b.forward_bytes for b in run.boundaries), sum(b.backward_bytes for b in run.boundaries)
    return f"{run.label}: {number_format.whole(total[0])} forward, {number_format.whole(total[1])} backward"
