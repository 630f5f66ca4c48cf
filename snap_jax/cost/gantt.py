"""A timeline as a chart: one row per device and link, one box per event."""

from html import escape

from snap_jax.cost.timeline import Doing, Timeline, lanes
from snap_jax.cost.units import si

COLORS: dict[Doing, str] = {
    "compute": "#4c78a8",
    "encode": "#f58518",
    "decode": "#e45756",
    "send": "#72b7b2",
    "link": "#54a24b",
}
_WIDTH, _LEFT, _ROW = 900.0, 70.0, 20.0


def gantt(made: Timeline) -> str:
    """Return an SVG image: time from left to right, with what each box is as a tooltip."""
    rows = list(lanes(made))
    scale = (_WIDTH - _LEFT - 10) / made.makespan if made.makespan else 0.0
    parts = []
    for k, (name, events) in enumerate(rows):
        y = _ROW * k + 4
        parts.append(f'<text x="2" y="{y + 12:g}">{escape(name)}</text>')
        for e in events:
            title = f"{e.name}: {e.doing}, {si(e.begin, 's')} to {si(e.end, 's')}"
            parts.append(
                f'<rect x="{_LEFT + e.begin * scale:.2f}" y="{y:g}" width="{(e.end - e.begin) * scale:.2f}" '
                f'height="{_ROW - 5:g}" fill="{COLORS[e.doing]}"><title>{escape(title)}</title></rect>'
            )
    y = _ROW * len(rows) + 18
    legend = "   ".join(f'<tspan fill="{color}">{doing}</tspan>' for doing, color in COLORS.items())
    parts.append(f'<text x="{_LEFT:g}" y="{y:g}">0 to {si(made.makespan, "s")}: {legend}</text>')
    size = f'viewBox="0 0 {_WIDTH:g} {y + 8:g}" font-family="sans-serif" font-size="11"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size}>\n' + "\n".join(parts) + "\n</svg>\n"
