"""Where a value falls in a figure, and at which round numbers the figure is ruled."""

import dataclasses
import math
from collections.abc import Callable, Iterable


@dataclasses.dataclass(frozen=True)
class Scale:
    """Maps values from `low` to `high` to pixels from `start` to `end`.

    >>> Scale(1.0, 100.0, 0.0, 200.0, log=True).at(10.0)
    100.0
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """Place a value; one beyond the ends goes to the end."""
        bend = math.log if self.log else float
        low, high = bend(self.low), bend(self.high)
        share = (bend(min(max(value, self.low), self.high)) - low) / (high - low)
        return self.start + share * (self.end - self.start)


@dataclasses.dataclass(frozen=True)
class Axis:
    """A scale, its ticks with their words, and what it measures."""

    scale: Scale
    ticks: tuple[tuple[float, str], ...]
    title: str


def axis(scale: Scale, title: str, words: Callable[[float], str] = "{:g}".format) -> Axis:
    """Rule a scale at round numbers."""
    values = log_ticks(scale.low, scale.high) if scale.log else []
    if len(values) < 2:  # a narrow range may hold no round number of the logarithmic kind
        values = linear_ticks(scale.low, scale.high)
    return Axis(scale, tuple((value, words(value)) for value in values), title)


def octaves(values: Iterable[float], start: float, end: float, title: str) -> Axis:
    """Rule a logarithmic scale at powers of two, at most eight, around values from 2**-20 to 2**20.

    >>> [words for _, words in octaves([1.4, 16.0], 0.0, 100.0, "bits").ticks]
    ['1', '2', '4', '8', '16', '32']
    """
    known = [min(max(value, 2.0**-20), 2.0**20) for value in values]
    low, high = math.floor(math.log2(min(known)) - 0.2), math.ceil(math.log2(max(known)) + 0.2)
    powers = range(low, high + 1, -(-(high - low + 1) // 8))
    scale = Scale(2.0**low, 2.0**high, start, end, log=True)
    return Axis(scale, tuple((2.0**power, f"{2.0**power:g}") for power in powers), title)


def linear_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Choose round numbers from low to high, at most `count` steps apart.

    >>> linear_ticks(0.0, 600.0)
    [0.0, 200.0, 400.0, 600.0]
    """
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10, 20) if m * power >= rough)
    return [float(f"{i * step:.10g}") for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Choose round numbers from low to high, evenly enough on a logarithmic scale.

    >>> log_ticks(2.4, 8.1)
    [2.5, 3.0, 4.0, 5.0, 6.0, 8.0]
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    fine = [m * 10.0**p for p in powers for m in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8)]
    return [tick for tick in fine if low <= tick <= high]
