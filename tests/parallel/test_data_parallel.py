"""Layouts: whatever devices share, loss and gradient are those of one device; coded, bytes cross and nothing is lost.

On a toy model, whose blocks devices of all three axes divide.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from snap_jax.codecs.link_spec import as_codec
from snap_jax.parallel import data_parallel
from snap_jax.parallel.mesh import auto_mesh
from snap_jax.training.tasks import assemble
from snap_jax.training.tasks.layout import Layout, parse_layout
from tests.support import toy
from tests.support.small_models import compiled, run
from tests.support.toy import WIDTH

TERNARY = snap.Codec(snap.Ternary(threshold=1.5), snap.Packed())


def divide(layout, link="fp32", grad_link="fp32", data_codec=None, blocks=2):
    codecs = as_codec(link), as_codec(grad_link)
    return assemble.build(toy.build(blocks), layout, *codecs, data_codec=data_codec)


def alone(model, data):
    """The mean over all labels, on one device."""
    return toy.cross_entropy(model, [None] * len(model.blocks), data)


@pytest.fixture(scope="module")
def whole():
    """Loss and gradient on one device."""
    loss, gradient = run(jax.value_and_grad(alone), toy.build(2), toy.batch(2, 4))
    return float(loss), nnx.state(gradient)


@pytest.mark.parametrize(("spec", "devices"), [("data:2+tensor", 4), ("data:2+pipeline:2+tensor:2", 8)])
def test_with_dense_links_every_layout_computes_what_one_device_computes(whole, spec, devices):
    task, params = divide(parse_layout(spec, devices))
    loss, gradient = run(task.loss_and_gradient, params, toy.batch(2, 4))
    assert float(loss) == pytest.approx(whole[0], rel=1e-6)
    model, _ = task.stages.join(jax.tree.map(np.asarray, gradient))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), nnx.state(model), whole[1])
    for leaf in jax.tree.leaves(nnx.state(model)):
        assert np.abs(leaf).max() > 1e-3


def test_rows_of_replicas_are_the_gradients_of_their_parts():
    task, params = divide(Layout(data=2), data_codec=TERNARY, blocks=1)
    rows = toy.batch(1, 4)
    loss, gradient = run(task.loss_and_gradient, params, rows)
    halves = [jax.tree.map(lambda a, i=i: a[:, i : i + 2], rows) for i in (0, 2)]
    both = compiled(jax.value_and_grad(alone), toy.build(1), halves[0])
    parts = [both(toy.build(1), half) for half in halves]
    assert float(loss) == pytest.approx(np.mean([float(part[0]) for part in parts]), rel=1e-6)
    for i, (_, expected) in enumerate(parts):
        mine = jax.tree.map(lambda g, i=i: np.asarray(g)[i], gradient)
        joined = nnx.state(task.stages.join(mine)[0])
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), joined, nnx.state(expected))


def test_coded_averages_lose_nothing():
    """Over three steps: sum of updates = mean over replicas of (sum of gradients - last residual); with two mesh axes.

    Parameters of the two stages differ, so do their thresholds; spikes are whole multiples of them.
    """
    task, params = divide(Layout(data=2, pipeline=2), data_codec=TERNARY)
    average = data_parallel.compressed_mean(task.mesh, TERNARY, task.specs)
    rng = np.random.default_rng(0)
    some = lambda p: jnp.asarray(rng.standard_normal((3, 2, *p.shape)), jnp.float32)
    gradients = jax.tree.map(some, {"norm": {"scale": params["model"]["norm_out"]["scale"][...]}})

    def steps(gradients):
        state, sent = average.init(jax.tree.map(lambda g: g[0, 0], gradients)), []
        for t in range(3):
            update, state = average.update(jax.tree.map(lambda g, t=t: g[t], gradients), state)
            sent.append(update["norm"]["scale"])
        return jnp.stack(sent), state.residual["norm"]["scale"]

    snap.assert_no_float_collectives(steps, gradients, directions=("forward",))
    sent, residual = run(steps, gradients)
    g = np.asarray(gradients["norm"]["scale"])
    assert residual.shape == (2, 2, WIDTH)  # replica, stage, its parameter
    np.testing.assert_allclose(sent.sum(0), g.mean(1).sum(0) - np.asarray(residual).mean(0), atol=1e-5)
    threshold = 1.5 * np.abs(g[0]).mean((0, 2))[:, None]  # of the first step, for each stage
    spikes = np.asarray(sent[0]) * 2 / threshold
    np.testing.assert_allclose(spikes, np.round(spikes), atol=1e-4)
    assert set(np.unique(np.round(spikes))) <= {-2, -1, 0, 1, 2}


def test_a_coded_step_in_three_dimensions_sends_bytes_and_learns():
    """Spikes cross as uint8, telemetry as uint32; only the loss crosses as a float."""
    layout = Layout(data=2, pipeline=2, tensor=2)
    task, params = divide(layout, link="count:3", grad_link="bf16", data_codec=TERNARY)
    optimizer = task.with_average(optax.adam(0.01))
    state = optimizer.init(params)  # not jitted: what is like a parameter lies where it does

    def step(params, state, rows):
        (loss, seen), gradient = task.observed_loss_and_gradient(params, rows)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, loss, seen

    program = compiled(step, params, state, toy.batch(2, 4))
    crossing = snap.compiled_traffic(program, task.mesh, schedule=task.schedule_of(toy.batch(2, 4))).where(
        lambda t: np.prod(t.shape, dtype=int) > 1
    )
    assert {t.dtype for t in crossing} == {"uint8", "uint32"}
    assert {axes for t in crossing for axes in t.axes} == {"data", "stage", "tensor"}
    losses = []
    for _ in range(8):
        params, state, loss, seen = program(params, state, toy.batch(2, 4))
        losses.append(float(loss))
    assert losses[-1] < losses[0] - 0.1
    np.testing.assert_array_equal(jax.device_get(seen).elements, [2 * 4 * 4 * WIDTH] * 2)  # of both replicas
    assert params["model"]["blocks"][0]["up"]["kernel"][...].sharding.spec == P("stage", None, "tensor")


def test_evaluation_gives_every_row_its_nats(whole):
    task, params = divide(Layout(data=2, tensor=2))
    (nats, _), seen = run(task.evaluate, params, toy.batch(2, 4))
    assert nats.shape == (2, 4)
    assert float(nats.sum()) / (2 * 4 * 4) == pytest.approx(whole[0], rel=1e-5)
    assert jax.device_get(seen).elements == 2 * 4 * 4 * WIDTH
    task, params = divide(Layout(data=2, tensor=2), link="ternary")
    [spikes] = jax.eval_shape(task.spikes, params, toy.batch(1, 4))
    assert spikes.shape == (4, 4, WIDTH)


def test_mistakes_are_named():
    for spec, message in (
        ("rows", "'rows': use data, pipeline, tensor, each once"),
        ("data:2+data:2", "'data:2': use data, pipeline, tensor, each once"),
        ("data+tensor", "give all but one of data, tensor a number"),
        ("data:3", "3 devices named, 8 are there: name a product of 8"),
        ("data:2+tensor:2", "4 devices named, 8 are there"),
    ):
        with pytest.raises(snap.UsageError, match=message):
            parse_layout(spec, 8)
    with pytest.raises(snap.UsageError, match="Layout: data=0: use 1 or more"):
        Layout(data=0)
    task, params = divide(Layout())
    with pytest.raises(snap.UsageError, match="floats cross these boundaries"):
        jax.eval_shape(task.spikes, params, toy.batch(1, 4))


def test_axis_names_are_the_users():
    """The mean of two rows, on a mesh whose axes have other names than ours."""
    mesh = auto_mesh({"fsdp": 2, "tp": 1})
    specs = lambda params: jax.tree.map(lambda _: P(), params)
    average = data_parallel.compressed_mean(mesh, "count:7", specs, axis_name="fsdp")
    params, rows = {"w": jnp.ones((2, 2))}, {"w": jnp.stack([jnp.full((2, 2), 1.0), jnp.full((2, 2), 3.0)])}
    mean, _ = run(average.update, rows, average.init(params))
    np.testing.assert_allclose(mean["w"], 2.0, rtol=0.2)  # half a step of 0.5 mean sizes is 0.5, of two parts
    with pytest.raises(snap.UsageError, match=r"axis_name='data' is no axis of the mesh \('fsdp', 'tp'\)"):
        data_parallel.compressed_mean(mesh, "count:7", specs)
