"""Tensor parallelism: divided over devices the same model, and what crosses are bytes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from snap_jax.codecs.link_spec import as_codec
from snap_jax.parallel import tensor_parallel
from snap_jax.parallel.mesh import auto_mesh
from snap_jax.parallel.partition import specs as specs_of
from snap_jax.parallel.tensor_parallel import DividedRegion, Region, WholeRegion
from tests.support import small_models
from tests.support.small_models import WIDTH, build, cross_entropy, tokens


class Quantised(Region):
    """What a `DividedRegion` region promises: `lax.psum` of quantised partial sums."""

    def __init__(self, region):
        self.features, self.boundary = region.features, region.boundary

    def enter(self, tree):
        return tree

    def share(self, x):
        return x

    def leave(self, partial):
        return lax.psum(self.boundary(partial), "tensor")


def program(model, chips):
    """Loss and gradient of a divided model as a function of its parameters and tokens."""
    graph, params = nnx.split(model)
    specs = specs_of(params)

    def both(params, rows):
        return jax.value_and_grad(lambda params: cross_entropy(nnx.merge(graph, params), rows))(params)

    where = auto_mesh({"tensor": chips})
    return jax.shard_map(both, mesh=where, in_specs=(specs, P()), out_specs=(P(), specs)), params


@pytest.fixture(scope="module")
def whole():
    """Loss and gradient on one chip."""
    both = jax.value_and_grad(cross_entropy)
    losses = {name: small_models.run(both, build(name), tokens(2, 9)) for name in ("transformer", "rwkv")}
    return {name: (loss, nnx.state(gradient)) for name, (loss, gradient) in losses.items()}


@pytest.mark.parametrize(("name", "chips"), [("transformer", n) for n in (1, 2, 4, 8)] + [("rwkv", 8)])
def test_with_dense_links_chips_compute_what_one_computes(whole, name, chips):
    run, params = program(tensor_parallel.divide(build(name), chips, None), chips)
    loss, gradient = small_models.run(run, params, tokens(2, 9))
    assert float(loss) == pytest.approx(float(whole[name][0]), rel=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), gradient, whole[name][1])
    for leaf in jax.tree.leaves(gradient):
        assert np.abs(leaf).max() > 1e-4


def test_with_coded_links_sums_are_those_of_quantised_parts():
    """Value, and gradient of all weights and thresholds, against `lax.psum(quantize(partial))`."""
    model = tensor_parallel.divide(build("transformer"), 2, as_codec("count:3"))
    run, params = program(model, 2)
    modules = dict(nnx.iter_modules(model))
    for path, module in modules.items():
        if isinstance(module, DividedRegion):
            modules[path[:-1]].region = Quantised(module)
    expected = small_models.run(program(model, 2)[0], params, tokens(2, 9))
    loss, gradient = small_models.run(run, params, tokens(2, 9))
    assert float(loss) == pytest.approx(float(expected[0]), rel=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), gradient, expected[1])
    thresholds = [leaf for path, leaf in nnx.to_flat_state(gradient) if "region" in path]
    assert len(thresholds) == 2
    assert all(np.abs(leaf[...]).max() > 1e-3 for leaf in thresholds)


def test_what_crosses_are_bytes_both_ways():
    """Two regions on 4 chips. Forward, two shots of 2 * 8 * 32 / 4 = 128 spikes a part: 3 bits and a header each, then
    sums of -12 ... 12, 5 bits. Back, what entered and the thresholds of each region, bf16 twice.
    """
    model = tensor_parallel.divide(build("transformer"), 4, as_codec("count:3"), as_codec("bf16"))
    run, params = program(model, 4)
    snap.assert_no_float_collectives(run, params, tokens(2, 9))
    traffic = snap.compiled_traffic(jax.jit(run).lower(params, tokens(2, 9)).compile())
    assert {t.dtype for t in traffic} == {"uint8"}
    sent = {way: traffic.where(lambda t, way=way: t.direction == way).sent_bytes for way in ("forward", "backward")}
    shots = lambda first, second: 4 * 3 * (first + second)
    assert sent["forward"] == 2 * shots(128 * 3 // 8 + 1, 128 * 5 // 8 + 1)
    assert sent["backward"] == 2 * (shots(2 * 128 + 1, 2 * 128 + 1) + shots(2 * WIDTH // 4 + 1, 2 * WIDTH // 4 + 1))


def test_coded_cotangents_are_near_the_dense_ones():
    """bf16 keeps 8 bits: each of two roundings is off by 2^-9 at most, a few of them in a row."""
    x = jnp.asarray(np.random.default_rng(0).standard_normal((4, 8, WIDTH)), jnp.float32)
    codec = snap.Codec(snap.Count(3, jnp.full(WIDTH, 0.5)))

    def gradient(grad_codec):
        def loss(codec, shared, x):
            inside = tensor_parallel.spread(shared, "tensor", grad_codec)
            y = tensor_parallel.total(x * inside, "tensor", codec, grad_codec)
            return jnp.sum(jnp.sin(y))

        run = jax.grad(loss, (0, 1))
        on_chips = jax.shard_map(run, mesh=auto_mesh({"tensor": 4}), in_specs=(P(), P(), P("tensor")), out_specs=P())
        return jax.tree.leaves(jax.jit(on_chips)(codec, jnp.linspace(0.5, 1.5, WIDTH), x))

    for dense, coded in zip(gradient(None), gradient(as_codec("bf16")), strict=True):
        np.testing.assert_allclose(coded, dense, atol=2**-7 * np.abs(dense).max())
        assert np.abs(coded - dense).max() > 0


def test_a_model_keeps_its_parameters_and_one_device_its_region():
    model = build("rwkv")
    dense = tensor_parallel.divide(model, 2, None)
    jax.tree.map(np.testing.assert_array_equal, nnx.state(dense), nnx.state(model))
    assert isinstance(model.blocks[0].time_mix.region, WholeRegion)
    assert model.blocks[0].time_mix.norm.num_groups == 2 * dense.blocks[0].time_mix.norm.num_groups
    specs = specs_of(nnx.state(model), "stage")
    assert specs["blocks"][0]["channel_mix"]["value"]["kernel"].get_value() == P("stage", "tensor")
    assert specs["blocks"][0]["channel_mix"]["receptance"]["kernel"].get_value() == P("stage")


def test_mistakes_are_named():
    message = r"3 devices do not divide blocks\.0\.attention\.key\.kernel of shape \(32, 8, 4\), 8 of it: use a divisor"
    with pytest.raises(snap.UsageError, match=message):
        tensor_parallel.divide(build("transformer"), 3, None)
    with pytest.raises(snap.UsageError, match=r"Linear has no Region, so nothing would be divided: use snap\.place"):
        tensor_parallel.divide(nnx.Linear(4, 4, rngs=nnx.Rngs(0)), 2, None)


def test_a_sum_that_is_coded_again_has_the_threshold_of_the_sum():
    """Parts of unit-normal sums over 2, 4, 8 devices: the error power does not grow with the devices.

    A part of n is `1 / sqrt(n)` as large as the sum, and so is its threshold; the sum is coded with the codec as given.
    """
    codec = as_codec("latency:8")
    for devices in (2, 4, 8):
        region = DividedRegion(1, codec, None, devices=devices)
        part = region.boundary.codec.encoding.threshold
        np.testing.assert_allclose(part, codec.encoding.threshold / np.sqrt(devices), rtol=1e-6)
        again = tensor_parallel.sum_codec_of(region.boundary.codec, devices)
        np.testing.assert_allclose(again.encoding.threshold, codec.encoding.threshold, rtol=1e-6)
    x = np.random.default_rng(0).standard_normal((8, 512, 1)).astype(np.float32)
    errors = []
    for devices in (2, 8):
        parts = jnp.asarray(x[:devices] / np.sqrt(devices))
        region = DividedRegion(1, codec, None, devices=devices)
        shared = jax.shard_map(region.leave, mesh=auto_mesh({"tensor": devices}), in_specs=P("tensor"), out_specs=P())
        run = jax.jit(shared)
        errors.append(float(jnp.mean(jnp.square(run(parts)[0] - parts.sum(0)))))
    assert errors[1] < 1.3 * errors[0]


def test_a_layer_that_says_nothing_is_whole_whatever_its_name():
    layer = nnx.Dict(mlp=nnx.Dict(up=nnx.Linear(8, 8, rngs=nnx.Rngs(0))))
    assert set(jax.tree.leaves(specs_of(nnx.state(layer)))) == {P()}
