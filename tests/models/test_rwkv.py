"""RWKV: the parallel form is the recurrence, and no token sees its future."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from snap_jax.errors import UsageError
from snap_jax.models import rwkv


def inputs(time=32, rate_scale=1.0):
    rng = np.random.default_rng(0)
    r, k, v = (jnp.asarray(rng.standard_normal((2, time, 2, 4)), jnp.float32) for _ in range(3))
    return (
        r,
        k,
        v,
        jnp.asarray(rng.uniform(0, rate_scale, (2, 4)), jnp.float32),
        jnp.asarray(rng.standard_normal((2, 4))),
    )


@pytest.mark.parametrize("chunk", [1, 8, 32, 64])
def test_parallel_form_is_the_recurrence(chunk):
    args = inputs(time=64)
    value = lambda f: jax.value_and_grad(lambda *a: jnp.sum(jnp.sin(f(*a))), argnums=range(5))
    (a, da), (b, db) = value(lambda *a: rwkv.wkv(*a, chunk))(*args), value(rwkv.wkv_recurrent)(*args)
    np.testing.assert_allclose(a, b, rtol=1e-4)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=2e-3), da, db)


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_the_extreme_decays_stay_finite_and_right(rate):
    r, k, v, _, u = inputs(time=128)
    rates = jnp.full((2, 4), rate)
    np.testing.assert_allclose(
        rwkv.wkv(r, k, v, rates, u, 64), rwkv.wkv_recurrent(r, k, v, rates, u), rtol=2e-3, atol=2e-3
    )


def test_recurrence_by_hand():
    """One head of one channel, w = 1/2, u = 3: y_1 = 3 k_1 v_1 r_1; y_2 = r_2 (k_1 v_1 + 3 k_2 v_2); ..."""
    one = lambda *values: jnp.asarray(values, jnp.float32).reshape(1, -1, 1, 1)
    r, k, v = one(1, 1, 2), one(2, 1, 1), one(1, 4, 1)
    rate, bonus = jnp.full((1, 1), np.log(2.0)), jnp.full((1, 1), 3.0)
    expected = [3 * 2, 2 + 3 * 4, 2 * (2 / 2 + 4 + 3 * 1)]
    np.testing.assert_allclose(rwkv.wkv(r, k, v, rate, bonus, 3).reshape(-1), expected, rtol=1e-5)


def test_no_token_sees_its_future():
    model = rwkv.RWKV(rwkv.RWKVConfig(layers=2, width=16, heads=2, chunk=4), rngs=nnx.Rngs(0))
    # Outputs of the mixes start at zero: give them weight, or nothing would flow along time.
    state = jax.tree.map(lambda p: p + 0.1, nnx.state(model))
    nnx.update(model, state)
    tokens = jnp.asarray(np.random.default_rng(0).integers(0, 256, (1, 16)))
    changed = tokens.at[0, 9].set((tokens[0, 9] + 1) % 256)
    difference = np.abs(model(tokens) - model(changed)).max((0, 2))
    assert (difference[:9] == 0).all()
    assert (difference[9:] > 0).all()


def test_errors():
    with pytest.raises(UsageError, match="heads=3 does not divide width=16"):
        rwkv.RWKVConfig(width=16, heads=3)
    with pytest.raises(UsageError, match="chunk=5 does not divide 32 tokens"):
        rwkv.wkv(*inputs(), 5)
