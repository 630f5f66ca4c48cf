"""RowRans: exact whatever the spread of rows and whatever the tables, and close to the entropy of rows that differ."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snap_jax import Packed, Rans, RowRans
from snap_jax.wires import pack, row_rans, unpack

SYMBOLS = range(-31, 32)


def spikes(widths, channels=64, seed=0):
    """Rows of bell curves with these widths, in channels of widths 1/2 to 2."""
    own = np.geomspace(0.5, 2, channels) * np.asarray(widths)[:, None]
    return jnp.asarray(np.clip(np.round(np.random.default_rng(seed).normal(size=own.shape) * own), -31, 31), jnp.int8)


def bits(wire, s):
    return 8 * pack(wire, s, SYMBOLS).size / s.size


def entropy_of_bell(width):
    """Bits of a rounded normal number, from its probabilities."""
    from scipy.stats import norm

    edges = (np.arange(-31, 33) - 0.5) / width
    p = np.maximum(np.diff(norm.cdf(edges)), 1e-30)
    return -np.sum(p * np.log2(p))


WIDTHS = np.tile(np.geomspace(0.5, 4, 32), 32)
FITTED = RowRans(ratio=1.02, **row_rans.fit([spikes(WIDTHS)], SYMBOLS))


def test_close_to_the_entropy_of_rows_that_differ():
    """A byte per row, 24 bits per lane, sizes 2 % apart, a table's width off by 2^(1/8) at most, 1/4096 per symbol."""
    own = np.geomspace(0.5, 2, 64) * WIDTHS[:, None]
    entropy = np.mean([entropy_of_bell(width) for width in own.reshape(-1)[::37]])
    s = spikes(WIDTHS, seed=1)
    assert entropy < bits(FITTED, s) < 1.02 * (entropy + 8 / 64 + 24 / 512 + 63 / 4096 * 1.5 + 0.02)
    assert bits(FITTED, s) < bits(Rans(ratio=1.02), s) - 0.15


@settings(max_examples=20, deadline=None)
@given(widths=st.lists(st.sampled_from([0.0, 0.1, 1.0, 30.0]), min_size=32, max_size=32), seed=st.integers(0, 99))
def test_exact_for_rows_that_no_table_was_fitted_to(widths, seed):
    s = spikes(widths, seed=seed)
    np.testing.assert_array_equal(unpack(FITTED, pack(FITTED, s, SYMBOLS), s.shape, SYMBOLS), s)


@pytest.mark.parametrize("shape", [(2, 16, 64), (33, 64), (64,), (5, 7), (0, 64), (128, 32)])
def test_other_shapes_are_exact_too(shape):
    s = jnp.asarray(np.random.default_rng(0).integers(-3, 4, shape), jnp.int8)
    np.testing.assert_array_equal(unpack(FITTED, pack(FITTED, s, SYMBOLS), shape, SYMBOLS), s)


def test_what_no_table_suits_is_packed():
    s = jnp.asarray(np.random.default_rng(0).integers(-31, 32, (128, 64)), jnp.int8)
    np.testing.assert_array_equal(pack(FITTED, s, SYMBOLS), pack(Packed(), s, SYMBOLS))


def test_each_tensor_takes_the_list_that_was_fitted_to_it():
    """Of two tensors whose channels lie in opposite orders: with the list of one alone, the other takes more."""
    one, other = spikes(WIDTHS), spikes(WIDTHS, seed=1)[:, ::-1]
    both = RowRans(ratio=1.02, **row_rans.fit([one, other], SYMBOLS))
    assert len(both.lists) == 2
    assert bits(both, other) < bits(FITTED, other) - 0.1
    assert bits(both, one) < bits(FITTED, one) + 0.05


def test_traced_and_eager_payloads_are_equal():
    s = spikes(WIDTHS[:64])
    eager = pack(FITTED, s, SYMBOLS)
    rung, traced = jax.jit(lambda s: (FITTED.rung(s, SYMBOLS), FITTED.write(s, SYMBOLS, FITTED.rung(s, SYMBOLS))))(s)
    assert FITTED.sizes(s.size, SYMBOLS)[int(rung)] == eager.size
    np.testing.assert_array_equal(traced[: eager.size], eager)
