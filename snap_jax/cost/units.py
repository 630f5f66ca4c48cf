"""Numbers with a lower and an upper bound, and results that carry their unit.

Law: bounds stay ordered, and joules never meet seconds: adding two quantities of different kinds raises.
"""

import dataclasses
import math
from collections.abc import Iterable, Iterator
from typing import TypeVar, final

from snap_jax.cost.errors import CostError

# Spelled out: the run-time type checks of the tests do not take an int for a float.
Number = int | float

# Not `Self`: the run-time type checks of the tests cannot read it in a decorated method.
Kind = TypeVar("Kind", bound="Interval")

_PREFIXES = ((1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"), (1e-12, "p"), (1e-15, "f"))


@dataclasses.dataclass(frozen=True)
class Interval:
    """Abstract: a closed interval `low <= value <= high` of finite, non-negative numbers."""

    low: Number
    high: Number

    def __post_init__(self) -> None:
        if not (0 <= self.low <= self.high < math.inf):
            raise CostError(f"{type(self).__name__}(low={self.low}, high={self.high}): want 0 <= low <= high < inf")

    @classmethod
    def exactly(cls: type[Kind], value: Number) -> Kind:
        """Make the interval that holds one value."""
        return cls(value, value)

    @classmethod
    def total(cls: type[Kind], parts: Iterable[Kind]) -> Kind:
        """Sum of the parts, bound by bound; zero when there are none."""
        low, high = [], []
        for part in parts:
            _same_kind(cls, part)
            low.append(part.low)
            high.append(part.high)
        return cls(math.fsum(low), math.fsum(high))

    def __add__(self: Kind, other: Kind) -> Kind:
        _same_kind(type(self), other)
        return type(self)(self.low + other.low, self.high + other.high)

    def __mul__(self: Kind, times: Number) -> Kind:
        return type(self)(self.low * times, self.high * times)

    def __iter__(self) -> Iterator[Number]:
        yield self.low
        yield self.high


def _same_kind(kind: type[Interval], other: object) -> None:
    if type(other) is not kind:
        raise CostError(f"cannot add {type(other).__name__} to {kind.__name__}: different units; keep them apart")


@final
class Range(Interval):
    """Bounds of a preset's number; the unit is in the name of the field that holds it.

    >>> Range(0.5, 0.6) * 8
    Range(low=4.0, high=4.8)
    """


@final
class Joules(Interval):
    """An energy.

    >>> low, high = Joules(1e-9, 2e-9) + Joules.exactly(1e-9)
    >>> Joules(1e-9, 2e-9) + Seconds(1.0, 2.0)
    Traceback (most recent call last):
    snap_jax.cost.errors.CostError: cannot add Seconds to Joules: different units; keep them apart
    """

    def __str__(self) -> str:
        return _bounds(self, "J")


@final
class Seconds(Interval):
    """A time.

    >>> print(Seconds(1.5e-6, 2e-6))
    1.5 – 2 µs
    """

    def __str__(self) -> str:
        return _bounds(self, "s")


def _bounds(value: Interval, unit: str) -> str:
    low, high = si(value.low, unit), si(value.high, unit)
    if low == high:
        return high
    number, suffix = low.rsplit(" ", 1)
    return f"{number} – {high}" if high.endswith(" " + suffix) else f"{low} – {high}"


def si(value: Number, unit: str) -> str:
    """Three significant digits with an SI prefix.

    >>> si(1.23456e-5, "J"), si(0, "s"), si(12.0, "s")
    ('12.3 µJ', '0 s', '12 s')
    """
    if value == 0:
        return f"0 {unit}"
    scale, prefix = next((p for p in _PREFIXES if abs(value) >= p[0]), _PREFIXES[-1])
    return f"{value / scale:.3g} {prefix}{unit}"
