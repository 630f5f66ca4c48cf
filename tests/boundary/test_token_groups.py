"""Token groups: nothing is lost, small residuals come first, thresholds and rates are those of groups."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

import snap_jax as snap
from snap_jax.boundary import rate_estimate
from snap_jax.boundary.calibrate import calibrate
from snap_jax.boundary.channel_pruning import idle_channels, mask_channels, prune
from snap_jax.boundary.transforms import LearnedTransform, TokenGroups


@given(seed=st.integers(0, 99), token_groups=st.sampled_from([1, 2, 4, 12]), vocabulary=st.sampled_from([1, 3, 256]))
@settings(deadline=None, max_examples=30)
def test_sorted_vectors_are_restored_bit_for_bit_and_small_residuals_come_first(seed, token_groups, vocabulary):
    rng = np.random.default_rng(seed)
    order = TokenGroups(5, token_groups, vocabulary)
    order.residual_norm[...] = jnp.asarray(rng.integers(0, 4, vocabulary), jnp.float32)  # with ties
    tokens, z = jnp.asarray(rng.integers(0, vocabulary, (3, 4))), jnp.asarray(rng.normal(size=(3, 4, 5)), jnp.float32)
    rows = order.prepare(z, tokens)
    assert rows.shape == (12 // token_groups, 5 * token_groups)
    np.testing.assert_array_equal(order.restore(rows, tokens), z)
    norms = order.prepare(order.residual_norm[...][tokens][..., None], tokens)  # [row, group]
    assert (np.diff(np.asarray(norms).T.reshape(-1)) >= 0).all()


def tokens_and_stream():
    """Token 1 moves all channels ten times as far as token 0."""
    rng = np.random.default_rng(0)
    tokens = jnp.asarray(rng.permutation(np.arange(256) % 2).reshape(4, 64))
    return tokens, jnp.asarray(rng.normal(size=(4, 64, 3)) * np.where(tokens, 1.0, 0.1)[..., None], jnp.float32)


def segmented(token_groups, tokens, x, bits=1.0):
    boundary = snap.Boundary(
        snap.Codec(snap.Count(5, 1.0), snap.Rans()),
        3,
        transform=LearnedTransform(3, vocabulary=2, token_groups=token_groups),
    )
    calibrate(boundary, x, tokens, bits=bits)
    return boundary


def test_tokens_that_differ_cost_less_apart():
    """At one step the large half takes log2(10) bits more than the small one; groups tell them apart for free."""
    tokens, x = tokens_and_stream()
    one, two = (segmented(token_groups, tokens, x) for token_groups in (1, 2))
    two.log_threshold[...] = jnp.tile(one.log_threshold[...], 2)
    together, apart = (rate_estimate.bits_per_element(b.codec.encoding, b.prepare(x, tokens)) for b in (one, two))
    spikes = np.asarray(one.codec.encoding.spikes(one.prepare(x, tokens)))
    entropy = lambda s: -sum(p * np.log2(p) for p in np.unique(s, return_counts=True)[1] / s.size)
    halves = [np.mean([entropy(spikes[tokens == t][:, c]) for c in range(3)]) for t in (0, 1)]
    assert float(apart) == pytest.approx(np.mean(halves), abs=0.02)
    assert float(apart) < float(together) - 0.2
    np.testing.assert_allclose(one(x, tokens), two(x, tokens), atol=1e-6)


def test_each_group_learns_thresholds_of_its_own():
    tokens, x = tokens_and_stream()
    boundary = segmented(2, tokens, x)
    graph, params = nnx.split(boundary)
    error = lambda p: jnp.square(nnx.merge(graph, p)(x, tokens) - x).mean()
    gradient = jax.grad(error)(params)
    assert gradient["log_threshold"].shape == (6,)
    assert not np.allclose(gradient["log_threshold"][...][:3], gradient["log_threshold"][...][3:])
    assert not np.any(gradient["sender"]["links"][1]["residual_norm"][...])


def test_channels_are_those_of_all_groups():
    tokens, x = tokens_and_stream()
    boundary = segmented(2, tokens, x, bits=2.0)
    mask_channels(boundary, [1, 4])  # one of each group
    before, sent = boundary(x, tokens), boundary.prepare(x, tokens)
    assert sent.shape == (128, 6)
    assert idle_channels([boundary], [sent], max_rate=0.0) == (1, 4)
    assert prune([boundary]).channels == (6, 4)
    assert boundary.prepare(x, tokens).shape == (128, 4)
    np.testing.assert_array_equal(boundary(x, tokens), before)


def test_what_cannot_be_raises_and_says_so():
    with pytest.raises(snap.UsageError, match="TokenGroups: 3 groups do not divide 8 vectors: use a divisor"):
        TokenGroups(1, 3, 2).prepare(jnp.zeros((2, 4, 1)), jnp.zeros((2, 4), jnp.int32))
    with pytest.raises(snap.UsageError, match="token_groups=0"):
        LearnedTransform(4, token_groups=0)
    boundary = snap.Boundary(None, 4, transform=LearnedTransform(4, token_groups=2))
    with pytest.raises(snap.UsageError, match=r"TokenGroups: needs the tokens .*: pass context=tokens"):
        boundary(jnp.zeros((2, 4, 4)))
