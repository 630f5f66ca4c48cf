"""What crosses does not outgrow the mesh: bytes on meshes of up to 1024 devices, which need not exist."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AbstractMesh, AxisType
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from snap_jax._compat import as_varying
from snap_jax.collectives.short_sums import integer_sum
from snap_jax.traffic.jaxpr import collective_traffic
from tests.extensions.sign import Sign
from tests.support.programs import PAIRS, sample

SIZES = (8, 64, 1024)


def sent_per_device(function, devices, *shapes):
    """Bytes that one device sends in a run of `function`, on f32 arrays of these shapes."""
    mesh = AbstractMesh((devices,), ("x",), axis_types=(AxisType.Auto,))
    program = lambda *xs: jax.tree.map(lambda y: as_varying(y, ("x",))[None], function(*[x[0] for x in xs]))
    run = jax.shard_map(program, mesh=mesh, in_specs=P("x"), out_specs=P("x"))
    return collective_traffic(run)(*[jax.ShapeDtypeStruct((devices, *s), jnp.float32) for s in shapes]).sent_bytes / (
        devices
    )


@pytest.mark.parametrize("devices", SIZES)
@pytest.mark.parametrize("collective", ["all_to_all", "psum_scatter", "psum"])
def test_thresholds_per_channel_that_vary_are_sent_once(collective, devices):
    """16 x 4096 elements, channels scattered: beside what one threshold takes, 4 bytes per channel, or compared once.

    A comparison is a pmax of two numbers per channel, which sends each up to twice.
    """
    own = lambda shape: snap.Codec(snap.Ternary(jnp.full(shape, 0.5) + 0 * lax.axis_index("x")))
    of = lambda shape: sent_per_device(lambda x: PAIRS[collective].coded(x, "x", own(shape)), devices, (16, 4096))
    one = lambda x: PAIRS[collective].coded(x, "x", snap.Codec(snap.Ternary(0.5)))
    numbers = 4096 * (2 * 2 if collective == "psum" else 1)
    assert of((4096,)) - sent_per_device(one, devices, (16, 4096)) <= 4 * numbers
    assert of((4096,)) < 0.4 * sent_per_device(lambda x: PAIRS[collective].plain(x, "x"), devices, (16, 4096))


@pytest.mark.parametrize("shape", [(16,), (4, 1), (4, 16), (1, 16)], ids=str)
@pytest.mark.parametrize("collective", ["all_to_all", "psum_scatter"])
def test_a_part_of_the_thresholds_decodes_its_part(collective, shape):
    """Of every form that broadcasts against 4 x 16 elements, cut along the second dimension into 4, on 4 devices."""

    def program(x):
        threshold = sample(shape) ** 2 + 0.1 + lax.axis_index("x")
        codec = snap.Codec(snap.Count(3, threshold))
        return PAIRS[collective].coded(x, "x", codec), PAIRS[collective].plain(codec.quantize(x), "x")

    mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,))
    coded, plain = jax.jit(jax.shard_map(program, mesh=mesh, in_specs=P("x"), out_specs=P("x")))(4 * sample((16, 16)))
    np.testing.assert_allclose(coded, plain, atol=1e-6)


def test_untiled_parts_take_theirs():
    def program(x):
        codec = snap.Codec(snap.Count(3, 0.1 + sample((4, 1)) ** 2 + lax.axis_index("x")))
        scatter = lambda lib, y, **k: lib.psum_scatter(y, "x", scatter_dimension=0, **k)
        return scatter(snap, x, codec=codec), scatter(lax, codec.quantize(x))

    mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,))
    coded, plain = jax.jit(jax.shard_map(program, mesh=mesh, in_specs=P("x"), out_specs=P("x")))(4 * sample((16, 16)))
    np.testing.assert_allclose(coded, plain, atol=1e-6)


@pytest.mark.parametrize("devices", [2, 64, 4096])
@pytest.mark.parametrize("spec", ["ternary", "count:127", "ternary+rans"])
def test_a_sum_never_sends_more_than_floats(spec, devices):
    """Of 1 to 50,000 elements, in one array or two."""
    for shapes in (((1,),), ((128,),), ((128,), (3,)), ((50_000,),)):
        coded = sent_per_device(lambda *xs: snap.psum(xs, "x", codec=spec), devices, *shapes)
        floats = sent_per_device(lambda *xs: lax.psum(xs, "x"), devices, *shapes)
        assert coded <= floats, (shapes, coded, floats)


def test_a_short_array_is_added_in_one_psum_of_integers():
    """128 ternary spikes of 1024 devices: sums up to 1024 and a flag in two bytes each, which a ring sends twice."""
    coded = sent_per_device(lambda x: snap.psum(x, "x", codec="ternary"), 1024, (128,))
    assert coded == pytest.approx(2 * 1023 / 1024 * 2 * (128 + 1))


@pytest.mark.parametrize("limit", [1, 7, 2000, 20_000])
def test_short_sums_are_those_of_lax(limit):
    """4 devices, limits whose sums take a byte, two or four, with marks or flags; NaN in one array of three."""
    codec = snap.Codec(snap.Count(limit, 0.5))
    tree = lambda x: {"whole": x, "one": x[0], "bad": x.at[1].mul(jnp.where(lax.axis_index("x") == 2, jnp.inf, 1.0))}

    def program(x):
        coded = snap.psum(tree(x), "x", codec=codec)
        return coded, lax.psum(jax.tree.map(codec.quantize, tree(x)), "x")

    mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,))
    run = jax.shard_map(program, mesh=mesh, in_specs=P("x"), out_specs=P())
    coded, plain = jax.jit(run)(limit / 2 * sample((4 * 3,)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), coded, plain)
    assert np.isnan(coded["bad"]).all()
    assert not np.isnan(coded["whole"]).any()
    assert {t.op for t in collective_traffic(run)(sample((12,))) if t.dtype.startswith("int")} == {"psum"}


@pytest.mark.parametrize("bad", [0, 1, 90, 91, 180])
@pytest.mark.parametrize("sign", [1, -1])
def test_marks_of_many_devices_wrap_around_and_are_seen(bad, sign):
    """180 devices, sums in int16 up to 180, marks of 361: 180 of them are 64,980, which is -556."""
    assert integer_sum(range(-1, 2), ((3,),), 180)[:3] == ("int16", 180, 361)
    x = sign * jnp.ones((180, 3)).at[:bad, 2].set(jnp.nan)
    total = jax.vmap(lambda x: snap.psum(x, "x", codec="ternary"), axis_name="x", out_axes=None)(x)
    assert np.isnan(total).all() if bad else np.unique(total).size == 1


@pytest.mark.parametrize("collective", ["all_gather-tiled", "all_to_all", "psum_scatter", "psum"])
def test_programs_do_not_grow_with_the_mesh(collective):
    """Equations of the jaxpr on 8 and on 1024 devices; fields of 5 and of 12 bits differ by a few."""
    own = snap.Codec(snap.Ternary(jnp.full(2048, 0.5)))

    def equations(devices):
        mesh = AbstractMesh((devices,), ("x",), axis_types=(AxisType.Auto,))
        program = lambda x: as_varying(PAIRS[collective].coded(x[0], "x", own), ("x",))
        run = jax.shard_map(program, mesh=mesh, in_specs=P("x"), out_specs=P("x"))
        return str(jax.make_jaxpr(run)(jax.ShapeDtypeStruct((devices, 16, 2048), jnp.float32))).count(" = ")

    assert equations(1024) <= 1.1 * equations(8)


@pytest.mark.parametrize("devices", [64, 4096])
def test_many_arrays_cost_what_one_of_their_size_does(devices):
    """33 kernels of 300 x 100, 33 biases and 33 numbers: in one percent, and fewer bytes than floats take."""
    shapes = [(300, 100), (100,), ()] * 33
    tree = sent_per_device(lambda *xs: snap.psum(xs, "x", codec="ternary"), devices, *shapes)
    one = sent_per_device(lambda x: snap.psum(x, "x", codec="ternary"), devices, (33 * 30_101,))
    assert one <= tree < 1.01 * one < sent_per_device(lambda *xs: lax.psum(xs, "x"), devices, *shapes)


def test_each_array_of_a_sum_has_its_own_nan():
    """A one-bit encoding has no symbol 0; ternary spikes have. Large enough for two shots."""

    def program(x):
        tree = [x, x.at[3].mul(jnp.where(lax.axis_index("x") == 1, jnp.nan, 1.0)), x[:7], x[:0], x[0]]
        return snap.psum(tree, "x", codec="ternary"), snap.psum(tree, "x", codec=snap.Codec(Sign(0.5)))

    mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,))
    run = jax.jit(jax.shard_map(program, mesh=mesh, in_specs=P("x"), out_specs=P()))
    for totals in run(sample((4 * 4000,))):
        assert [bool(jnp.isnan(y).any()) for y in totals] == [False, True, False, False, False]
        assert jnp.isnan(totals[1]).all()
    assert "psum" not in {t.op for t in collective_traffic(run)(sample((4 * 4000,)))}


@pytest.mark.parametrize("devices", SIZES)
def test_steps_of_blocks_are_sent_with_their_rows(devices):
    """2048 x 64 elements, a step of two bytes for each 32: each device sends a part of both, its sum and headers."""
    psum = lambda x: snap.psum(x, "x", codec="int4:block32", sum_codec="int8:absmax")
    first, second = (4 + 16 / 32) / 8 * 2048 * 64, 2048 * 64 + 4 * devices
    expected = (devices - 1) / devices * (first + second) + 2 * (devices - 1)
    assert sent_per_device(psum, devices, (2048, 64)) == pytest.approx(expected)
