"""Digits: wide ranges of symbols, exactly, in the bytes of their digits or of Packed."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snap_jax.wires import Packed, Rans, pack, spike_dtype, unpack
from snap_jax.wires.wide_symbols import DIGIT, Digits, from_digits, places, to_digits

WIRE = Digits(Rans(ratio=2.0))
WIDE = range(-1024, 1025)


@given(st.integers(-(2**20), 2**20), st.integers(0, 2**20), st.data())
@settings(max_examples=50)
def test_digits_are_the_number(start, length, data):
    symbols = range(start, start + length + 1)
    spikes = np.array([*data.draw(st.lists(st.sampled_from(symbols), max_size=5)), symbols[0], symbols[-1]])
    spikes = jnp.asarray(spikes, spike_dtype(symbols))
    digits = to_digits(spikes, symbols)
    assert digits.shape == (spikes.size, places(symbols))
    weighted = [sum(int(d) * len(DIGIT) ** i for i, d in enumerate(row)) for row in digits]
    assert weighted == spikes.tolist() == from_digits(digits, symbols).tolist()


@pytest.mark.parametrize(("symbols", "width"), [(WIDE, 10), (WIDE, 300), (WIDE, 1024), (range(3000), 40)])
def test_exact_and_never_above_packed(symbols, width):
    """Of 4096 whole numbers up to `width`, the payload is that of the digits, or Packed where all are as likely."""
    spikes = (symbols[0] + symbols[-1]) // 2 + np.random.default_rng(0).integers(-width, width + 1, 4096)
    spikes = jnp.asarray(spikes, spike_dtype(symbols))
    payload = pack(WIRE, spikes, symbols)
    np.testing.assert_array_equal(unpack(WIRE, payload, spikes.shape, symbols), spikes)
    (most,) = Packed().sizes(4096, symbols)
    assert WIRE.sizes(4096, symbols)[-1] == most
    assert (payload.size < most) == (width < 300)
