"""Calibration: transforms and thresholds from a sample, and frequency tables from what is sent."""

import jax.numpy as jnp
import numpy as np
import pytest

import snap_jax as snap
from snap_jax.boundary import rate_estimate
from snap_jax.boundary.boundary import Boundary
from snap_jax.boundary.calibrate import calibrate, fit_wire
from snap_jax.boundary.transforms import LearnedTransform


def sample(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def test_a_boundary_of_full_rank_without_a_codec_changes_nothing():
    x, tokens = sample(2, 5, 8), jnp.arange(10).reshape(2, 5)
    boundary = Boundary(None, 8, transform=LearnedTransform(8, context_tokens=3))
    np.testing.assert_allclose(boundary(x, tokens), x, atol=1e-6)
    calibrate(boundary, x, tokens, bits=1.0)
    np.testing.assert_allclose(boundary(x, tokens), x, atol=1e-5)


def test_calibration_finds_the_bits_and_the_directions_that_matter():
    directions = np.linalg.qr(np.asarray(sample(8, 8, seed=1)))[0]
    x = (sample(3000, 2, seed=2) * jnp.array([5.0, 2.0])) @ jnp.asarray(directions[:, :2].T) + 3.0
    boundary = Boundary(snap.Codec(snap.Count(15)), 8, transform=LearnedTransform(2))
    calibrate(boundary, x, bits=1.0)
    assert float(rate_estimate.bits_per_element(boundary.codec.encoding, boundary.prepare(x))) * 2 / 8 == pytest.approx(
        1.0, rel=0.05
    )
    overlap = np.abs(np.asarray(boundary.sender.links[0].basis.value).T @ directions[:, :2])
    np.testing.assert_allclose(overlap, np.eye(2), atol=0.05)
    spread = float(jnp.mean((boundary(x) - x) ** 2))
    assert spread < 0.5 * float(jnp.mean((x - x.mean(0)) ** 2))


def test_learned_tables_take_fewer_bits_and_are_exact():
    boundary = Boundary(snap.Codec(snap.Count(15, 0.5), snap.Rans(ratio=1.02)), 6)
    x = jnp.asarray(np.random.default_rng(0).gamma(1.0, size=(2000, 6)), jnp.float32)
    before = boundary.codec.encode(x).size
    fit_wire([boundary], [x])
    payload = boundary.codec.encode(x)
    assert payload.size < 0.97 * before
    decoded = boundary.codec.decode(payload, shape=x.shape, dtype=x.dtype)
    np.testing.assert_array_equal(decoded, boundary.codec.quantize(x))
    entropy = float(rate_estimate.bits_per_element(boundary.codec.encoding, x))
    assert payload.size * 8 / x.size < 1.06 * entropy + 0.05


@pytest.mark.parametrize("codec", ["count:3", "int4", None])
@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_a_sample_that_is_not_finite_is_refused(codec, bad):
    boundary = Boundary(codec, 8, transform=LearnedTransform(2))
    with pytest.raises(snap.UsageError, match="calibrate: the sample holds a NaN or an infinity: give some thousand"):
        calibrate(boundary, sample(50, 8).at[7, 3].set(bad), bits=1.0)


@pytest.mark.parametrize("codec", ["count:3", "int4"])
@pytest.mark.parametrize("rows", [0, 50])
def test_a_sample_of_zeros_is_refused(codec, rows):
    with pytest.raises(snap.UsageError, match="calibrate: the sample leaves nothing but zeros to send, or is empty"):
        calibrate(Boundary(codec, 8), jnp.zeros((rows, 8)), bits=1.0)
