"""A `shard_map` that is manual over some mesh axes, while the compiler divides arrays along the others."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from snap_jax._compat import as_varying
from snap_jax.traffic.check import FloatCollectiveError
from tests.support.programs import PAIRS, PER_CHANNEL, assert_same, sample

LADDER = snap.Ladder((snap.Events(0.25), snap.Packed()))
CODECS = {
    "ternary": lambda t: snap.Codec(snap.Ternary(t)),
    "ladder": lambda t: snap.Codec(snap.Count(3, t), LADDER),
    "absmax": lambda t: snap.Codec(snap.Int(4)),
    "channel": lambda t: snap.Codec(snap.Int(4, block="channel")),
    "token": lambda t: snap.Codec(snap.Scaled(snap.Count(3, t), "token")),
    "topk": lambda t: snap.Codec(snap.TopK(0.1)),
    "of each device": lambda t: snap.Codec(snap.Ternary(t * (1 + lax.axis_index("x")))),
}
HOP = [(0, 1), (1, 0)]


def mesh_of(kind):
    return jax.make_mesh((2, 2), ("x", "o"), axis_types=(kind,) * 2)


def on(kind):
    """Where arrays of explicit meshes may be used."""
    return jax.set_mesh(mesh_of(kind)) if kind is AxisType.Explicit else contextlib.nullcontext()


def partly(function, kind, specs=None):
    specs = P("x") if specs is None else specs
    return jax.shard_map(function, mesh=mesh_of(kind), in_specs=specs, out_specs=P("x"), axis_names={"x"})


def placed(x, kind, spec):
    return jax.device_put(x, NamedSharding(mesh_of(kind), spec))


CASES = [
    (AxisType.Auto, P("x", "o"), "ternary", "all_gather-tiled"),
    (AxisType.Auto, P("x", "o"), "ladder", "psum"),
    (AxisType.Auto, P("x", "o"), "of each device", "ppermute"),
    (AxisType.Auto, P("x", "o"), "absmax", "psum_scatter"),
    (AxisType.Auto, P("x", None, "o"), "token", "ppermute"),
    (AxisType.Auto, P("x", None, "o"), "topk", "all_to_all"),
    (AxisType.Auto, P("x"), "ladder", "all_to_all-untiled"),
    (AxisType.Explicit, P("x", "o"), "ternary", "ppermute"),
    (AxisType.Explicit, P("x", "o"), "ladder", "psum"),
    (AxisType.Explicit, P("x", None, "o"), "channel", "all_to_all"),
    (AxisType.Explicit, P("x", None, "o"), "of each device", "ppermute"),
]


@pytest.mark.parametrize(("kind", "spec", "codec", "collective"), CASES, ids=lambda v: getattr(v, "name", str(v)))
def test_invariant_2_beside_other_axes(kind, spec, codec, collective):
    """Value, and gradients of input and threshold, bit for bit where data only moves."""
    pair, untiled = PAIRS[collective], collective.endswith("untiled")

    def loss(run, x, threshold):
        def local(x, threshold):
            return as_varying(run(x[0] if untiled else x, CODECS[codec](threshold)), ("x",))

        y = partly(local, kind, (P("x"), P()))(x, threshold)
        return jnp.sum(jnp.tanh(y) ** 2), y

    def value_and_gradients(run, x, threshold):
        (_, y), gradients = jax.value_and_grad(loss, (1, 2), has_aux=True)(run, x, threshold)
        return y, *gradients

    def program(x, threshold):
        coded = value_and_gradients(lambda x, c: pair.coded(x, "x", c), x, threshold)
        return coded, value_and_gradients(lambda x, c: pair.plain(c.quantize(x), "x"), x, threshold)

    with on(kind):
        x = sample((2, 2, 16) if untiled else (2, 8, 16))
        found = jax.jit(program)(placed(x, kind, spec), PER_CHANNEL)
        assert_same(collective, *jax.tree.map(np.asarray, found))


def bytes_over(traffic, axis):
    return [t.bytes for t in traffic if t.axes == (axis,)]


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=lambda kind: kind.name)
@pytest.mark.parametrize("collective", ["ppermute", "psum"])
def test_each_device_sends_the_payload_of_its_own_part(collective, kind):
    """Over the other axis cross single numbers, and what JAX itself gathers of arrays of explicit axes."""
    codec = snap.codec("ternary")
    with on(kind):
        x = placed(sample((2, 64, 256)), kind, P("x", "o"))
        f = jax.jit(partly(lambda x: as_varying(PAIRS[collective].coded(x, "x", codec), ("x",)), kind))
        asked, sent = snap.collective_traffic(f)(x), snap.compiled_traffic(f.lower(x).compile(), mesh_of(kind))
    quarter = 64 * 256 // 2
    assert codec.payload_bytes((quarter,)) == quarter * 2 // 8 + 1
    # A sum goes in two halves of 2 bits each, and comes back as one of 3 bits: five values of two devices.
    expected = {"ppermute": [quarter // 4 + 1], "psum": [quarter // 4 + 2, quarter // 2 * 3 // 8 + 1]}[collective]
    assert bytes_over(sent, "x") == bytes_over(asked, "x") == expected
    others = [t for t in sent if t.axes == ("o",) and t.bytes > 4]
    assert all(kind is AxisType.Explicit and t.dtype == "float32" and t.op == "all_gather" for t in others)


def test_what_the_compiler_moves_is_counted_and_refused():
    """Channels are divided, the payload along the batch: the compiler moves the floats between the two."""
    x = placed(sample((2, 64, 256)), AxisType.Auto, P("x", None, "o"))
    f = jax.jit(partly(lambda x: snap.ppermute(x, "x", HOP, codec="ternary"), AxisType.Auto))
    moved = [t for t in snap.compiled_traffic(f.lower(x).compile(), mesh_of(AxisType.Auto)) if t.dtype == "float32"]
    assert [(t.op, t.axes, t.bytes) for t in moved if len(t.shape) > 1] == [("all_to_all", ("o",), 4 * 64 * 256 // 2)]
    with pytest.raises(FloatCollectiveError, match=r"snap\.island"):
        snap.assert_no_float_collectives(f, x)
    kept = placed(x, AxisType.Auto, P("x", "o"))
    snap.assert_no_float_collectives(f, kept)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda x: snap.all_to_all(x, "x", 1, 0, tiled=True, codec="ternary"), r"cannot cut dimension 1 .* \('o',\)"),
        (lambda x: snap.psum(x, "x", codec="int4", sum_codec="int8:absmax"), r"sum_codec= does not work beside \('o',"),
        (lambda x: snap.ppermute(x, "x", HOP, codec="topk:0.1"), r"TopK.*Explicit mesh axes.*manual"),
    ],
    ids=["cut", "sum_codec", "topk"],
)
def test_what_cannot_work_says_what_to_do(run, message):
    with on(AxisType.Explicit):
        x = placed(sample((2, 8, 16)), AxisType.Explicit, P("x", "o"))
        with pytest.raises(snap.UsageError, match=message):
            jax.eval_shape(partly(run, AxisType.Explicit), x)


def test_a_codec_per_mesh_axis_needs_all_axes():
    mesh = jax.make_mesh((2, 2, 2), ("x", "y", "o"), axis_types=(AxisType.Auto,) * 3)
    total = lambda x: snap.psum(x, ("x", "y"), codec={"x": "ternary"})
    f = jax.shard_map(total, mesh=mesh, in_specs=P(("x", "y")), out_specs=P(), axis_names={"x", "y"})
    with pytest.raises(snap.UsageError, match=r"codec per mesh axis does not work beside \('o',\)"):
        jax.eval_shape(f, sample((4, 8)))
