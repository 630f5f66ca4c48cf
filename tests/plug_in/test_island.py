"""`snap.island`: one block of a program that the compiler shards."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from tests.support.programs import sample

CODEC = snap.Codec(snap.Count(7, 0.25))
# A layer whose first matrix is divided by columns and whose second by rows, a batch over "data".
SPECS = {"up": P(None, "tp"), "down": P("tp")}, P("data")
KINDS = [AxisType.Auto, AxisType.Explicit]


def layer(params, x):
    return jnp.tanh(x @ params["up"]) @ params["down"]


def mesh_of(kind, data=2):
    return jax.make_mesh((data, 2), ("data", "tp"), axis_types=(kind,) * 2)


def arguments(mesh):
    values = {"up": sample((16, 32)) / 4, "down": sample((32, 16), seed=1) / 4}, sample((8, 16), seed=2)
    return jax.tree.map(lambda a, spec: jax.device_put(a, NamedSharding(mesh, spec)), values, SPECS)


def on_one_device(codec, params, x):
    """The sum of what the two halves of the layer give, each quantized as its device sends it."""
    halves = [{"up": params["up"][:, h], "down": params["down"][h]} for h in (slice(16), slice(16, 32))]
    rows = [slice(4), slice(4, 8)]
    quantize = (lambda y: y) if codec is None else codec.quantize
    return jnp.concatenate([sum(quantize(layer(half, x[row])) for half in halves) for row in rows])


@pytest.mark.parametrize("codec", [None, CODEC], ids=["floats", "spikes"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_value_and_gradients_are_those_of_one_device(kind, codec):
    mesh = mesh_of(kind)
    known = {"specs": SPECS, "mesh": mesh} if kind is AxisType.Auto else {}

    def loss(run, params, x):
        y = run(params, x)
        return jnp.sum(y**2), y

    with jax.set_mesh(mesh) if kind is AxisType.Explicit else contextlib.nullcontext():
        params, x = arguments(mesh)
        gradients = jax.value_and_grad(loss, (1, 2), has_aux=True)
        found = jax.jit(lambda p, x: gradients(snap.island(layer, "tp", codec, **known), p, x))(params, x)
    params, x = jax.tree.map(np.asarray, (params, x))
    expected = gradients(lambda p, x: on_one_device(codec, p, x), params, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), found, expected)


def test_nothing_but_spikes_crosses_in_either_direction():
    mesh = mesh_of(AxisType.Auto, data=1)
    params, x = arguments(mesh)
    floats = jax.jit(jax.grad(lambda params, x: jnp.sum(layer(params, x) ** 2), 1))
    with pytest.raises(AssertionError, match=r"(?s)snap\.island.*psum +tp \(2\) +float32"):
        snap.assert_no_float_collectives(floats, params, x)
    block = snap.island(layer, "tp", CODEC, grad_codec="int8:absmax", specs=SPECS, mesh=mesh)
    spikes = jax.jit(jax.grad(lambda params, x: jnp.sum(block(params, x) ** 2), 1))
    snap.assert_no_float_collectives(spikes, params, x)
    assert {t.axes for t in snap.collective_traffic(spikes)(params, x)} == {("tp",)}


def test_a_learned_threshold_has_the_gradient_of_one_device():
    mesh = mesh_of(AxisType.Auto)
    params, x = arguments(mesh)
    codec_of = lambda t: snap.Codec(snap.Count(7, t))
    block = lambda t: snap.island(layer, "tp", codec_of(t), specs=SPECS, mesh=mesh)(params, x)
    found = jax.jit(jax.grad(lambda t: jnp.sum(block(t) ** 2)))(jnp.full(16, 0.25))
    params, x = jax.tree.map(np.asarray, (params, x))
    expected = jax.grad(lambda t: jnp.sum(on_one_device(codec_of(t), params, x) ** 2))(jnp.full(16, 0.25))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_without_an_axis_the_block_sends_by_itself():
    mesh = mesh_of(AxisType.Auto)
    params, x = arguments(mesh)
    send = lambda params, x: snap.psum(layer(params, x), "tp", codec=CODEC)
    block = snap.island(send, specs=SPECS, out_specs=P("data"), mesh=mesh)
    np.testing.assert_allclose(jax.jit(block)(params, x), on_one_device(CODEC, params, x), atol=1e-5)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({}, r"there is no mesh here.*jax\.set_mesh"),
        ({"mesh": mesh_of(AxisType.Auto)}, r"Auto axes \('data', 'tp'\): give specs="),
        ({"mesh": mesh_of(AxisType.Auto), "specs": SPECS[::-1]}, "give out_specs="),
    ],
    ids=["mesh", "specs", "out_specs"],
)
def test_what_is_missing_is_named(keywords, message):
    params, x = {"up": jnp.ones((16, 32)), "down": jnp.ones((32, 16))}, jnp.ones((8, 16))
    with pytest.raises(snap.UsageError, match=message):
        snap.island(layer, "tp", CODEC, **keywords)(*((x, params) if "specs" in keywords else (params, x)))
