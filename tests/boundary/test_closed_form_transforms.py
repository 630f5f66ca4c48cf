"""Transforms that one sample calibrates: prediction from embeddings, and coordinates in which errors cost alike."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

import snap_jax as snap
from snap_jax.boundary.boundary import Boundary
from snap_jax.boundary.calibrate import calibrate, calibrate_transforms, outlier_tokens
from snap_jax.boundary.transforms import EmbeddingPrediction, WeightedBasis, chain
from tests.support.programs import sample

TABLE, TOKENS = sample((11, 4), seed=3), jnp.asarray(np.random.default_rng(4).integers(0, 11, (8, 50)))


def test_what_follows_from_two_tokens_is_not_sent():
    """A stream that is linear in the embeddings of the latest two tokens; its first vector is another one."""
    a, b = sample((4, 6), seed=5), sample((4, 6), seed=6)
    later = jnp.pad(TABLE[TOKENS], ((0, 0), (1, 0), (0, 0)))[:, :-1]
    x = (TABLE[TOKENS] @ a + later @ b + 2.0).at[:, 0].set(jnp.arange(6.0) * 1000)
    prediction = EmbeddingPrediction(6, TABLE, context_tokens=2)
    np.testing.assert_array_equal(prediction.prepare(x, TOKENS), x)  # before it is calibrated it predicts zero
    prediction.calibrate(x, TOKENS)
    left = prediction.prepare(x, TOKENS)
    np.testing.assert_allclose(left[:, 0], 0, atol=1e-3)
    assert float(jnp.mean(left[:, 1:] ** 2)) < 0.01 * float(jnp.mean((x[:, 1:] - x[:, 1:].mean((0, 1))) ** 2))
    np.testing.assert_allclose(prediction.restore(left, TOKENS), x, atol=1e-3)
    with pytest.raises(snap.UsageError, match="EmbeddingPrediction: needs the tokens that both sides know"):
        prediction.prepare(x)
    with pytest.raises(snap.UsageError, match="EmbeddingPrediction: context_tokens=0: use 1 or more"):
        EmbeddingPrediction(6, TABLE, context_tokens=0)


def test_one_step_for_all_coordinates_errs_where_it_costs_little():
    """With W = diag(100, 1, 1, 1), an error of a unit in channel 0 costs 100: most of the error is in the others."""
    weight = jnp.diag(jnp.array([100.0, 1.0, 1.0, 1.0]))
    x = sample((500, 4)) @ sample((4, 4), seed=1)
    basis, plain = WeightedBasis(4, weight), WeightedBasis(4)
    errors = []
    for transform in (basis, plain):
        transform.calibrate(x)
        np.testing.assert_allclose(transform.restore(transform.prepare(x)), x, atol=1e-4)
        z = transform.prepare(x)
        spread = z.std(0)
        step = jnp.exp(jnp.mean(jnp.log(spread)))  # as many bits: the mean logarithm of spread / step is 0
        error = transform.restore(step * jnp.round(z / step)) - x
        errors.append(float(jnp.mean(jnp.einsum("ni,ij,nj->n", error, weight, error))))
        assert (spread[:-1] >= 0.5 * spread[1:]).all()  # the directions of most variance come first
    assert errors[0] < 0.5 * errors[1]
    np.testing.assert_allclose(plain.forward[...] @ plain.inverse[...], np.eye(4), atol=1e-5)


def outlying(shape=(4, 64, 32)):
    """Tokens of like size, after a first one that is a thousand times as large in one channel."""
    return sample(shape).at[:, 0, 3].set(20_000.0)


def test_calibration_refuses_by_name_what_a_codec_cannot_hold():
    boundary = Boundary("count:7", 32)
    with pytest.raises(snap.UsageError, match=r"calibrate: Count with symbols up to 7 cuts off 100% .*count:7:token"):
        calibrate(boundary, outlying(), bits=3.5)


def test_a_scale_per_token_and_an_exact_first_token_hold_outliers():
    x = outlying()
    assert outlier_tokens(x) == 1
    assert outlier_tokens(x[:, 1:]) == 0
    codec = snap.Codec(snap.Exact(snap.Scaled(snap.Count(31), "token"), tokens=1))
    boundary = Boundary(codec, 32, transform=chain(functools.partial(WeightedBasis)))
    calibrate_transforms(boundary, x)
    calibrate(boundary, x, bits=3.0)
    y = boundary(x)
    np.testing.assert_allclose(y[:, 0, 3], 20_000.0, rtol=1e-2)
    error = (y - x)[:, 1:]
    assert float(jnp.sum(error**2)) < 0.05 * float(jnp.sum(x[:, 1:] ** 2))
