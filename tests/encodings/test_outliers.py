"""Outliers: the largest errors of an encoding travel beside its spikes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from snap_jax.parallel.mesh import auto_mesh
from tests.support.programs import sample

INNER = snap.Scaled(snap.Count(7, 0.7), "token")
CODE = snap.Outliers(INNER, share=0.05)
X = sample((4, 10)).at[1, 3].set(700.0).at[2, 0].set(-90.0)  # of 40 elements two are corrected


def test_the_largest_errors_are_corrected_and_counted():
    codec, plain = snap.Codec(CODE), INNER.quantize(X)
    y = codec.quantize(X)
    assert sorted(map(tuple, np.argwhere(y != plain).tolist())) == [(1, 3), (2, 0)]
    error = X - plain
    np.testing.assert_array_equal(y[1, 3], plain[1, 3] + snap.Cast().quantize(error)[1, 3])
    assert abs(float(y[1, 3]) - 700) < 2.0**-8 * 700
    payload = codec.encode(X)
    np.testing.assert_array_equal(codec.decode(payload, shape=X.shape, dtype=X.dtype), y)
    assert payload.size == snap.Codec(INNER).payload_bytes(X.shape) + 2 * (4 + 2)


def test_gradients_are_one_where_errors_are_corrected():
    dx = jax.grad(lambda x: CODE.quantize(x).sum())(X)
    assert dx[1, 3] == dx[2, 0] == 1.0
    assert jax.grad(lambda x: INNER.quantize(x).sum())(X)[1, 3] == 0.0
    assert snap.Boundary(snap.Codec(CODE), features=10).log_threshold.shape == (10,)


def test_invariant_2_parts_of_a_tensor_get_their_errors():
    codec = snap.Codec(CODE)

    def program(x):
        scatter, q = {"scatter_dimension": 1, "tiled": True}, codec.quantize(x)
        coded = snap.psum_scatter(x, "x", codec=codec, **scatter), snap.all_gather(x, "x", codec=codec)
        return coded, (lax.psum_scatter(q, "x", **scatter), lax.all_gather(q, "x"))

    run = jax.shard_map(program, mesh=auto_mesh({"x": 2}), in_specs=P("x"), out_specs=P("x"))
    coded, plain = jax.jit(run)(jnp.concatenate([X, 3 * X]))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b), coded, plain)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: snap.Outliers(snap.Count(7), 0.0),
            r"Outliers: share=0.0: use a number above 0, up to 1",
        ),
        (lambda: snap.Outliers(snap.Cast()), r"Outliers: Cast\(.* sends floats: use an encoding such as Count\(7\)"),
    ],
)
def test_errors_name_the_value_and_the_fix(make, message):
    with pytest.raises(snap.UsageError, match=message):
        make()
