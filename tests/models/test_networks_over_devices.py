"""Networks whose stream changes its shape: over devices in any layout the same, and what crosses are bytes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec as P

from snap_jax.boundary.boundary import Boundary
from snap_jax.codecs.link_spec import as_codec, unit_normal_threshold
from snap_jax.models.split import cuts, split
from snap_jax.parallel import tensor_parallel
from snap_jax.parallel.mesh import auto_mesh
from snap_jax.parallel.partition import split_of
from snap_jax.traffic.hlo import compiled_traffic
from snap_jax.traffic.jaxpr import collective_traffic
from snap_jax.training import result_json
from snap_jax.training.tasks import assemble
from snap_jax.training.tasks.layout import Layout
from tests.support import small_networks
from tests.support.small_networks import images


def divide(name, layout, link="fp32", grad_link="fp32"):
    return assemble.build(small_networks.build(name), layout, as_codec(link), as_codec(grad_link))


def loss_and_gradient(name, layout):
    task, params = divide(name, layout)
    loss, gradient = jax.jit(task.loss_and_gradient)(params, images())
    model, _ = task.stages.join(jax.tree.map(np.asarray, gradient))
    return float(loss), nnx.state(model)


def traffic_of(task, function, params):
    program = jax.jit(function).lower(params, images()).compile()
    return compiled_traffic(program, task.mesh, schedule=task.schedule_of(images()))


@pytest.fixture(scope="module")
def whole():
    """On one device."""
    return {name: loss_and_gradient(name, Layout()) for name in ("resnet", "efficientnet")}


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("resnet", Layout(tensor=2)),
        ("resnet", Layout(pipeline=4)),
        ("efficientnet", Layout(tensor=2)),
        ("resnet", Layout(pipeline=2, tensor=2)),
        ("efficientnet", Layout(data=2, pipeline=2, tensor=2)),
    ],
    ids=str,
)
def test_with_dense_links_devices_compute_what_one_computes(whole, name, layout):
    loss, gradient = loss_and_gradient(name, layout)
    assert loss == pytest.approx(whole[name][0], rel=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), gradient, whole[name][1])
    for leaf in jax.tree.leaves(gradient):
        assert np.abs(leaf).max() > 1e-5


def test_channels_inside_a_block_are_divided_and_thresholds_are_as_many_as_features():
    task, params = divide("efficientnet", Layout(tensor=2), "count:3")
    block, specs = params["model"]["blocks"][1], task.specs(params)["model"]["blocks"][1]
    split = {
        path: [i for i, axis in enumerate(spec.get_value()[1:]) if axis == "tensor"]
        for path, spec in nnx.to_flat_state(specs)
        if "tensor" in spec.get_value()
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
    """One sum over 2 devices, forward: half as spikes of 3 bits, half as sums of 4 bits, each with a header."""
    return 2 * (-(-size // 2 * 3 // 8) + 1 + -(-size // 2 * 4 // 8) + 1)


def test_what_leaves_a_block_divided_over_channels_are_bytes():
    """2 microbatches of 2 images, 4 x 4 and then 2 x 2 places: each block leaves its stream, and what gates it."""
    task, params = divide("efficientnet", Layout(tensor=2), "count:3", "bf16")
    traffic = traffic_of(task, task.evaluate, params)
    crossing = traffic.where(lambda t: "boundary" in t.path)
    assert {t.dtype for t in crossing} == {"uint8"}
    streams, gates = [2 * 4 * 4 * 16, 2 * 2 * 2 * 24], [2 * 16 // 4] * 2
    assert crossing.sent_bytes == 2 * sum(map(shots, streams + gates))


def test_every_hop_is_a_message_of_its_own_size():
    """2 microbatches on 4 stages, 5 ticks: behind two blocks of 32 channels 4 x 4 places, behind the third 2 x 2 of 64.

    A spike takes 3 bits, a header 1 byte; 4 a threshold go ahead, once. Back, bf16 and a header.
    """
    task, params = divide("resnet", Layout(pipeline=4), "count:3", "bf16")
    traffic = traffic_of(task, task.loss_and_gradient, params)
    crossing = traffic.where(lambda t: "boundary" in t.path)
    assert {t.dtype for t in crossing} == {"uint8"}
    assert {(t.op, len(t.perm)) for t in crossing} == {("ppermute", 1)}
    widths, sizes = [32, 32, 64], [2 * 4 * 4 * 32, 2 * 4 * 4 * 32, 2 * 2 * 2 * 64]
    rows = result_json.wire_section(traffic, task.mesh.shape, 5 * sum(sizes))["by_boundary"]
    expected = [5 * (size * 3 // 8 + 1) + 4 * width for size, width in zip(sizes, widths, strict=True)]
    assert [row["forward_bytes"] for row in rows] == expected
    assert [row["backward_bytes"] for row in rows] == [5 * (2 * size + 1) for size in sizes]
    assert sum(expected) == crossing.where(lambda t: t.direction == "forward").sent_bytes
    assert task.stages.thresholds(params) == pytest.approx([unit_normal_threshold(3)] * 4)


def test_stages_and_their_devices_send_bytes_and_each_sum_counts_once_per_microbatch():
    """2 microbatches of 2 images, 3 ticks. Stage 0 has two regions of 32 x 4 x 4, stage 1 two of 64 x 2 x 2.

    Both devices of stage 0 send to stage 1 in every tick: 3 bits per spike, a header, and once 4 bytes per threshold.
    """
    task, params = divide("resnet", Layout(pipeline=2, tensor=2), "count:3", "bf16")
    evaluate = jax.jit(task.evaluate)
    sent, schedule = traffic_of(task, evaluate, params), task.schedule_of(images())
    streams, thresholds = [2 * 4 * 4 * 32, 2 * 2 * 2 * 64], 4 * 32
    sums, hops = 2 * sum(2 * shots(size) for size in streams), 2 * (3 * (streams[0] * 3 // 8 + 1) + thresholds)
    for traffic in (sent, collective_traffic(evaluate, schedule=schedule)(params, images())):
        crossing = traffic.where(lambda t: "boundary" in t.path)
        assert {t.dtype for t in crossing} == {"uint8"}
        assert {t.groups for t in crossing if "tensor" in t.axes} == {1}
        rows = result_json.wire_section(traffic, task.mesh.shape, 1)["by_boundary"]
        assert [(row["path"], row["forward_bytes"]) for row in rows] == [
            ("stage 0 to stage 1", hops),
            ("sums of tensor regions", sums),
        ]


@pytest.fixture(scope="module")
def divided_twice():
    """The parameters of two stages of two devices each, and the model that they are of."""
    model = tensor_parallel.divide(small_networks.build("efficientnet"), 2, as_codec("count:3"))
    boundaries = [Boundary(as_codec("count:3"), model.width(place)) for place in cuts(model, 2)]
    return model, *split(model, boundaries)


def test_what_devices_divide_of_a_stage_is_their_shares_and_joins_to_the_very_model(divided_twice):
    model, layers, params = divided_twice
    assert {name: p.shape[:-1] for name, p in params.items()} == {"stages": (2,), "shares": (2, 2)}
    joined, _ = layers.join(params)
    jax.tree.map(np.testing.assert_array_equal, nnx.state(joined), nnx.state(model))
    for stage in range(2):
        for device in range(2):
            lying = {"stages": params["stages"][stage], "shares": params["shares"][stage, device : device + 1]}
            [block] = layers.stages[stage].unpack(lying).model.blocks
            for path, own in nnx.to_flat_state(nnx.state(block)):
                whole = dict(nnx.to_flat_state(nnx.state(model.blocks[stage])))[path][...]
                part = [slice(None)] * whole.ndim
                if (axis := split_of(own)) is not None:
                    part[axis] = slice(device * whole.shape[axis] // 2, (device + 1) * whole.shape[axis] // 2)
                np.testing.assert_array_equal(own[...], whole[tuple(part)])


def test_thresholds_of_boundaries_rise_where_devices_divide_the_rest(divided_twice):
    _, layers, params = divided_twice
    raised = layers.raise_thresholds(params, jnp.log(jnp.array([2.0, 4.0])))
    np.testing.assert_allclose(layers.thresholds(raised), np.array(layers.thresholds(params)) * [2, 4], rtol=1e-6)
    (before, _), (after, _) = (layers.join(p) for p in (params, raised))
    jax.tree.map(np.testing.assert_array_equal, nnx.state(after), nnx.state(before))


def test_replicas_average_each_parameter_in_its_own_size(divided_twice):
    """Several lie in one vector, and their gradients are of any size; what counts is the mean of each over replicas.

    Of what devices divide, the mean of the part of each.
    """
    _, layers, params = divided_twice
    mesh, rng = auto_mesh({"data": 2, "stage": 2, "tensor": 2}), np.random.default_rng(0)
    specs = {"stages": P("stage"), "shares": P("stage", "tensor")}
    scales = 10.0 ** rng.integers(-2, 3, 2)

    def sizes(u):
        found = layers.mean_size(u[0], "data")
        return found.reshape(u.shape[1:])

    for name, spec in specs.items():
        sent = rng.standard_normal((2, *params[name].shape), np.float32)
        sent *= scales.reshape(-1, *[1] * params[name].ndim)
        run = jax.shard_map(sizes, mesh=mesh, in_specs=P("data", *spec), out_specs=spec)
        found = np.asarray(jax.jit(run)(sent)).reshape(2, -1, params[name].shape[-1])
        for stage, layer in enumerate(layers.stages):
            ends = np.cumsum(layer.rows.sizes(name))
            for device, row in enumerate(found[stage]):
                ours = np.abs(sent[:, stage] if name == "stages" else sent[:, stage, device])
                for start, end in zip([0, *ends], ends, strict=False):
                    np.testing.assert_allclose(row[start:end], ours[:, start:end].mean(), rtol=1e-5)
                np.testing.assert_array_equal(row[ends[-1] :], 0)
