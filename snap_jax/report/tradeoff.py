"""A figure of quality against bits per element."""

import math
from collections.abc import Sequence

from snap_jax.report import number_format, svg
from snap_jax.report.reference_run import CLOSE, CLOSE_POINTS, densest
from snap_jax.report.run_data import RunData
from snap_jax.report.svg import Axis, Scale, axis, octaves
from snap_jax.report.uncertainty import half_width, measured

_LEFT, _RIGHT, _TOP, _BOTTOM, _WIDTH, _HEIGHT = 48.0, 392.0, 36.0, 232.0, 410.0, 274.0
_LETTER = 7.2  # width of one, on average

Box = tuple[float, float, float]  # center, baseline, half width of a label


def tradeoff(runs: Sequence[RunData]) -> str:
    """Return each run at its bits per element and quality, hollow at its entropy; "" if fewer than two have both."""
    reference = densest(runs)
    at = {i: run for i, run in enumerate(runs) if run.metric == reference.metric and _placed(run)}
    if len(at) < 2:
        return ""
    x, y = _x(list(at.values())), _y(list(at.values()), reference)
    points = [svg.group(i, _point(i, run, x, y)) for i, run in at.items()]
    said = [f"{r.label}: {number_format.short(r.bits or 0)} bits, {measured(r)}" for r in at.values()]
    label = f"{number_format.metric_words(reference.metric)} against bits per element. {'; '.join(said)}"
    back = [*_band(reference, len(runs), x, y), svg.frame(x, y), *_gzip(reference, x, y)]
    return svg.figure(_WIDTH, _HEIGHT, label, [*back, *points, *_labels(list(at.values()), x, y)])


def _placed(run: RunData) -> bool:
    return _positive(run.bits) and math.isfinite(run.value)


def _positive(value: float | None) -> bool:
    return value is not None and math.isfinite(value) and value > 0


def _close(reference: RunData) -> float | None:
    """Return the worst quality that counts as close to the reference; None if the metric has no such limit."""
    if reference.metric == number_format.ACCURACY:
        return reference.value - CLOSE_POINTS
    return CLOSE * reference.value if _in_bits(reference) else None


def _in_bits(run: RunData) -> bool:
    return run.metric == "bits_per_byte"


def _x(runs: list[RunData]) -> Axis:
    return octaves([bits for run in runs for bits in _signs(run)], _LEFT, _RIGHT, "bits per element")


def _y(runs: list[RunData], reference: RunData) -> Axis:
    """Return an axis that shows the differences between runs, and the gzip line if it is near enough."""
    close = _close(reference)
    values = [run.value + side * _off(run) for run in runs for side in (-1, 1)] + ([] if close is None else [close])
    values = [value for value in values if math.isfinite(value)]
    room = (max(values) - min(values)) or abs(values[0]) or 1.0
    low, high = min(values) - 0.4 * room, max(values) + 0.4 * room
    if _in_bits(reference) and reference.gzip and low - room < reference.gzip < high + room:
        low, high = min(low, reference.gzip - 0.1 * room), max(high, reference.gzip + 0.1 * room)
    return axis(Scale(low, high, _BOTTOM, _TOP), f"held-out {number_format.metric_words(reference.metric)}")


def _off(run: RunData) -> float:
    off = half_width(run)
    return 0.0 if off is None or not math.isfinite(off) else off


def _band(reference: RunData, count: int, x: Axis, y: Axis) -> list[str]:
    close = _close(reference)
    if count < 2 or close is None or not math.isfinite(reference.value):
        return []
    bottom, top = sorted((y.scale.at(close), y.scale.at(reference.value)), reverse=True)
    return [svg.box(_LEFT, top, _RIGHT - _LEFT, bottom - top, "band")]


def _gzip(reference: RunData, x: Axis, y: Axis) -> list[str]:
    if not _in_bits(reference) or reference.gzip is None or not math.isfinite(reference.gzip):
        return []
    if not y.scale.low <= reference.gzip <= y.scale.high:
        return []  # far away; the notes have the number
    return [svg.reference(x, y, reference.gzip, "gzip -9")]


def _point(index: int, run: RunData, x: Axis, y: Axis) -> str:
    right, height = x.scale.at(run.bits or 0.0), y.scale.at(run.value)
    sign = _error_bar(right, run, y) + svg.marker(index, right, height)
    if not _positive(run.entropy):
        return sign
    left = x.scale.at(run.entropy or 0.0)
    return svg.line(left, height, right, height, "thin") + svg.marker(index, left, height, 4.0, "hollow") + sign


def _error_bar(x: float, run: RunData, y: Axis) -> str:
    ends = [y.scale.at(run.value + side * _off(run)) for side in (-1, 1)]
    if abs(ends[0] - ends[1]) < 2:
        return ""
    return svg.line(x, ends[0], x, ends[1], "error") + "".join(svg.line(x - 4, at, x + 4, at, "error") for at in ends)


def _labels(runs: list[RunData], x: Axis, y: Axis) -> list[str]:
    """Return the name of each point above or below it, clear of points and of earlier names."""
    taken: list[Box] = [(x.scale.at(bits), y.scale.at(run.value) + 4, 6.0) for run in runs for bits in _signs(run)]
    taken += [box for run in runs for box in _along_the_bar(run, x, y)]
    drawn = []
    for run in runs:
        half = len(run.label) * _LETTER / 2
        center = min(max(x.scale.at(run.bits or 0.0), half), _WIDTH - half)
        tries = [(center, y.scale.at(run.value) + dy, half) for dy in (-11, 20, -25, 34, -39, 48, -53, 62)]
        right = x.scale.at(run.bits or 0.0) + half + 12
        tries += [(right, y.scale.at(run.value) + 4, half)] if right + half < _WIDTH else []
        free = (box for box in tries if not any(_meet(box, other) for other in taken))
        taken.append(next(free, tries[0]))
        drawn.append(svg.text(*taken[-1][:2], run.label, "name", "middle"))
    return drawn


def _signs(run: RunData) -> list[float]:
    return [bits for bits in (run.bits, run.entropy) if bits and _positive(bits)]


def _along_the_bar(run: RunData, x: Axis, y: Axis) -> list[Box]:
    """Return places on the error bar of a run, half a line apart."""
    high, low = y.scale.at(run.value + _off(run)), y.scale.at(run.value - _off(run))
    steps = math.ceil((low - high) / 7)
    return [(x.scale.at(run.bits or 0.0), high + 7 * i + 4, 4.0) for i in range(steps + 1)] if steps else []


def _meet(one: Box, other: Box) -> bool:
    return abs(one[0] - other[0]) < one[2] + other[2] + 4 and abs(one[1] - other[1]) < 14
