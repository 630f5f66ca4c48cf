"""Parts of SVG figures: scales, axes, lines, texts, markers.

Colors are CSS classes, so that a figure works on light and on dark pages. Figures are about 400 wide and their text is
12.5 high, so that a phone shows them almost at their own size.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from html import escape

_COLORS = 7  # the classes r0 .. r6 of style.css
_SHAPES = ("circle", "square", "diamond", "up", "down")


@dataclasses.dataclass(frozen=True)
class Scale:
    """A map from values between `low` and `high` to pixels between `start` and `end`.

    >>> Scale(1.0, 100.0, 0.0, 200.0, log=True).at(10.0)
    100.0
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """Return the pixel of a value; values outside go to the nearest end."""
        warp = math.log if self.log else float
        low, high = warp(self.low), warp(self.high)
        share = (warp(min(max(value, self.low), self.high)) - low) / (high - low)
        return self.start + share * (self.end - self.start)


@dataclasses.dataclass(frozen=True)
class Axis:
    """A scale, its ticks with their labels, and its title."""

    scale: Scale
    ticks: tuple[tuple[float, str], ...]
    title: str


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    """Return a text; `kind` is a CSS class."""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """Return a straight line."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def polyline(points: Sequence[tuple[float, float]], kind: str) -> str:
    """Return a line through points."""
    return f'<polyline class="{kind}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>'


def polygon(points: Sequence[tuple[float, float]], kind: str) -> str:
    """Return a filled area."""
    return f'<polygon class="{kind}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>'


def box(x: float, y: float, width: float, height: float, kind: str) -> str:
    """Return a filled rectangle."""
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" class="{kind}"/>'


def color(index: int) -> str:
    """Return the CSS class for the color of a run."""
    return f"r{index % _COLORS}"


def group(index: int, *parts: str) -> str:
    """Return parts in the color of a run."""
    return f'<g class="{color(index)}">{"".join(parts)}</g>'


def marker(index: int, x: float, y: float, size: float = 5.0, kind: str = "solid") -> str:
    """Return the marker of a run; its color and its shape both identify the run."""
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
    """Return grid lines, their numbers and the titles of the axes: y above the figure, x below it."""
    left, right, top, bottom = x.scale.start, x.scale.end, y.scale.end, y.scale.start
    rules = [line(left, y.scale.at(v), right, y.scale.at(v), "grid") for v, _ in y.ticks]
    sides = [text(left - 8, y.scale.at(v) + 4, words, "tick", "end") for v, words in y.ticks]
    feet = [text(x.scale.at(v), bottom + 18, words, "tick", "middle") for v, words in x.ticks]
    base = line(left, bottom, right, bottom, "axis")
    titles = text(0.0, top - 16, y.title, "title") + text(right, bottom + 37, x.title, "title", "end")
    return "".join([*rules, *sides, *feet, base, titles])


def reference(x: Axis, y: Axis, value: float, words: str, anchor: str = "end") -> str:
    """Return a dashed line at a value of y, with its name at one end."""
    at = y.scale.at(value)
    dashed = line(x.scale.start, at, x.scale.end, at, "reference")
    return dashed + text(x.scale.start if anchor == "start" else x.scale.end, at - 5, words, "tick", anchor)


def figure(width: float, height: float, label: str, parts: Sequence[str], least: float = 0.0) -> str:
    """Return an SVG figure as wide as its container; screen readers read `label`.

    With `least` it is at least so many pixels wide, and at most as wide as it was drawn.
    """
    most = f";max-width:{width:g}px" if least else ""
    printable = "".join(sign if sign.isprintable() else " " for sign in label)
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(printable)}" '
        f'style="min-width:{least:g}px{most}">{"".join(parts)}</svg>'
    )


def axis(scale: Scale, title: str, words: Callable[[float], str] = "{:g}".format) -> Axis:
    """Return an axis with ticks at round numbers."""
    values = log_ticks(scale.low, scale.high) if scale.log else []
    if len(values) < 2:  # a narrow range may contain no round number of the logarithmic kind
        values = linear_ticks(scale.low, scale.high)
    return Axis(scale, tuple((value, words(value)) for value in values), title)


def octaves(values: Iterable[float], start: float, end: float, title: str) -> Axis:
    """Return a logarithmic axis with at most eight ticks at powers of two, around values from 2**-20 to 2**20.

    >>> [words for _, words in octaves([1.4, 16.0], 0.0, 100.0, "bits").ticks]
    ['1', '2', '4', '8', '16', '32']
    """
    known = [min(max(value, 2.0**-20), 2.0**20) for value in values]
    low, high = math.floor(math.log2(min(known)) - 0.2), math.ceil(math.log2(max(known)) + 0.2)
    powers = range(low, high + 1, -(-(high - low + 1) // 8))
    scale = Scale(2.0**low, 2.0**high, start, end, log=True)
    return Axis(scale, tuple((2.0**power, f"{2.0**power:g}") for power in powers), title)


def linear_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return round numbers from low to high, at most `count` steps apart.

    >>> linear_ticks(0.0, 600.0)
    [0.0, 200.0, 400.0, 600.0]
    """
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10, 20) if m * power >= rough)
    return [float(f"{i * step:.10g}") for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return round numbers from low to high, spread about evenly on a logarithmic scale.

    >>> log_ticks(2.4, 8.1)
    [2.5, 3.0, 4.0, 5.0, 6.0, 8.0]
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    fine = [m * 10.0**p for p in powers for m in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8)]
    return [tick for tick in fine if low <= tick <= high]
