"""Scales and ticks for any range."""

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snap_jax.report.figures import thinned
from snap_jax.report.svg import Scale, axis, linear_ticks, octaves

FINITE = st.floats(-1e6, 1e6)


@settings(deadline=None)
@given(FINITE, st.floats(1e-3, 1e6), st.booleans())
def test_a_scale_maps_its_ends_and_keeps_order(low, width, log):
    low = abs(low) + 0.01 if log else low
    scale = Scale(low, low + width, 200.0, 20.0, log=log)
    assert scale.at(low) == pytest.approx(200)
    assert scale.at(low + width) == pytest.approx(20)
    assert 20 < scale.at(low + width / 2) < 200
    assert scale.at(low - 1e9) == pytest.approx(200)
    assert scale.at(low + width + 1e9) == pytest.approx(20)


@settings(deadline=None)
@given(FINITE, st.floats(1e-3, 1e6))
def test_ticks_lie_within_and_are_few_and_even(low, width):
    ticks = linear_ticks(low, low + width)
    room = 1e-6 * (abs(low) + width)
    assert 2 <= len(ticks) <= 6
    assert all(low - room <= tick <= low + width + room for tick in ticks)
    steps = [b - a for a, b in pairwise(ticks)]
    assert max(steps) - min(steps) <= room


@settings(deadline=None)
@given(st.floats(0.01, 1e3), st.floats(1.01, 1e3))
def test_a_logarithmic_axis_always_has_two_ticks(low, ratio):
    ruled = axis(Scale(low, low * ratio, 0.0, 1.0, log=True), "")
    assert len(ruled.ticks) >= 2
    assert all(0 <= ruled.scale.at(tick) <= 1 for tick, _ in ruled.ticks)


@settings(deadline=None)
@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=5))
def test_octaves_hold_all_values_strictly_between_their_ends(values):
    ruled = octaves(values, 0.0, 1.0, "")
    assert all(0 < ruled.scale.at(value) < 1 for value in values)
    assert 2 <= len(ruled.ticks) <= 8
    assert all(math.log2(tick).is_integer() for tick, _ in ruled.ticks)


@settings(deadline=None)
@given(st.lists(FINITE, min_size=1, max_size=400), st.integers(1, 150))
def test_thinning_averages(values, most):
    whole = [(float(i), value) for i, value in enumerate(values)]
    points = thinned(whole, most)
    size = math.ceil(len(values) / most)
    assert len(points) == math.ceil(len(values) / size) <= most
    assert points[0][1] == pytest.approx(sum(values[:size]) / size, abs=1e-6)
    assert thinned(whole, len(values)) == whole
