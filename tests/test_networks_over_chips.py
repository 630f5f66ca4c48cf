"""Networks whose stream changes its shape: over chips in any layout the same, and what crosses are bytes."""

import jax
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from snap_jax import results
from snap_jax.models import stages
from snap_jax.models.uneven import Layers
from snap_jax.nn import Boundary
from snap_jax.specs import parse_link, unit_normal_threshold
from snap_jax.tasks import divided, uneven
from snap_jax.tasks.layouts import Layout
from snap_jax.traffic import trace_compiled
from tests import small_networks
from tests.small_networks import pictures

pytestmark = pytest.mark.usefixtures("compiled_once_and_fast")


def divide(name, layout, link="dense", grad_link="dense"):
    return divided.build(small_networks.build(name), layout, parse_link(link), parse_link(grad_link))


def loss_and_gradient(name, layout):
    task, params = divide(name, layout)
    loss, gradient = jax.jit(task.loss_and_gradient)(params, pictures())
    model, _ = stages.join(task.graph, jax.tree.map(np.asarray, gradient))
    return float(loss), nnx.state(model)


@pytest.fixture(scope="module")
def whole():
    """On one chip."""
    return {name: loss_and_gradient(name, Layout()) for name in ("resnet", "efficientnet")}


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("resnet", Layout(tensor=2)),
        ("resnet", Layout(pipeline=4)),
        ("efficientnet", Layout(tensor=2)),
        ("efficientnet", Layout(data=2, pipeline=2)),
        ("resnet", Layout(pipeline=2, tensor=2)),
        ("efficientnet", Layout(pipeline=2, tensor=2)),
    ],
    ids=str,
)
def test_with_dense_links_chips_compute_what_one_computes(whole, name, layout):
    loss, gradient = loss_and_gradient(name, layout)
    assert loss == pytest.approx(whole[name][0], rel=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), gradient, whole[name][1])
    for leaf in jax.tree.leaves(gradient):
        assert np.abs(leaf).max() > 1e-5


def test_channels_inside_a_block_are_divided_and_thresholds_are_as_many_as_features():
    task, params = divide("efficientnet", Layout(tensor=2), "count:3")
    block, specs = params["model"]["blocks"][1], task.specs(params)["model"]["blocks"][1]
    split = {
        path: [i for i, axis in enumerate(spec[1:]) if axis == "tensor"]
        for path, spec in nnx.to_flat_state(specs)
        if "tensor" in spec
    }
    assert split == {
        ("depthwise", "conv", "kernel"): [3],
        ("depthwise", "norm", "bias"): [0],
        ("depthwise", "norm", "scale"): [0],
        ("expand", "conv", "kernel"): [3],
        ("expand", "norm", "bias"): [0],
        ("expand", "norm", "scale"): [0],
        ("gate", "down", "kernel"): [0],
        ("gate", "up", "bias"): [0],
        ("gate", "up", "kernel"): [1],
        ("project", "conv", "kernel"): [2],
    }
    assert block["region"]["boundary"]["log_threshold"].shape == (1, 24)
    assert block["gate"]["region"]["boundary"]["log_threshold"].shape == (1, 16 // 4)


def shots(size):
    """Of one sum over 2 chips, forward: each sends half as spikes of 3 bits and a header, then half a sum of 4 bits."""
    return 2 * (-(-size // 2 * 3 // 8) + 1 + -(-size // 2 * 4 // 8) + 1)


def test_what_leaves_a_block_divided_over_channels_are_bytes():
    """2 microbatches of 2 images, 4 x 4 and then 2 x 2 places: each block leaves its stream, and what gates it."""
    task, params = divide("efficientnet", Layout(tensor=2), "count:3", "bf16")
    traffic = trace_compiled(jax.jit(task.evaluate).lower(params, pictures()).compile(), task.mesh)
    crossing = traffic.where(lambda t: "boundary" in t.path)
    assert {t.dtype for t in crossing} == {"uint8"}
    streams, gates = [2 * 4 * 4 * 16, 2 * 2 * 2 * 24], [2 * 16 // 4] * 2
    assert crossing.sent_bytes == 2 * sum(map(shots, streams + gates))


def test_every_hop_is_a_message_of_its_own_size():
    """2 microbatches on 4 dies, 5 ticks: behind two blocks of 32 channels 4 x 4 places, behind the third 2 x 2 of 64.

    A spike takes 3 bits, a header 1 byte; 4 a threshold go ahead, once. Back, bf16 and a header.
    """
    task, params = divide("resnet", Layout(pipeline=4), "count:3", "bf16")
    traffic = trace_compiled(jax.jit(task.loss_and_gradient).lower(params, pictures()).compile(), task.mesh)
    crossing = traffic.where(lambda t: "boundary" in t.path)
    assert {t.dtype for t in crossing} == {"uint8"}
    assert {(t.op, len(t.perm)) for t in crossing} == {("ppermute", 1)}
    widths, sizes = [32, 32, 64], [2 * 4 * 4 * 32, 2 * 4 * 4 * 32, 2 * 2 * 2 * 64]
    rows = results.wire_section(traffic, task.mesh.shape, 5 * sum(sizes))["by_boundary"]
    expected = [5 * (size * 3 // 8 + 1) + 4 * width for size, width in zip(sizes, widths, strict=True)]
    assert [row["forward_bytes"] for row in rows] == expected
    assert [row["backward_bytes"] for row in rows] == [5 * (2 * size + 1) for size in sizes]
    assert sum(expected) == crossing.where(lambda t: t.direction == "forward").sent_bytes
    assert isinstance(task.graph, Layers)
    assert task.graph.thresholds(params) == pytest.approx([unit_normal_threshold(3)] * 4)


def test_replicas_average_each_parameter_in_its_own_size():
    """Several lie in one vector, and their gradients are of any size; what counts is the mean of each over replicas."""
    model, rng = small_networks.build("smaller"), np.random.default_rng(0)
    layers, params = stages.split(model, [Boundary(None, model.width(place)) for place in stages.cuts(model, 2)])
    assert isinstance(layers, Layers)
    sent = rng.standard_normal((2, *params["stages"].shape), np.float32) * 10.0 ** rng.integers(-2, 3, 2)[:, None, None]
    mesh = snap.mesh.make({"data": 2, "die": 2})
    run = lambda u: uneven.mean_sizes(layers, u[0], "data")[None]
    found = jax.jit(jax.shard_map(run, mesh=mesh, in_specs=P("data", "die"), out_specs=P("die")))(sent)
    for die, layer in enumerate(layers.stages):
        ends = np.cumsum(layer.rows.sizes("stages"))
        for start, end in zip([0, *ends], ends, strict=False):
            np.testing.assert_allclose(found[die, start:end], np.abs(sent[:, die, start:end]).mean(), rtol=1e-5)
        np.testing.assert_array_equal(found[die, ends[-1] :], 0)
