"""Bounds stay ordered, and quantities of different units cannot be added."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snap_jax.cost import CostError, Joules, Range, Seconds
from snap_jax.cost.units import Interval, si

KINDS = (Range, Joules, Seconds)
numbers = st.floats(0, 1e12, allow_nan=False)


@st.composite
def intervals(draw, kind):
    return kind(*sorted((draw(numbers), draw(numbers))))


@settings(deadline=None)
@given(intervals(Joules), intervals(Joules), st.floats(0, 1e6))
def test_bounds_stay_ordered(a, b, times):
    for result in (a + b, a * times, Joules.total((a, b, a))):
        assert result.low <= result.high


@settings(deadline=None)
@given(intervals(Seconds), intervals(Seconds))
def test_sum_is_bound_by_bound(a, b):
    low, high = a + b
    assert (low, high) == (a.low + b.low, a.high + b.high)


@pytest.mark.parametrize("left", KINDS)
@pytest.mark.parametrize("right", KINDS)
def test_units_cannot_be_mixed(left, right):
    a, b = left(1.0, 2.0), right(1.0, 2.0)
    if left is right:
        assert a + b == left(2.0, 4.0)
        return
    with pytest.raises(CostError, match=f"cannot add {right.__name__} to {left.__name__}"):
        a + b
    with pytest.raises(CostError, match="different units"):
        left.total((a, b))


@pytest.mark.parametrize(("low", "high"), [(2.0, 1.0), (-1.0, 1.0), (math.nan, 1.0), (0.0, math.inf), (0.0, math.nan)])
@pytest.mark.parametrize("kind", KINDS)
def test_impossible_bounds_are_refused(kind, low, high):
    with pytest.raises(CostError, match="want 0 <= low <= high < inf"):
        kind(low, high)


def test_nothing_sums_to_zero():
    assert Joules.total(()) == Joules(0.0, 0.0)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 s"),
        (1.0, "1 s"),
        (0.5, "500 ms"),
        (1.5e-6, "1.5 µs"),
        (2e-9, "2 ns"),
        (3e-12, "3 ps"),
        (4e-18, "0.004 fs"),
    ],
)
def test_si_prefixes(value, text):
    assert si(value, "s") == text


def test_one_prefix_is_written_once():
    assert str(Joules(1e-6, 2e-6)) == "1 – 2 µJ"
    assert str(Joules(1e-9, 2e-6)) == "1 nJ – 2 µJ"
    assert str(Seconds(1e-6, 1e-6)) == "1 µs"


def test_every_quantity_is_final_and_the_interval_is_not_one_of_them():
    assert all(Interval in kind.__mro__ and not kind.__subclasses__() for kind in KINDS)
