"""Numbers with a lower and an upper bound, results that carry their unit, and the error of the cost model.

Bounds stay ordered. Quantities of different units cannot be added: it raises.
"""

import dataclasses
import math
from collections.abc import Iterable, Iterator
from typing import TypeVar, final

from snap_jax.errors import UsageError
from snap_jax.traffic.operations import Number as Number

# Not `Self`: the run-time type checks of the tests cannot read it in a decorated method.
AnyInterval = TypeVar("AnyInterval", bound="Interval")


class CostError(UsageError):
    """A price that cannot be given; the message names what is missing or does not fit, and the fix.

    >>> raise CostError("System has no axis 'pod'; it has ('device',)")
    Traceback (most recent call last):
    snap_jax.cost.units.CostError: System has no axis 'pod'; it has ('device',)
    """


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
    def exactly(cls: type[AnyInterval], value: Number) -> AnyInterval:
        """Return the interval that holds one value."""
        return cls(value, value)

    @classmethod
    def total(cls: type[AnyInterval], parts: Iterable[AnyInterval]) -> AnyInterval:
        """Return the sum of the parts, bound by bound; zero if there are none."""
        low, high = [], []
        for part in parts:
            _same_kind(cls, part)
            low.append(part.low)
            high.append(part.high)
        return cls(math.fsum(low), math.fsum(high))

    def __add__(self: AnyInterval, other: AnyInterval) -> AnyInterval:
        _same_kind(type(self), other)
        return type(self)(self.low + other.low, self.high + other.high)

    def __mul__(self: AnyInterval, times: Number) -> AnyInterval:
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
    snap_jax.cost.units.CostError: cannot add Seconds to Joules: different units; keep them apart
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


def ratio(base: Joules | Seconds, other: Joules | Seconds) -> Range:
    """Return `base` divided by `other`, best figures by best and worst by worst; CostError when `other` is zero."""
    if other.low == 0:
        raise CostError("ratio: the other run costs nothing, so there is no ratio")
    return Range(*sorted((base.low / other.low, base.high / other.high)))


def share(part: Joules | Seconds, rest: Joules | Seconds) -> Range:
    """Return part / (part + rest): the low end with a small part and a large rest, the high end the other way."""
    if part.high + rest.high == 0:
        raise CostError("link share: nothing was moved and nothing was computed")
    low = part.low / (part.low + rest.high) if part.low else 0.0
    high = part.high / (part.high + rest.low) if part.high else 0.0
    return Range(low, high)


def span(value: Range) -> str:
    """Format bounds with three digits.

    >>> span(Range(1.0, 1.25)), span(Range(2.0, 2.0))
    ('1–1.25', '2')
    """
    low, high = f"{value.low:.3g}", f"{value.high:.3g}"
    return high if low == high else f"{low}–{high}"


def si(value: Number, unit: str) -> str:
    """Format a value with three significant digits and an SI prefix.

    >>> si(1.23456e-5, "J"), si(0, "s"), si(12.0, "s")
    ('12.3 µJ', '0 s', '12 s')
    """
    if value == 0:
        return f"0 {unit}"
    scale, prefix = next((p for p in _PREFIXES if abs(value) >= p[0]), _PREFIXES[-1])
    return f"{value / scale:.3g} {prefix}{unit}"
