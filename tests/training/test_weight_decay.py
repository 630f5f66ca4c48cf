"""Weight decay leaves what codecs learn alone, in both ways to store the stages of a model."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import snap_jax as snap
from snap_jax.training.config import LanguageConfig
from snap_jax.training.optimizer import optimizer
from snap_jax.training.tasks import assemble
from snap_jax.training.tasks.layout import Layout
from tests.support import small_networks, toy


class Cut(nnx.Module):
    """A layer, and a boundary after it."""

    def __init__(self, *, rngs):
        self.layer, self.boundary = nnx.Linear(2, 3, rngs=rngs), snap.Boundary("count:3", features=3)


MODELS = {"same structure": toy.build, "different structure": lambda: small_networks.build("resnet")}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("link", ["count:3", "int8:channel"])
def test_only_the_thresholds_of_boundaries_are_left_out(model, link):
    """Of ones, zeros where `raise_thresholds` adds one to zeros; of a link that learns nothing, nothing."""
    task, params = assemble.build(MODELS[model](), Layout(pipeline=2), snap.codec(link), None)
    ones, zeros = (jax.tree.map(lambda p, n=n: jnp.full_like(p, n), params) for n in (1, 0))
    kept = task.stages.without_codecs(ones)
    left_out = task.stages.raise_thresholds(zeros, jnp.ones(2)) if link == "count:3" else zeros
    jax.tree.map(lambda k, out: np.testing.assert_array_equal(k, 1 - out), kept, left_out)
    numbers = sum(float(leaf.sum()) for leaf in jax.tree.leaves(left_out))
    assert (numbers > 0) == (link == "count:3")


def test_a_step_without_gradient_shrinks_what_decays_and_nothing_else():
    """AdamW: `p - rate * 0.01 * p`; the rate of step 0 is 0 and then that of the config, constant."""
    config = LanguageConfig(learning_rate=0.5, schedule="constant", steps=10)
    params = {"weight": jnp.full(2, 8.0), "threshold": jnp.full(2, 3.0)}
    rule = optimizer(config, lambda p: p | {"threshold": jnp.zeros(2)})
    state = rule.init(params)
    for _ in range(2):
        updates, state = rule.update(jax.tree.map(jnp.zeros_like, params), state, params)
    assert updates["weight"].tolist() == pytest.approx([-0.5 * 0.01 * 8.0] * 2)
    assert updates["threshold"].tolist() == [0.0, 0.0]


def test_a_mask_for_optax_leaves_out_what_codecs_learn_and_nothing_else():
    """A step without gradient: `p - rate * decay * p` where the mask is True, and `p` where it is False."""
    params = nnx.state(Cut(rngs=nnx.Rngs(0)), nnx.Param)
    rule = optax.adamw(0.5, weight_decay=0.1, mask=snap.decay_mask(params))
    updates, _ = rule.update(jax.tree.map(jnp.zeros_like, params), rule.init(params), params)
    after = optax.apply_updates(params, updates)
    np.testing.assert_allclose(after["layer"]["kernel"][...], 0.95 * params["layer"]["kernel"][...], rtol=1e-6)
    assert (after["boundary"]["log_threshold"][...] == params["boundary"]["log_threshold"][...]).all()
    assert float(jnp.abs(params["boundary"]["log_threshold"][...]).min()) > 0


def test_a_mask_of_arrays_without_types_is_refused():
    with pytest.raises(snap.UsageError, match=r"make the mask before training, mask=snap.decay_mask\(nnx.state"):
        snap.decay_mask({"kernel": jnp.ones(2)})
