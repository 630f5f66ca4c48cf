"""Exact: tokens and channels that travel as floats, beside the spikes of all others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from snap_jax.parallel.mesh import auto_mesh
from tests.support.programs import sample

CODES = {
    "token": snap.Exact(snap.Scaled(snap.Count(7, 0.7), "token"), tokens=1),
    "channels": snap.Exact(snap.Count(3, 0.7), channels=(5, 0), dtype="float32"),
    "both": snap.Exact(snap.Int(4), tokens=2, channels=(1,)),
}
X = sample((2, 4, 6)).at[:, 0].multiply(2000.0)


@pytest.mark.parametrize("name", CODES)
def test_places_are_exact_and_the_rest_is_coded_as_if_they_were_zero(name):
    code = CODES[name]
    codec = snap.Codec(code)
    places = np.zeros(X.shape, bool)
    places[:, : code.tokens] = places[..., list(code.channels)] = True
    rounded = snap.Cast(code.dtype).quantize(X)
    expected = jnp.where(places, rounded, code.encoding.quantize(jnp.where(places, 0, X)))
    np.testing.assert_array_equal(codec.quantize(X), expected)
    payload = codec.encode(X)
    np.testing.assert_array_equal(codec.decode(payload, shape=X.shape, dtype=X.dtype), expected)
    exact = 2 * code.tokens * 6 + 8 * len(code.channels)
    width = jnp.finfo(code.dtype).bits // 8
    assert payload.size == snap.Codec(code.encoding).payload_bytes(X.shape) + width * exact


def test_gradients_pass_where_it_is_exact():
    code = CODES["token"]
    dx = jax.grad(lambda x: code.quantize(x).sum())(X)
    np.testing.assert_array_equal(dx[:, 0], 1.0)
    inner = jax.grad(lambda x: code.encoding.quantize(x.at[:, 0].set(0)).sum())(X)
    np.testing.assert_array_equal(dx[:, 1:], inner[:, 1:])
    assert snap.Boundary(snap.Codec(code), features=6).log_threshold.shape == (6,)


def test_invariant_2_parts_of_a_tensor_hold_their_exact_places():
    codec = snap.Codec(CODES["both"])

    def program(x):
        q = codec.quantize(x)
        scatter = {"scatter_dimension": 2, "tiled": True}
        coded = snap.psum_scatter(x, "x", codec=codec, **scatter), snap.ppermute(x, "x", [(0, 1)], codec=codec)
        return coded, (lax.psum_scatter(q, "x", **scatter), lax.ppermute(q, "x", [(0, 1)]))

    run = jax.shard_map(program, mesh=auto_mesh({"x": 2}), in_specs=P("x"), out_specs=P("x"))
    coded, plain = jax.jit(run)(jnp.concatenate([X, 3 * X]))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b), coded, plain)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: snap.Exact(snap.Cast(), 1), r"Exact: Cast\(.* cannot leave places out: use one such as Count\(7\)"),
        (lambda: snap.Exact(snap.TopK(0.1), 1), r"Exact: TopK\(.* cannot leave places out"),
        (lambda: snap.Exact(snap.Count(7)), r"Exact: tokens=0, channels=\(\): use tokens=1, or channels from 0 up"),
        (lambda: snap.Exact(snap.Count(7), channels=(-1,)), r"Exact: tokens=0, channels=\(-1,\): use tokens=1"),
        (lambda: snap.Exact(snap.Count(7), 1, dtype="int8"), r"Cast: dtype=int8 is no float"),
    ],
)
def test_errors_name_the_value_and_the_fix(make, message):
    with pytest.raises(snap.UsageError, match=message):
        make()
