"""Pipelines: over many stages, in every schedule, the same as on one device; on a toy model."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from snap_jax.boundary.boundary import Boundary
from snap_jax.codecs.link_spec import as_codec
from snap_jax.models.split import split
from snap_jax.parallel.gpipe import GPipe
from snap_jax.parallel.mesh import auto_mesh
from snap_jax.parallel.one_f_one_b import OneFOneB
from snap_jax.parallel.pipeline import SameStages
from snap_jax.traffic.hlo import compiled_traffic
from snap_jax.training.tasks import assemble
from snap_jax.training.tasks.layout import Layout
from tests.support import toy

SCHEDULES = [GPipe, OneFOneB]


def task_of(stages, link="fp32", grad_link="fp32", schedule=GPipe):
    codecs = as_codec(link), as_codec(grad_link)
    return assemble.build(toy.build(4), Layout(pipeline=stages), *codecs, schedule=schedule)


@functools.cache
def program(stages, link="fp32", grad_link="fp32", schedule=GPipe, microbatches=4):
    """The task, and its loss and gradient, compiled."""
    task, params = task_of(stages, link, grad_link, schedule)
    return task, params, jax.jit(task.loss_and_gradient).lower(params, toy.batch(microbatches)).compile()


def loss_and_gradient(*args, microbatches=4, **kwargs):
    task, params, run = program(*args, microbatches=microbatches, **kwargs)
    loss, gradient = run(params, toy.batch(microbatches))
    model, boundaries = task.stages.join(toy.on_one_device(gradient))
    return float(loss), nnx.state(model), [nnx.state(boundary) for boundary in boundaries[:-1]]


def on_one_device(link, microbatches=4):
    task, params = task_of(4, link)
    model, boundaries = task.stages.join(toy.on_one_device(params))
    both = jax.jit(jax.value_and_grad(toy.cross_entropy, argnums=(0, 1)))
    loss, (by_model, by_boundary) = both(model, nnx.List(boundaries), toy.batch(microbatches))
    return float(loss), nnx.state(by_model), [nnx.state(boundary) for boundary in list(by_boundary)[:-1]]


def assert_same(ours, theirs, atol=1e-6):
    assert ours[0] == pytest.approx(theirs[0], rel=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), ours[1:], theirs[1:])


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("stages", [1, 2])
def test_a_dense_pipeline_computes_what_one_device_computes(stages, schedule):
    loss, gradient, _ = loss_and_gradient(stages, schedule=schedule)
    expected = on_one_device("fp32")
    assert_same((loss, gradient), expected[:2])
    assert min(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(gradient)) > 1e-2


@pytest.mark.parametrize(
    ("link", "schedule"), [("count:3", GPipe), ("count:3", OneFOneB), ("int4", GPipe), ("bf16", OneFOneB)]
)
def test_a_coded_pipeline_computes_what_one_device_computes_with_boundaries_that_quantize(link, schedule):
    """Value and gradient, thresholds too, against a plain loop over blocks."""
    assert_same(loss_and_gradient(4, link, schedule=schedule), on_one_device(link), atol=2e-5)


@pytest.mark.parametrize("microbatches", [1, 5])  # fewer than the stages, and a number they do not divide
def test_coded_gradients_of_1f1b_are_those_of_gpipe(microbatches):
    runs = [loss_and_gradient(4, "count:3", "bf16", schedule=s, microbatches=microbatches) for s in SCHEDULES]
    assert_same(*runs)
    assert max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(runs[0][2])) > 1e-3  # of thresholds


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_bytes_are_those_the_codec_claims(schedule):
    """4 stages, 5 microbatches: 8 ticks on 3 links in each direction, and the thresholds once."""
    task, _, compiled = program(4, "count:3", "bf16", schedule=schedule, microbatches=5)
    traffic = compiled_traffic(compiled, task.mesh, schedule=task.schedule_of(toy.batch(5)))
    crossing = traffic.where(lambda t: "boundary" in t.path)
    elements = 2 * 4 * toy.WIDTH
    sent = {way: crossing.where(lambda t, way=way: t.direction == way).sent_bytes for way in ("forward", "backward")}
    assert sent == {
        "forward": 3 * 8 * (elements * 3 // 8 + 1) + 3 * 4 * toy.WIDTH,
        "backward": 3 * 8 * (2 * elements + 1),
    }
    assert {t.dtype for t in crossing} == {"uint8"}
    rest = traffic.where(lambda t: "boundary" not in t.path)
    assert all(np.prod(t.shape, dtype=int) <= 1 for t in rest)  # the loss is summed, nothing else crosses


def test_evaluation_counts_every_spike_once():
    task, params = task_of(4, "ternary")
    (nats, correct), seen = jax.device_get(jax.jit(task.evaluate)(params, toy.batch()))
    assert nats.shape == correct.shape == (4, 2)
    elements = 4 * 2 * 4 * toy.WIDTH
    np.testing.assert_array_equal(seen.counts.sum(-1), [elements] * 4)
    np.testing.assert_array_equal(seen.elements, [elements] * 4)
    np.testing.assert_array_equal(seen.sent_bytes, 4 * as_codec("ternary").payload_bytes((2, 4, toy.WIDTH)))
    assert float(nats.sum()) / (4 * 2 * 4) == pytest.approx(on_one_device("ternary")[0], rel=1e-5)
    spikes = jax.jit(task.spikes)(params, toy.batch(1))
    assert len(spikes) == 3
    assert set(np.unique(np.stack(spikes))) == {-1, 0, 1}


def test_what_1f1b_observes_is_what_gpipe_observes():
    observed = []
    for schedule in SCHEDULES:
        task, params = task_of(2, "count:3", schedule=schedule)
        (loss, seen), _ = jax.jit(task.observed_loss_and_gradient)(params, toy.batch(3))
        observed.append((loss, seen))
    jax.tree.map(np.testing.assert_array_equal, *observed)
    np.testing.assert_array_equal(jax.device_get(observed[0][1]).elements, [3 * 2 * 4 * toy.WIDTH] * 2)


def test_stages_join_to_the_model_they_came_from():
    model = toy.build(4)
    stages, params = split(model, [Boundary(None, toy.WIDTH) for _ in range(2)])
    joined, _ = stages.join(params)
    jax.tree.map(np.testing.assert_array_equal, nnx.state(joined), nnx.state(model))
    with pytest.raises(snap.UsageError, match="3 stages do not divide layers=4: use one of 1, 2, 4 stages"):
        split(model, [Boundary(None, toy.WIDTH) for _ in range(3)])


def test_thresholds_of_one_boundary_rise():
    stages, params = split(toy.build(4), [Boundary(as_codec("count:3"), toy.WIDTH) for _ in range(2)])
    raised = stages.raise_thresholds(params, jnp.log(jnp.array([2.0, 4.0])))
    np.testing.assert_allclose(stages.thresholds(raised), np.array(stages.thresholds(params)) * [2, 4], rtol=1e-6)
    dense, params = split(toy.build(4), [Boundary(None, toy.WIDTH) for _ in range(2)])
    assert dense.thresholds(params) == []


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_pipeline_of_anything_is_the_composition_of_its_stages(schedule):
    """Each stage adds its index + 1; spikes of Count(100, 1) carry integers exactly: x + 1 + 2 + 3 + 4."""
    work = SameStages(
        enter=lambda params, m: m,
        body=lambda params, y: y + params,
        leave=lambda params, y, m: (jnp.sum(y - m), y - m),
        boundary=lambda params: Boundary(snap.Codec(snap.Count(100, 1.0)), 3),
        stages=4,
        inspect=lambda boundary, sent: (0.0, jnp.sum(sent != 0)),
    )

    def run(params, x):
        loss, (ends, fired), _ = schedule(6, 4).run(work, params[0], x)
        return loss, lax.psum(ends, "stage"), fired[None]

    x = jnp.asarray(np.random.default_rng(1).integers(5, 9, (6, 3)), jnp.float32)
    mesh, out_specs = auto_mesh({"stage": 4}), (P(), P(), P("stage"))
    mapped = jax.shard_map(run, mesh=mesh, in_specs=(P("stage"), P()), out_specs=out_specs)
    loss, ends, fired = jax.jit(mapped)(jnp.arange(1.0, 5.0), x)
    np.testing.assert_array_equal(ends, np.full((6, 3), 10.0))
    assert float(loss) == 6 * 3 * 10
    np.testing.assert_array_equal(fired, [[3] * 6] * 3 + [[0] * 6])  # the last stage sends nothing


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_gradient_of_what_all_stages_share_is_summed_once_and_not_in_a_branch(schedule):
    """The table of embeddings is the same on all stages, read by the first and by the last: (x + 1 + 2) w + m . w."""
    work = SameStages(
        enter=lambda params, m: params[1] * m,
        body=lambda params, y: y + params[0][0],
        leave=lambda params, y, m: (jnp.sum(y * params[1]), ()),
        boundary=lambda params: Boundary(None, 3),
        stages=2,
    )
    run = lambda steps, table, x: schedule(4, 2).run(work, (steps, table), x)[0]
    mapped = jax.shard_map(run, mesh=auto_mesh({"stage": 2}), in_specs=(P("stage"), P(), P()), out_specs=P())
    gradient = jax.jit(jax.grad(mapped, argnums=1))
    steps, table, x = jnp.array([1.0, 2.0]), jnp.array([1.0, 2.0, 3.0]), jnp.arange(12.0).reshape(4, 3)
    snap.assert_no_deadlocks(gradient, steps, table, x)
    expected = jax.grad(lambda table: jnp.sum((table * x + 3) * table))(table)
    np.testing.assert_allclose(gradient(steps, table, x), expected, rtol=1e-6)
