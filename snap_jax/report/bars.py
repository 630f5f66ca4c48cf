"""Bytes by boundary: one bar a run, forward strong, backward pale behind it."""

from collections.abc import Sequence

from snap_jax.report import number_format, svg
from snap_jax.report.axes import Scale
from snap_jax.report.run_data import Boundary, Run

_WIDTH, _TOP, _BAR, _GAP, _HEAD, _END = 410.0, 36.0, 11.0, 4.0, 20.0, 64.0


def bars(runs: Sequence[Run]) -> str:
    """Draw the bytes of one step at each boundary, forward and backward; "" if no run tells them apart."""
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
    return svg.picture(_WIDTH, top, "Bytes per step by boundary. " + "; ".join(_said(run) for run in runs), parts)


def _bars(found: list[tuple[int, Boundary]], scale: Scale, top: float) -> list[str]:
    return [svg.group(i, _bar(b, scale, top + n * (_BAR + _GAP))) for n, (i, b) in enumerate(found)]


def _bar(boundary: Boundary, scale: Scale, y: float) -> str:
    ahead = scale.at(boundary.forward_bytes)
    both = boundary.forward_bytes + boundary.backward_bytes
    end = scale.at(both)
    return (
        svg.box(0.0, y, ahead, _BAR, "forward")
        + svg.box(ahead, y, end - ahead, _BAR, "backward")
        + svg.text(end + 6, y + _BAR - 1.0, number_format.span((both, both), "B"), "tick")
    )


def _said(run: Run) -> str:
    total = sum(b.forward_bytes for b in run.boundaries), sum(b.backward_bytes for b in run.boundaries)
    return f"{run.label}: {number_format.whole(total[0])} forward, {number_format.whole(total[1])} backward"
