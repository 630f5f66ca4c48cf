"""Transformer: no token sees its future, attention sees distances; and models that spike inside the chip."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import snap_jax as snap
from snap_jax.boundary.boundary import Boundary
from snap_jax.codecs.link_spec import unit_normal_threshold
from snap_jax.models import transformer
from snap_jax.models.neurons import LEAK, RateNeurons
from snap_jax.models.split import split
from tests.support.small_models import WIDTH, build, cross_entropy, run, tokens


def test_rotary_positions_see_distances_only():
    """Both turned by t and s: their product depends on t - s, and none of them gets longer."""
    q, k = np.random.default_rng(0).standard_normal((2, 8)).astype(np.float32)
    every = lambda x: transformer.rotate(jnp.broadcast_to(x, (1, 6, 1, 8)))[0, :, 0]
    products = np.asarray(every(q) @ every(k).T)
    for distance in range(-5, 6):
        along = np.diagonal(products, distance)
        np.testing.assert_allclose(along, along[0], rtol=1e-4, atol=1e-5)
    assert np.ptp(products[0]) > 0.1
    np.testing.assert_allclose(np.linalg.norm(every(q), axis=-1), np.linalg.norm(q), rtol=1e-5)


def test_attention_by_hand():
    """One head, q = k = 0 but for position: with no query all weigh the same, so token t sees the mean of v up to t."""
    attention = transformer.Attention(transformer.TransformerConfig(width=2, heads=1), nnx.Rngs(0))
    attention.query.kernel[...] = jnp.zeros((2, 1, 2))
    attention.value.kernel[...] = jnp.eye(2).reshape(2, 1, 2)
    attention.output.kernel[...] = jnp.eye(2).reshape(1, 2, 2)
    x = jnp.asarray([[[6.0, 0.0], [0.0, 2.0], [3.0, 4.0]]])
    np.testing.assert_allclose(attention(x)[0], [[6, 0], [3, 1], [3, 2]], rtol=1e-5)


def test_squared_relu_by_hand():
    """`down(relu(up x)^2)` with x = 3: up gives 3, -3, 0, ... and 9 comes back."""
    mlp = transformer.MLP(transformer.TransformerConfig(width=2, heads=1), nnx.Rngs(0))
    mlp.up.kernel[...] = jnp.zeros((2, 8)).at[0, :2].set(jnp.asarray([1.0, -1.0]))
    mlp.down.kernel[...] = jnp.ones((8, 2))
    np.testing.assert_allclose(mlp(jnp.asarray([[[3.0, 5.0]]]))[0, 0], [9, 9])


@pytest.mark.parametrize(("name", "time_steps"), [("transformer", 0), ("transformer", 4)])
def test_no_token_sees_its_future(name, time_steps):
    model, rows = build(name, layers=2, time_steps=time_steps), tokens(1, 8)
    changed = rows.at[0, 5].set((rows[0, 5] + 1) % 256)
    difference = np.abs(run(lambda m, x, y: m(x) - m(y), model, rows, changed)).max((0, 2))
    assert (difference[:5] == 0).all()
    assert difference[5] > 0
    assert difference[6:].max() > 0


def test_stages_hold_a_transformer():
    """Split into stages and joined again, a model has the same parameters."""
    model = build("transformer", layers=2)
    stages, stacked = split(model, [Boundary(None, WIDTH) for _ in range(2)])
    joined, _ = stages.join(stacked)
    jax.tree.map(np.testing.assert_array_equal, nnx.state(joined), nnx.state(model))


def test_a_neuron_leaks_fires_and_is_reset():
    """By hand, x = 0.8 thresholds, the membrane starts at half: 1.05 fires, 0.025 + 0.8 not, 1.2125 fires, 0.906 not.

    Below (1 - leak) thresholds the membrane never fills: nothing fires. Negative input is silent unless signed.
    """
    level = unit_normal_threshold(1)
    x = level * jnp.asarray([0.8, 0.99 * (1 - LEAK), -0.8, 9.0])
    np.testing.assert_allclose(RateNeurons(4, 4, signed=False)(x), level * np.array([2, 0, 0, 4]) / 4, rtol=1e-6)
    np.testing.assert_allclose(RateNeurons(4, 4, signed=True)(x), level * np.array([2, 0, -2, 4]) / 4, rtol=1e-6)


@pytest.mark.parametrize("name", ["transformer", "rwkv"])
def test_a_spiking_model_fires_and_learns_its_thresholds(name):
    """Products see at most 2 T + 1 values a channel, and every weight and threshold has a gradient."""
    model, time_steps = build(name, time_steps=2), 2
    block = model.blocks[0]
    first, second = (block.attention, block.mlp) if name == "transformer" else (block.time_mix, block.channel_mix)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((100, WIDTH)), jnp.float32)
    for neurons in (first.feed, second.feed):
        spikes = np.asarray(neurons(x) / jnp.exp(neurons.log_threshold[...]) * time_steps)
        np.testing.assert_allclose(spikes, np.round(spikes), atol=1e-4)
        assert set(np.unique(np.round(spikes))) == {-2, -1, 0, 1, 2}
    gradient = run(jax.grad(cross_entropy), model, tokens(2, 9))
    for leaf in jax.tree.leaves(nnx.state(gradient)):
        assert np.abs(leaf).max() > 0
    assert second.hidden.log_threshold.shape == ((128 if name == "transformer" else 112),)


def test_mistakes_are_named():
    with pytest.raises(snap.UsageError, match="heads=16 of even size do not divide width=16: use a divisor of"):
        transformer.TransformerConfig(width=16, heads=16)
