"""A codec per mesh axis: coded between pods, floats inside; and axes that are none, one or a list."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from snap_jax._compat import as_varying
from snap_jax.parallel.mesh import auto_mesh
from snap_jax.traffic.jaxpr import collective_traffic
from tests.support.programs import sample

BOTH = ("pod", "device")
MESH = auto_mesh({"pod": 2, "device": 4})
PER_CHANNEL = jnp.linspace(0.5, 2.0, 10)


def whole(shape, seed=0):
    """Whole numbers, whose sums are exact in any order."""
    return jnp.round(2 * sample(shape, seed=seed))


def value_and_gradients(total, x, threshold):
    """On every device; the loss weighs devices and elements differently."""

    def loss(x, threshold):
        y = total(x, threshold)
        weight = jnp.sin(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)
        return jnp.sum(jnp.tanh(y / 8) * weight * (1 + lax.axis_index(BOTH))), y

    def program(x, threshold):
        (_, y), gradients = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(x[0], threshold)
        return jax.tree.map(lambda a: as_varying(a, BOTH)[None], (y, *gradients))

    run = jax.shard_map(program, mesh=MESH, in_specs=(P(BOTH), P()), out_specs=P(BOTH))
    return jax.jit(run)(x, threshold)


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("slow", ["pod", "device"])
@pytest.mark.parametrize("sum_codec", [None, snap.Codec(snap.Cast("float32"))], ids=["exact", "coded again"])
def test_a_codec_on_one_axis_quantizes_the_sum_over_the_other(slow, sum_codec, mean):
    """9 x 10 elements in 4 or 2 parts, one threshold per channel: 90 is no multiple of 4."""
    fast = "device" if slow == "pod" else "pod"
    codec_of = lambda t: snap.Codec(snap.Count(5, t))
    ours, of_lax = (snap.pmean, lax.pmean) if mean else (snap.psum, lax.psum)
    coded = lambda x, t: ours(x, BOTH, codec={slow: codec_of(t), fast: None}, sum_codec=sum_codec)
    plain = lambda x, t: (
        of_lax(codec_of(t).quantize(lax.psum(x, fast)), slow) / (8 / lax.axis_size(slow) if mean else 1)
    )
    found, expected = (value_and_gradients(f, whole((8, 9, 10)), PER_CHANNEL) for f in (coded, plain))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_slow_axis_is_coded_and_the_fast_one_sends_floats():
    """800 elements, 2 pods of 4: 200 floats per device inside; between pods parts of 100 spikes, sums of 5 levels."""
    total = lambda x: snap.psum(x, BOTH, codec={"pod": "ternary"})
    run = jax.shard_map(total, mesh=MESH, in_specs=P(BOTH), out_specs=P())
    header = 1
    assert [(t.op, t.axes, t.dtype, t.bytes) for t in collective_traffic(run)(sample((8, 800)))] == [
        ("psum_scatter", ("device",), "float32", 800 * 4),
        ("all_to_all", ("pod",), "uint8", 2 * (100 * 2 // 8 + header)),
        ("all_gather", ("pod",), "uint8", 100 * 2 // 8 + -(-100 * 1 // 8) + header),
        ("all_gather", ("device",), "float32", 200 * 4),
    ]


def test_a_pytree_is_one_message_between_pods():
    tree = lambda x: {"a": x, "b": (3 * x[0], x[0, 0])}
    codec = snap.Codec(snap.Count(5, 1.0))

    def program(x):
        coded = snap.psum(tree(x), BOTH, codec={"pod": codec})
        plain = lax.psum(jax.tree.map(codec.quantize, lax.psum(tree(x), "device")), "pod")
        return coded, plain

    run = jax.shard_map(program, mesh=MESH, in_specs=P(BOTH), out_specs=P())
    coded, plain = jax.jit(run)(whole((8, 10)))
    jax.tree.map(np.testing.assert_array_equal, coded, plain)
    assert [t.dtype for t in collective_traffic(run)(whole((8, 1000)))].count("uint8") == 2


@pytest.mark.parametrize("codec", [{"pod": "ternary", "device": "ternary"}, {"pod": None}])
def test_all_axes_or_none(codec):
    def program(x):
        same = "ternary" if codec["pod"] else None
        return snap.psum(x, BOTH, codec=codec), snap.psum(x, BOTH, codec=same)

    run = jax.shard_map(program, mesh=MESH, in_specs=P(BOTH), out_specs=P())
    np.testing.assert_array_equal(*jax.jit(run)(sample((8, 10))))


def test_a_dict_with_the_keys_of_x_is_a_codec_per_array():
    def program(x):
        return snap.psum({"pod": x, "device": x}, BOTH, codec={"pod": None, "device": "ternary"})

    run = jax.shard_map(program, mesh=MESH, in_specs=P(BOTH), out_specs=P())
    np.testing.assert_array_equal(jax.jit(run)(whole((8, 10)))["pod"][0], whole((8, 10)).sum(0))


@pytest.mark.parametrize("axes", [(), ["pod", "device"]], ids=str)
@pytest.mark.parametrize("name", ["psum", "pmean"])
def test_no_axis_and_a_list_of_axes(name, axes):
    codec = snap.Codec(snap.Count(3, 0.5))

    def program(x):
        coded, plain = getattr(snap, name)(x, axes, codec=codec), getattr(lax, name)(codec.quantize(x), axes)
        return jax.tree.map(lambda y: as_varying(y, BOTH), (coded, plain))

    run = jax.shard_map(program, mesh=MESH, in_specs=P(BOTH), out_specs=P(BOTH))
    coded, plain = jax.jit(run)(sample((8, 10)))
    np.testing.assert_allclose(coded, plain, atol=1e-6)


def test_what_moves_over_no_axis_is_what_lax_makes_of_it():
    codec, x = snap.Codec(snap.Count(3, 0.5)), sample((8, 4))

    def program(x):
        calls = [
            lambda c, x, **k: c.all_gather(x, (), **k),
            lambda c, x, **k: c.psum_scatter(x, (), tiled=True, **k),
            lambda c, x, **k: c.all_to_all(x, (), 1, 0, tiled=True, **k),
            lambda c, x, **k: c.ppermute(x, (), [(0, 0)], **k),
        ]
        return [(call(snap, x, codec=codec), call(lax, codec.quantize(x))) for call in calls]

    run = jax.shard_map(program, mesh=MESH, in_specs=P(BOTH), out_specs=P(BOTH))
    for coded, plain in jax.jit(run)(x):
        np.testing.assert_array_equal(coded, plain)


def test_a_codec_for_each_axis_is_one_for_all():
    """Where it is the same for all axes, in all collectives; `None` sends floats."""

    def program(x):
        calls = [
            lambda codec: snap.all_gather(x, BOTH, codec=codec, tiled=True),
            lambda codec: snap.ppermute(x, BOTH, [(0, 3)], codec=codec),
            lambda codec: snap.all_to_all(x, "pod", 0, 0, tiled=True, codec=codec),
        ]
        named = [{"pod": "ternary", "device": "ternary"}, {"pod": "ternary", "device": "ternary"}, {"pod": "ternary"}]
        coded = [(call(codec), call("ternary")) for call, codec in zip(calls, named, strict=True)]
        return [*coded, (calls[0]({"pod": None}), calls[0](None))]

    run = jax.shard_map(program, mesh=MESH, in_specs=P(BOTH), out_specs=P(BOTH))
    for named, plain in jax.jit(run)(sample((64, 3))):
        np.testing.assert_array_equal(named, plain)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (lambda x: snap.psum(x, BOTH, codec={"pod": "ternary", "device": "int8"}), "differs between axes"),
        (
            lambda x: snap.all_gather(x, BOTH, codec={"pod": "ternary"}),
            r"only, for which write y = all_gather\(x, 'pod', codec='ternary'\), then all_gather\(y, 'device'\)",
        ),
        (
            lambda x: snap.psum_scatter(x, BOTH, codec={"device": "ternary"}, tiled=True),
            r"y = psum_scatter\(x, 'pod'\), then psum_scatter\(y, 'device', codec='ternary'\)",
        ),
        (
            lambda x: snap.ppermute(x, BOTH, [(0, 1)], codec={"pod": "ternary"}),
            "one ppermute for 'device', and one for 'pod' with codec='ternary'",
        ),
        (lambda x: snap.psum(x, BOTH, codec={"pod": "ternary"}, return_sent=True), "codes some axes only"),
        (
            lambda x: snap.psum(x, BOTH, codec={"pod": "int8"}, sum_codec=snap.Codec(snap.Count(3, jnp.ones(10)))),
            "the threshold of sum_codec= must be one number",
        ),
    ],
)
def test_errors_say_the_fix(program, message):
    run = jax.shard_map(program, mesh=MESH, in_specs=P(BOTH), out_specs=P())
    with pytest.raises(snap.UsageError, match=message):
        jax.eval_shape(run, sample((8, 10)))
