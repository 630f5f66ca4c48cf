"""Side information: tokens arrive as they were sent, in the bits that their table says."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snap_jax.boundary.side_information import token_bits, token_wire
from snap_jax.wires.base import pack, unpack

BYTES = range(256)


@settings(max_examples=10)
@given(st.lists(st.integers(0, 255), min_size=1, max_size=300))
def test_tokens_arrive_as_they_were_sent(tokens):
    """Also those that the sample did not hold."""
    wire, sent = token_wire(jnp.array([65, 66])), jnp.asarray(tokens, jnp.int16)
    payload = pack(wire, sent, BYTES)
    np.testing.assert_array_equal(unpack(wire, payload, sent.shape, BYTES), sent)
    assert token_bits(wire, sent) == 8 * (payload.size + 1) / sent.size


def test_tokens_take_their_entropy():
    """Four letters, one half, a quarter, an eighth, an eighth: 1.75 bits, and what 252 others keep in the table."""
    letters = np.repeat([97, 98, 99, 100], [4096, 2048, 1024, 1024])
    text = jnp.asarray(np.random.default_rng(0).permutation(letters).reshape(8, -1), jnp.int32)
    kept = np.log2(4096 / (4096 - 252))  # of 4096, one each is theirs
    head = (8 * (2 + 1) + 16 * 20) / text.size  # table, size, 16 lanes
    bits = token_bits(token_wire(text), text)
    assert bits == pytest.approx(1.75 + kept + head, rel=0.03)  # sizes are 2 % apart
