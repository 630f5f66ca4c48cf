"""Pieces of figures. Colours are CSS classes, so that one figure serves light and dark pages.

Figures are about 400 wide and their words 12.5 high, so a phone shows them at nearly their own size.
"""

from collections.abc import Sequence
from html import escape

from snap_jax.report.axes import Axis

_COLOURS = 7  # the classes r0 .. r6 of style.css
_SHAPES = ("circle", "square", "diamond", "up", "down")


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    """Draw words; `kind` is a CSS class."""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """Draw a straight line."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def polyline(points: Sequence[tuple[float, float]], kind: str) -> str:
    """Draw a line through points."""
    return f'<polyline class="{kind}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>'


def box(x: float, y: float, width: float, height: float, kind: str) -> str:
    """Fill a rectangle."""
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" class="{kind}"/>'


def colour(index: int) -> str:
    """Name the CSS class of a run's colour."""
    return f"r{index % _COLOURS}"


def group(index: int, *parts: str) -> str:
    """Draw parts in the colour of a run."""
    return f'<g class="{colour(index)}">{"".join(parts)}</g>'


def marker(index: int, x: float, y: float, size: float = 5.0, kind: str = "solid") -> str:
    """Draw the sign of a run: colour and shape both tell it, so that neither has to."""
    shape = _SHAPES[index % len(_SHAPES)]
    if shape == "circle":
        return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{size:.1f}"/>'
    corners = {
        "square": [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
        "diamond": [(0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)],
        "up": [(0, -1.2), (1.15, 0.9), (-1.15, 0.9)],
        "down": [(0, 1.2), (1.15, -0.9), (-1.15, -0.9)],
    }[shape]
    points = " ".join(f"{x + size * dx:.1f},{y + size * dy:.1f}" for dx, dy in corners)
    return f'<polygon class="{kind}" points="{points}"/>'


def frame(x: Axis, y: Axis) -> str:
    """Draw a quiet grid, its numbers, and what they measure: y above the figure, x below it."""
    left, right, top, bottom = x.scale.start, x.scale.end, y.scale.end, y.scale.start
    rules = [line(left, y.scale.at(v), right, y.scale.at(v), "grid") for v, _ in y.ticks]
    sides = [text(left - 8, y.scale.at(v) + 4, words, "tick", "end") for v, words in y.ticks]
    feet = [text(x.scale.at(v), bottom + 18, words, "tick", "middle") for v, words in x.ticks]
    base = line(left, bottom, right, bottom, "axis")
    titles = text(0.0, top - 16, y.title, "title") + text(right, bottom + 37, x.title, "title", "end")
    return "".join([*rules, *sides, *feet, base, titles])


def reference(x: Axis, y: Axis, value: float, words: str, anchor: str = "end") -> str:
    """Draw a dashed line across at a value of y, named at one end; beyond the figure, at its edge."""
    at = y.scale.at(value)
    if value < y.scale.low:
        words = f"{words}, {value:.3g}: below ↓"
    if value > y.scale.high:
        words = f"{words}, {value:.3g}: above ↑"
    dashes = line(x.scale.start, at, x.scale.end, at, "reference")
    return dashes + text(x.scale.start if anchor == "start" else x.scale.end, at - 5, words, "tick", anchor)


def picture(width: float, height: float, label: str, parts: Sequence[str], least: float = 0.0) -> str:
    """Wrap parts into a picture as wide as its place, `least` pixels at least; `label` is read aloud."""
    heard = "".join(sign if sign.isprintable() else " " for sign in label)
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(heard)}" '
        f'style="min-width:{least:g}px">{"".join(parts)}</svg>'
    )
