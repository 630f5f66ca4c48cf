"""Mixtures of streams: exact where streams lie in their span, and calibrated to the directions of most variance."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from snap_jax.boundary.transforms import SentStreams, StreamMixture
from snap_jax.boundary.transforms.stream_mixture import weighted_sum
from snap_jax.errors import UsageError


def test_calibrated_mixtures_hold_what_varies():
    """Each channel of 4 streams moves along 2 directions of its own, about a mean: 2 mixtures lose nothing."""
    draw = np.random.default_rng(0)
    directions, mean = draw.normal(size=(3, 2, 4)), draw.normal(size=(4, 3))
    x = np.einsum("nck,cks->nsc", draw.normal(size=(50, 3, 2)), directions) + mean
    mixture = StreamMixture(12, streams=4, kept=2)
    x = np.asarray(x.reshape(50, 12), np.float32)
    before = np.abs(mixture.restore(mixture.prepare(x)) - x).max()
    mixture.calibrate(x)
    assert mixture.prepare(x).shape == (50, 6)
    np.testing.assert_allclose(mixture.restore(mixture.prepare(x)), x, atol=1e-5)
    assert before > 0.1
    np.testing.assert_allclose(mixture.prepare(x).mean(0), 0, atol=1e-5)


def test_all_mixtures_restore_everything():
    mixture = SentStreams(4, kept=4)(8, rngs=nnx.Rngs(0))
    x = np.random.default_rng(1).normal(size=(2, 3, 8)).astype(np.float32)
    np.testing.assert_allclose(mixture.restore(mixture.prepare(x)), x, atol=1e-6)
    assert (mixture.share, SentStreams(4, 2) == SentStreams(4, 2)) == (1.0, True)


def test_weighted_sums_of_narrow_floats_are_added_wide():
    """256 + 255 ones is 511, which bfloat16 rounds to 512; in steps of bfloat16 it would stay 256."""
    x = jnp.ones(256, jnp.bfloat16).at[0].set(256)
    assert weighted_sum(x, jnp.ones((256, 1), jnp.bfloat16)).tolist() == [512]


@pytest.mark.parametrize(("features", "streams", "kept"), [(8, 4, 3), (8, 3, 1), (8, 4, 0)])
def test_numbers_that_do_not_divide_are_refused(features, streams, kept):
    with pytest.raises(UsageError, match=f"kept={kept} of streams={streams} of features={features}"):
        StreamMixture(features, streams, kept)
