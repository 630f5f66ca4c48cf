"""Rate estimate: an entropy per channel, which falls along its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import snap_jax as snap
from snap_jax.boundary import rate_estimate
from snap_jax.boundary.rate_estimate import boundary_stats


def sample(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


@pytest.mark.parametrize("encoding", [snap.Ternary(1.0), snap.Count(3, 0.5), snap.Int(4, 0.4), snap.Rate(4, 2.0)])
def test_code_length_is_the_entropy_of_each_channel(encoding):
    x = sample(4000, 3) * jnp.array([0.3, 1.0, 2.0])
    spikes = np.asarray(encoding.spikes(x))
    shares = [np.unique(channel, return_counts=True)[1] / 4000 for channel in spikes.T]
    entropy = np.mean([-(p * np.log2(p)).sum() for p in shares])
    assert float(rate_estimate.bits_per_element(encoding, x)) == pytest.approx(entropy, abs=0.01)


@pytest.mark.parametrize(("dtype", "bits"), [("bfloat16", 16), ("float32", 32), ("float8_e4m3fn", 8)])
def test_floats_cost_their_width_at_once(dtype, bits):
    x = sample(8, 4)
    assert float(rate_estimate.bits_per_element(snap.Cast(dtype), x)) == bits
    assert not np.any(jax.grad(lambda x: rate_estimate.bits_per_element(snap.Cast(dtype), x))(x))
    assert boundary_stats(snap.Cast(dtype), x).bits == bits


def test_the_estimate_does_not_grow_with_the_symbols():
    few, many = (lambda x, n=n: rate_estimate.bits_per_element(snap.Count(n), x) for n in (1, 127))
    x = sample(8, 4)
    assert len(jax.make_jaxpr(many)(x).eqns) == len(jax.make_jaxpr(few)(x).eqns)


def test_code_length_falls_along_its_gradient_in_input_and_threshold():
    x = sample(500, 4)
    bits = lambda x, t: rate_estimate.bits_per_element(snap.Count(7, t), x)
    before, (dx, dt) = jax.value_and_grad(bits, argnums=(0, 1))(x, jnp.full(4, 0.4))
    assert float(bits(x - 200 * dx, jnp.full(4, 0.4))) < float(before)
    assert float(bits(x, jnp.full(4, 0.4) - 0.05 * jnp.sign(dt))) < float(before)
    assert (np.asarray(dt) < 0).all()  # a larger threshold costs less
