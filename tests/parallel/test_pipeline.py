"""Boundary, pipeline and stages: over many dies the same as on one chip."""

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
from snap_jax.models import pipeline_stages, rwkv
from snap_jax.parallel.mesh import auto_mesh
from snap_jax.parallel.pipeline import pipeline
from snap_jax.traffic.hlo import compiled_traffic
from snap_jax.training.language import next_token
from snap_jax.training.tasks import assemble
from snap_jax.training.tasks.layout import Layout

SIZE = rwkv.RWKVConfig(layers=4, width=16, heads=2, chunk=8)


def tokens(micro=4, batch=2, seq_len=16):
    return next_token(np.random.default_rng(0).integers(0, 256, (micro, batch, seq_len + 1)))


def build(chips, link="fp32", grad_link="fp32"):
    model, codecs = rwkv.RWKV(SIZE, rngs=nnx.Rngs(0)), (as_codec(link), as_codec(grad_link))
    return assemble.build(model, Layout(pipeline=chips), *codecs)


def loss_and_gradient(chips, link="fp32", grad_link="fp32"):
    task, params = build(chips, link, grad_link)
    loss, gradient = jax.jit(task.loss_and_gradient)(params, tokens())
    gradient = jax.tree.map(np.asarray, gradient)
    model, boundaries = pipeline_stages.join(task.graph, gradient)
    return float(loss), nnx.state(model), boundaries


@pytest.fixture(scope="module")
def one_chip():
    return loss_and_gradient(1)


@pytest.mark.parametrize("chips", [2, 4])
def test_dense_pipeline_computes_what_one_chip_computes(one_chip, chips):
    loss, gradient, _ = loss_and_gradient(chips)
    assert loss == pytest.approx(one_chip[0], rel=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), gradient, one_chip[1])
    assert max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(gradient)) > 1e-2


@pytest.mark.parametrize("link", ["count:2", "int4", "bf16"])
def test_coded_pipeline_computes_what_one_chip_computes_with_boundaries_that_quantise(link):
    """The law of `nn`: value and gradient, thresholds too, against a plain loop over blocks on one device."""
    loss, gradient, boundaries = loss_and_gradient(4, link)
    task, params = build(4, link)
    model, whole_boundaries = pipeline_stages.join(task.graph, jax.tree.map(np.asarray, params))

    def on_one_chip(model, whole_boundaries):
        inputs, labels = (jnp.asarray(a).reshape(8, -1) for a in tokens())
        x = model.enter(inputs)
        for block, boundary in zip(model.blocks, whole_boundaries, strict=True):
            x = block(x)
            x = boundary(x) if boundary is not whole_boundaries[-1] else x
        logits = jax.nn.log_softmax(model.leave(x))
        return -jnp.take_along_axis(logits, labels[..., None], -1).mean()

    expected, (by_model, by_boundary) = jax.jit(jax.value_and_grad(on_one_chip, argnums=(0, 1)))(
        model, nnx.List(whole_boundaries)
    )
    assert loss == pytest.approx(float(expected), rel=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), gradient, nnx.state(by_model))
    for ours, theirs in zip(boundaries[:-1], list(by_boundary)[:-1], strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), nnx.state(ours), nnx.state(theirs))


def test_bytes_are_those_the_codec_claims():
    """4 dies, 4 microbatches: 7 ticks on 3 links each way, and the thresholds once."""
    task, params = build(4, "count:3", "bf16")
    traffic = compiled_traffic(jax.jit(task.loss_and_gradient).lower(params, tokens()).compile(), task.mesh)
    crossing = traffic.where(lambda t: "boundary" in t.path)
    shape = (2, 16, SIZE.width)
    spikes = 3 * 7 * as_codec("count:3").payload_bytes(shape)
    assert spikes == 3 * 7 * (2 * 16 * SIZE.width * 3 // 8 + 1)
    forward = crossing.where(lambda t: t.direction == "forward")
    assert forward.sent_bytes == spikes + 3 * 4 * SIZE.width
    backward = crossing.where(lambda t: t.direction == "backward")
    assert backward.sent_bytes == 3 * 7 * as_codec("bf16").payload_bytes(shape)
    assert {t.dtype for t in crossing} == {"uint8"}
    rest = traffic.where(lambda t: "boundary" not in t.path)
    assert all(np.prod(t.shape, dtype=int) <= 1 for t in rest)  # the loss is summed, nothing else crosses


def test_evaluation_counts_every_spike_once():
    task, params = build(4, "ternary")
    (nats, correct), seen = jax.jit(task.evaluate)(params, tokens())
    assert nats.shape == correct.shape == (4, 2)
    assert (np.asarray(correct) <= 16).all()
    assert seen.counts.shape == (4, 3)
    np.testing.assert_array_equal(seen.counts.sum(-1), 4 * 2 * 16 * SIZE.width)
    np.testing.assert_array_equal(seen.elements, 4 * 2 * 16 * SIZE.width)
    np.testing.assert_array_equal(seen.sent_bytes, 4 * as_codec("ternary").payload_bytes((2, 16, SIZE.width)))
    loss = jax.jit(task.loss)(params, tokens())
    assert float(nats.sum()) / (4 * 2 * 16) == pytest.approx(float(loss), rel=1e-5)
    spikes = jax.jit(task.spikes)(params, tokens(micro=1))
    assert set(np.unique(np.stack(spikes))) == {-1, 0, 1}


def test_stages_join_to_the_model_they_came_from():
    model = rwkv.RWKV(SIZE, rngs=nnx.Rngs(3))
    graph, stacked = pipeline_stages.split(model, [Boundary(None, SIZE.width) for _ in range(2)])
    joined, _ = pipeline_stages.join(graph, stacked)
    jax.tree.map(np.testing.assert_array_equal, nnx.state(joined), nnx.state(model))
    with pytest.raises(snap.UsageError, match="chips=3 does not divide layers=4: use one of 1, 2, 4 chips"):
        pipeline_stages.split(model, [Boundary(None, SIZE.width) for _ in range(3)])


def test_pipeline_of_anything_is_the_composition_of_its_stages():
    """Each die adds its index + 1, spikes of Count(100, 1) carry integers exactly: x + 1 + 2 + 3 + 4."""

    class Link(Boundary):
        pass

    def run(x):
        boundary = Link(snap.Codec(snap.Count(100, 1.0)), 3)
        add = lambda y: y + 1.0 + lax.axis_index("stage")
        ends, notes = pipeline(
            lambda m: m, add, lambda y, m: y - m, x, "stage", boundary, watch=lambda y: jnp.float32(1)
        )
        return lax.psum(ends, "stage"), notes[None]

    x = jnp.asarray(np.random.default_rng(1).integers(-5, 5, (6, 3)), jnp.float32)
    mapped = jax.shard_map(run, mesh=auto_mesh({"stage": 4}), in_specs=P(), out_specs=(P(), P("stage")))
    ends, notes = jax.jit(mapped)(x)
    np.testing.assert_array_equal(ends, np.full((6, 3), 10.0))
    np.testing.assert_array_equal(notes, [6, 6, 6, 6])  # watched once a microbatch, idle ticks do not count


def test_boundary_learns_one_positive_threshold_a_channel():
    boundary = Boundary(snap.Codec(snap.Ternary(0.5)), 3)
    np.testing.assert_allclose(boundary.codec.encoding.threshold, [0.5] * 3, rtol=1e-6)
    assert boundary.log_threshold.shape == (3,)
    for spec in ("fp32", "bf16"):
        assert not jax.tree.leaves(nnx.state(Boundary(as_codec(spec), 3)))
    x = jnp.ones((2, 3))
    np.testing.assert_array_equal(Boundary(None, 3)(x), x)


def test_boundary_sends_what_its_call_promises():
    boundary = Boundary(snap.Codec(snap.Count(3, 0.3)), 4)
    x = jnp.asarray(np.random.default_rng(2).standard_normal((8, 4)), jnp.float32)

    def run(x):
        total = lax.pcast(boundary.psum(x, "x"), "x", to="varying")
        return boundary.all_gather(x, "x"), boundary.ppermute(x, "x", [(0, 1), (1, 0)]), total

    gathered, swapped, total = jax.jit(jax.shard_map(run, mesh=auto_mesh({"x": 2}), in_specs=P("x"), out_specs=P("x")))(
        x
    )
    seen = boundary(x)
    np.testing.assert_allclose(gathered[0], seen[:4], rtol=1e-6)
    np.testing.assert_allclose(swapped, jnp.concatenate([seen[4:], seen[:4]]), rtol=1e-6)
    np.testing.assert_allclose(total[:4], seen[:4] + seen[4:], rtol=1e-6)
