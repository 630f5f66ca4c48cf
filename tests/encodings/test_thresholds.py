"""Thresholds of every kind: odd divisors, next to zero, negative, too wide, and inputs that f32 cannot hold."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import snap_jax as snap
from snap_jax.wires.symbols import contiguous, from_contiguous, to_contiguous

LEARNED = {
    "ternary": snap.Ternary,
    "count": lambda t: snap.Count(3, t),
    "rate": lambda t: snap.Rate(3, t),
    "latency": lambda t: snap.Latency(5, t),
    "phase": lambda t: snap.Phase(3, t),
    "int": lambda t: snap.Int(4, t),
}


@pytest.mark.parametrize("time_steps", [3, 5, 7, 10])
def test_rate_fires_the_same_under_jit(time_steps):
    """Inputs next to every firing level: (k + 1/2) threshold / time_steps, one float up and down."""
    threshold = 1.929037
    levels = ((np.arange(time_steps) + 0.5) * threshold / time_steps).astype(np.float32)
    x = jnp.asarray(np.concatenate([levels, np.nextafter(levels, np.float32(9)), np.nextafter(levels, np.float32(0))]))
    rate = snap.Rate(time_steps, threshold)
    compiled = jax.jit(lambda x: rate.spikes(x))(x)
    np.testing.assert_array_equal(compiled, rate.spikes(x))
    argument = jax.jit(lambda x, t: snap.Rate(time_steps, t).spikes(x))(x, jnp.float32(threshold))
    np.testing.assert_array_equal(compiled, argument)


def test_rate_by_hand():
    """The input 0.96451843 is just below half of 1.929037: 3 x 0.96451843 / 1.929037 + 1/2 is just below 2."""
    rate = snap.Rate(3, 1.929037)
    assert jax.jit(rate.spikes)(jnp.float32([0.9, 0.97])).tolist() == rate.spikes(jnp.float32([0.9, 0.97])).tolist()
    assert rate.spikes(jnp.float32([0.9, 0.97])).tolist() == [1, 2]


def test_a_large_constant_threshold_fires_under_jit():
    """The inverse of 2^126 is the smallest normal number, that of 2^127 is not: scaled, it is."""
    x = jnp.full(3, 2.0**127, jnp.float32)
    assert jax.jit(lambda x: snap.Ternary(2.0**127).spikes(x))(x).tolist() == [1, 1, 1]


@pytest.mark.parametrize("name", LEARNED)
@pytest.mark.parametrize("threshold", [0.0, 1e-40, -1e-40])
def test_a_threshold_next_to_zero_keeps_the_law(name, threshold):
    """No NaN where x is 0; what is decoded is what quantize promised."""
    codec, x = snap.Codec(LEARNED[name](jnp.float32(threshold))), jnp.array([0.0, 1.0, -1.0, 1e-30])
    there = codec.decode(codec.encode(x), shape=x.shape, dtype=x.dtype)
    here = codec.quantize(x)
    assert np.isfinite(here).all()
    assert here[0] == 0
    np.testing.assert_array_equal(np.asarray(there), np.asarray(here))


def test_a_negative_threshold_counts_backwards():
    """x / -0.5 rounds to -s, and -s times -0.5 is s times 0.5."""
    x = jnp.array([0.7, -1.2, 9.0])
    np.testing.assert_array_equal(snap.Count(3, jnp.float32(-0.5)).quantize(x), snap.Count(3, 0.5).quantize(x))


@pytest.mark.parametrize("name", LEARNED)
def test_a_number_that_is_not_positive_is_refused(name):
    with pytest.raises(snap.UsageError, match=r"threshold=-?[0-9.]+ is not positive: use a threshold above 0"):
        LEARNED[name](0.0 if name == "int" else -2.0).spikes(jnp.ones(3))


@pytest.mark.parametrize(("threshold", "what"), [(np.inf, "a finite float32"), (1e39, "a"), (np.nan, "positive")])
def test_a_number_that_float32_does_not_hold_is_refused(threshold, what):
    with pytest.raises(snap.UsageError, match=rf"threshold={re.escape(str(threshold))} is not {what}"):
        snap.Count(3, threshold).quantize(jnp.ones(3))


def test_a_threshold_must_broadcast_against_the_input():
    codec = snap.Codec(snap.Ternary(jnp.ones(16)))
    for call in (codec.quantize, codec.encode):
        with pytest.raises(snap.UsageError, match=r"threshold of shape \(16,\) does not broadcast against .* \(8, 1\)"):
            call(jnp.ones((8, 1)))


@pytest.mark.parametrize(
    "encoding", [snap.Int(4), snap.Int(4, block=2), snap.TopK(0.5)], ids=["tensor", "block", "topk"]
)
def test_doubles_that_floats_cannot_hold_are_finite(encoding):
    """1e300 is finite, so nothing is NaN; it saturates."""
    with jax.enable_x64(True):
        y = encoding.quantize(jnp.asarray([1e300, -1e300, 0.0, 1.0], jnp.float64))
        assert np.isfinite(y).all()
        assert y[0] > 1e38


@pytest.mark.parametrize("symbols", [range(-1, 2, 2), range(-4, 5, 2), range(3, 13, 3), range(2, -3, -1), range(-1, 2)])
def test_symbols_of_any_step_are_numbered_one_apart(symbols):
    numbers = to_contiguous(jnp.asarray(symbols), symbols)
    assert numbers.tolist() == list(contiguous(symbols))
    assert from_contiguous(numbers, symbols).tolist() == list(symbols)
    if 0 in symbols:
        assert numbers[symbols.index(0)] == 0  # silence stays silence


@pytest.mark.parametrize("wire", [snap.Bitmap(), snap.Events(0.1), snap.Ladder(), snap.Rans()], ids=repr)
def test_too_many_spikes_are_refused_by_name(wire):
    with pytest.raises(snap.UsageError, match=r"2147483648 spikes .* past 2\^31: split the tensor"):
        wire.sizes(2**31, range(-1, 2))


def test_lowered_limits():
    assert snap.Count(7, 0.5).lowered(3) == snap.Count(3, 0.5)
    with pytest.raises(snap.UsageError, match=r"lowered: limit=9 does not lower Count\(limit=7.*: use 1 to 7"):
        snap.Count(7).lowered(9)
    with pytest.raises(snap.UsageError, match=r"lowered: Latency has no limit to lower to 2: use Count"):
        snap.Latency(4).lowered(2)


@pytest.mark.parametrize("code", [snap.Count(2**24 + 1), snap.Count(2**29 - 1), snap.Rate(2**25)], ids=repr)
def test_counts_that_float32_does_not_hold_are_refused(code):
    for run in (code.spikes, code.quantize, snap.Codec(code).encode):
        with pytest.raises(snap.UsageError, match=r"past 2\^24, where float32 leaves out integers: use a lower limit"):
            run(jnp.ones(3))


def test_the_largest_counts_are_symbols():
    """Every count up to 2^24 is a float32; above 2^23 rounding leaves out some."""
    codec, x = snap.Codec(snap.Count(2**24)), jnp.array([2.0**23 - 1, -(2.0**30)])
    assert codec.spikes(x).tolist() == [2**23 - 1, -(2**24)]
    assert codec.decode(codec.encode(x), shape=(2,), dtype=x.dtype).tolist() == [2**23 - 1, -(2**24)]


@pytest.mark.parametrize("fraction", [1e-9, 1e-7, 0.1, 0.125, 0.126])
def test_top_k_keeps_at_least_one(fraction):
    kept = int((snap.TopK(fraction).quantize(jnp.arange(1.0, 9.0)) != 0).sum())
    assert kept == max(1, int(np.ceil(8 * fraction)))
