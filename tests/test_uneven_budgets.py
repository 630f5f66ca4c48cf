"""Networks whose stream changes its shape, under a budget and with channels frozen: each boundary for itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import snap_jax as snap
from snap_jax.budget import Penalty, crossing
from snap_jax.innovation import Innovation
from snap_jax.models import stages
from snap_jax.models.uneven import Layers
from snap_jax.tasks import divided
from snap_jax.tasks.batches import nats
from snap_jax.tasks.layouts import Layout
from snap_jax.traffic import trace_compiled
from snap_jax.training import frozen
from tests import small_networks
from tests.small_networks import pictures

pytestmark = pytest.mark.usefixtures("compiled_once_and_fast")

CODEC = snap.Codec(snap.Count(7, 0.5))
FLAT = lambda batch: batch.inputs.reshape(-1, *batch.inputs.shape[2:])


def divide(name, chips, *, around=lambda features: Innovation(features // 4), codec=CODEC, pressure=None):
    """Calibrated at two bits an element."""
    model = small_networks.build(name)
    task, params = divided.build(model, Layout(pipeline=chips), codec, None, around=around, pressure=pressure)
    return task, divided.calibrated(task, params, FLAT(pictures()), bits=0.5)


@pytest.mark.parametrize(("name", "chips"), [("resnet", 4), ("efficientnet", 2)])
def test_a_pipeline_of_innovations_computes_what_one_chip_computes(name, chips):
    """Value and gradient, both ends of every boundary too; each sends a quarter of its own features."""
    task, params = divide(name, chips, pressure=Penalty(0.3))
    batch = pictures()
    (loss, seen), gradient = jax.jit(task.pressed_loss_and_gradient)(params, batch, jnp.zeros(chips))
    assert seen.firing_rate.min() == seen.firing_rate[-1] == 0 < seen.firing_rate[:-1].min()
    model, boundaries = stages.join(task.graph, divided.on_host(params))
    ends = stages.cuts(model, chips)

    def on_one_chip(model, boundaries):
        own = pressed = 0.0
        for inputs, labels in zip(batch.inputs, batch.labels, strict=True):
            x = model.enter(inputs)
            for place, block in enumerate(model.blocks):
                x = block(x)
                if place + 1 in ends[:-1]:
                    boundary = boundaries[ends.index(place + 1)]
                    seen = crossing(boundary.codec.encoding, boundary.prepare(x))
                    pressed += 0.3 * seen.bits * boundary.share / len(batch.labels)
                    x = boundary(x)
            own += nats(model.leave(x), labels) / batch.labels.size
        return own + pressed, own

    both = jax.jit(jax.value_and_grad(on_one_chip, argnums=(0, 1), has_aux=True))
    (_, own), (by_model, by_boundary) = both(model, nnx.List(boundaries))
    assert float(loss) == pytest.approx(float(own), rel=1e-5)
    ours_model, ours = stages.join(task.graph, divided.on_host(gradient))
    close = lambda a, b: np.testing.assert_allclose(a, b, atol=5e-5)
    jax.tree.map(close, nnx.state(ours_model), nnx.state(by_model))
    for mine, theirs in zip(ours[:-1], list(by_boundary)[:-1], strict=True):
        jax.tree.map(close, nnx.state(mine), nnx.state(theirs))
        assert all(np.abs(leaf).max() > 1e-5 for leaf in jax.tree.leaves(nnx.state(mine)))
