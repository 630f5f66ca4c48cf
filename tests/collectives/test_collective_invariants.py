"""The invariants, one by one; their whole table is in test_invariant_table.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jax import lax
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from snap_jax._compat import as_varying
from snap_jax.parallel.mesh import auto_mesh
from snap_jax.traffic.check import assert_no_float_collectives
from snap_jax.traffic.hlo import compiled_traffic
from snap_jax.traffic.jaxpr import collective_traffic
from tests.support.programs import (
    ENCODINGS,
    MOVES,
    PAIRS,
    PER_CHANNEL,
    SUMS,
    assert_same,
    both,
    chain,
    compiled,
    sample,
)

DEALT = ("psum_scatter", "all_to_all")  # a payload a part


@pytest.mark.parametrize("collective", PAIRS)
def test_invariant_2_a_threshold_typed_varying(collective):
    codec_of = lambda t: snap.Codec(snap.Count(3, t))
    assert_same(collective, *both(PAIRS[collective], codec_of, sample((64, 16)), PER_CHANNEL, shared=False))


@pytest.mark.parametrize("collective", ["all_gather", "ppermute", "psum_scatter", "all_to_all"])
def test_a_receiver_decodes_with_the_threshold_of_the_sender(collective):
    own = lambda t: snap.Codec(snap.Ternary(t * (1 + lax.axis_index("x"))))
    assert_same(collective, *both(PAIRS[collective], own, sample((64, 16)), PER_CHANNEL))


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (2, 0, 3)])
@pytest.mark.parametrize("collective", ["all_gather", "ppermute", "psum", "pmean"])
def test_invariant_2_odd_shapes(shape, collective):
    codec = snap.Codec(snap.Count(3, 0.5))

    def program(x):
        x = x.reshape(shape)
        pair = PAIRS[collective]
        coded, plain = pair.coded(x, "x", codec), pair.plain(codec.quantize(x), "x")
        return jax.tree.map(lambda a: lax.pcast(a, "x", to="varying") if collective in SUMS else a, (coded, plain))

    leading = lambda f: lambda x: jax.tree.map(lambda a: a[None], f(x[0]))
    run = jax.shard_map(leading(program), mesh=auto_mesh({"x": 4}), in_specs=P("x"), out_specs=P("x"))
    coded, plain = jax.jit(run)(sample((4, *shape)))
    np.testing.assert_allclose(coded, plain, rtol=1e-6)


@pytest.mark.parametrize("collective", ["all_gather", "all_gather-tiled", "ppermute", "psum"])
def test_invariant_2_long_tensors(collective):
    """More than 65,536 elements a device, not a multiple of eight."""
    codec_of = lambda t: snap.Codec(snap.Ternary(t))
    result = both(PAIRS[collective], codec_of, sample((8, 35_001)), jnp.float32(0.7), mesh_name="4")
    assert_same(collective, *result)


@functools.cache
def every_collective():
    """Every collective and its oracle in one program on 4 devices, (4, 8) elements each."""
    spikes, steps = snap.Codec(snap.Count(3, 0.5)), snap.Codec(snap.Int(4))

    def program(x):
        results = {}
        for name, pair in PAIRS.items():
            codec = steps if name in MOVES else spikes
            outputs = pair.coded(x, "x", codec), pair.plain(codec.quantize(x), "x")
            results[name] = jax.tree.map(lambda y: as_varying(y, ("x",))[None], outputs)
        return results

    return jax.jit(jax.shard_map(program, mesh=auto_mesh({"x": 4}), in_specs=P("x"), out_specs=P("x")))


@given(hnp.arrays(np.float32, (16, 8), elements=st.floats(width=32)))
@settings(max_examples=60)
def test_invariant_2_whatever_the_values(x):
    """NaN, infinities, denormals, huge ones and both zeros, anywhere."""
    for name, (coded, plain) in every_collective()(x).items():
        if name in MOVES:
            np.testing.assert_array_equal(coded, plain)
        else:
            np.testing.assert_allclose(coded, plain, rtol=1e-6)


@pytest.mark.parametrize("collective", PAIRS)
def test_invariant_1_without_a_codec_it_is_lax(collective):
    pair = PAIRS[collective]
    trace_of = lambda f: str(
        jax.make_jaxpr(jax.shard_map(f, mesh=auto_mesh({"x": 8}), in_specs=P("x"), out_specs=P("x"), check_vma=True))(
            sample((64, 16))
        )
    )
    vary = lambda y: lax.pcast(y, "x", to="varying") if collective in (*SUMS, "all_gather-invarying") else y
    assert trace_of(lambda x: vary(pair.coded(x, "x", None))) == trace_of(lambda x: vary(pair.plain(x, "x")))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("collective", PAIRS)
def test_invariant_5_bad_input_reaches_every_receiver(collective, bad):
    x = np.array(sample((16, 8)))
    x[3 * 4 + 2, 5] = bad  # on device 3 of 4

    def program(x):
        y = PAIRS[collective].coded(x, "x", snap.Codec(snap.Count(3, 0.5)))
        return jnp.isnan(y).reshape(-1)[None] | (lax.axis_index("x") < 0)

    run = jax.shard_map(program, mesh=auto_mesh({"x": 4}), in_specs=P("x"), out_specs=P("x"))
    nan = np.asarray(jax.jit(run)(jnp.asarray(x)))
    if collective == "ppermute":  # nobody sends to device 0, device 3 sends to nobody
        assert not nan.any()
    elif collective in MOVES:
        assert nan.mean() == 1 / 4  # what device 3 sent, at every receiver
        assert nan.any(1).all()
    else:
        assert nan.all()


def test_invariant_5_along_a_permutation():
    x = np.array(sample((4, 8)))
    x[1, 0] = np.inf

    def program(x):
        return snap.ppermute(x, "x", chain("x"), codec=snap.Codec(snap.Ternary(0.5)))

    run = jax.shard_map(program, mesh=auto_mesh({"x": 4}), in_specs=P("x"), out_specs=P("x"))
    nan = np.isnan(jax.jit(run)(jnp.asarray(x)))
    assert nan[2].all()
    assert not nan[[0, 1, 3]].any()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_invariant_4_claimed_bytes_are_the_bytes_of_the_compiled_program(encoding):
    """8 x 32 elements whole, or 8 parts of 8 x 4."""
    codec = snap.Codec(ENCODINGS[encoding](0.5))
    moves = ("all_gather", "ppermute", *DEALT)
    program = compiled(
        lambda x: [PAIRS[name].coded(x + i, "x", codec) for i, name in enumerate(moves)], sample((64, 32))
    )
    whole, dealt = codec.payload_bytes((8, 32)), 8 * codec.payload_bytes((8, 4))
    sent = sorted((t.op, t.dtype, t.bytes) for t in compiled_traffic(program))
    to_all = ("all_to_all", "uint8", dealt)  # psum_scatter decodes, then sums
    assert sent == [("all_gather", "uint8", whole), to_all, to_all, ("ppermute", "uint8", whole)]


def test_invariant_4_a_varying_threshold_adds_four_bytes_a_channel():
    x = sample((64, 24))
    codec_of = lambda: snap.Codec(snap.Ternary(jnp.full(24, 0.5) + lax.axis_index("x")))
    (transfer,) = compiled_traffic(compiled(lambda x: snap.all_gather(x, "x", codec=codec_of()), x))
    assert transfer.bytes == snap.Codec(snap.Ternary()).payload_bytes((8, 24)) + 4 * 24


def test_what_cannot_be_coded_raises():
    codec = snap.Codec(snap.Ternary())
    for function in (snap.all_gather, snap.psum, snap.pmean, snap.psum_scatter):
        with pytest.raises(snap.UsageError, match=f"{function.__name__}: got dtype int32"):
            compiled(lambda x, f=function: f(x, "x", codec=codec), jnp.zeros((8, 8), jnp.int32))
    with pytest.raises(snap.UsageError, match="cannot be cut into 8: use a multiple of 8"):
        compiled(lambda x: snap.psum_scatter(x, "x", tiled=True, codec=codec), sample((8, 3)))
    with pytest.raises(snap.UsageError, match=r"all_to_all: dimension 1 of shape \(1, 3\) cannot be cut into 8"):
        compiled(lambda x: snap.all_to_all(x, "x", 1, 0, codec=codec), sample((8, 3)))
    for dimension in (2, 5, -3):  # as lax, which raises for them too
        scatter = lambda x, d=dimension: snap.psum_scatter(x, "x", scatter_dimension=d, tiled=True, codec=codec)
        with pytest.raises(snap.UsageError, match=f"psum_scatter: there is no dimension {dimension} in an array of 2"):
            compiled(scatter, sample((64, 8)))
        with pytest.raises(snap.UsageError, match=f"all_gather: there is no dimension {dimension}"):
            compiled(lambda x, d=dimension: snap.all_gather(x, "x", axis=d, tiled=True, codec=codec), sample((8, 8)))
    with pytest.raises(snap.UsageError, match="axis_index_groups cannot be coded"):
        compiled(
            lambda x: snap.psum(x, "x", axis_index_groups=[[0, 1, 2, 3], [4, 5, 6, 7]], codec=codec), sample((8, 3))
        )


def test_pytrees_and_groups():
    codec, groups = snap.Codec(snap.Ternary(0.5)), [[0, 3, 1, 2], [4, 5, 7, 6]]

    def program(x):
        tree = {"a": x, "b": (x[:, :2] * 2,)}
        plain = jax.tree.map(codec.quantize, tree)
        gather = lambda f, t, **k: f(t, "x", axis_index_groups=groups, **k)
        scatter = lambda f, t, **k: f(t, "x", axis_index_groups=groups, tiled=True, **k)
        coded = gather(snap.all_gather, tree, codec=codec), scatter(snap.psum_scatter, tree, codec=codec)
        return coded, (gather(lax.all_gather, plain), scatter(lax.psum_scatter, plain))

    run = jax.shard_map(program, mesh=auto_mesh({"x": 8}), in_specs=P("x"), out_specs=P("x"))
    coded, plain = jax.jit(run)(sample((32, 6)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), coded, plain)


@pytest.mark.parametrize("collective", ["all_gather", "all_gather-tiled", "ppermute", "psum_scatter", "all_to_all"])
def test_invariant_7_grad_codec_codes_the_cotangent(collective):
    """With a lossless grad_codec the gradient is that of the dense backward pass; with int8 it is close."""
    codec_of = lambda t: snap.Codec(snap.Count(3, t))
    exact = snap.Codec(snap.Cast("float32"))
    for shared in (True, False):
        result = both(PAIRS[collective], codec_of, sample((64, 16)), PER_CHANNEL, grad_codec=exact, shared=shared)
        assert_same(collective, *result)
    coded, plain = both(PAIRS[collective], codec_of, sample((64, 16)), PER_CHANNEL, grad_codec=snap.Codec(snap.Int(8)))
    assert 0 < np.abs(coded[1] - plain[1]).max() < 0.02 * np.abs(plain[1]).max()


@pytest.mark.parametrize("way", ["jvp", "jvp of jit", "jit of jvp", "inside", "linearize", "jacfwd"])
def test_forward_mode_through_a_grad_codec_raises_everywhere(way):
    f = lambda x: snap.ppermute(x, "x", chain("x"), codec=snap.Codec(snap.Cast()), grad_codec=snap.Codec(snap.Cast()))
    on_mesh = lambda f: jax.shard_map(f, mesh=auto_mesh({"x": 2}), in_specs=P("x"), out_specs=P("x"))
    x, g = sample((2, 3)), on_mesh(f)
    compiled = jax.jit(g)
    run = {
        "jvp": lambda: jax.jvp(g, (x,), (x,)),
        "jvp of jit": lambda: jax.jvp(compiled, (x,), (x,)),
        "jit of jvp": lambda: jax.jit(lambda x: jax.jvp(g, (x,), (x,)))(x),
        "inside": lambda: jax.jit(on_mesh(lambda x: jax.jvp(f, (x,), (x,))[1]))(x),
        "linearize": lambda: jax.linearize(compiled, x)[1](x),
        "jacfwd": lambda: jax.jacfwd(g)(x),
    }
    with pytest.raises(snap.UsageError, match=r"ppermute: forward-mode .*differentiate in reverse"):
        run[way]()


@pytest.mark.parametrize("collective", ["all_gather", "ppermute", "psum_scatter", "all_to_all"])
def test_invariant_7_both_directions_are_counted(collective):
    codec, x = snap.Codec(snap.Ternary(0.5)), sample((64, 16))

    def gradient(x, **keywords):
        return jax.grad(lambda x: jnp.sum(jnp.tanh(PAIRS[collective].coded(x, "x", codec, **keywords))))(x)

    def on_mesh(**keywords):
        run = lambda x: gradient(x, **keywords)
        return jax.shard_map(run, mesh=auto_mesh({"x": 8}), in_specs=P("x"), out_specs=P("x"))

    dense = collective_traffic(on_mesh())(x)
    assert {(t.direction, t.dtype) for t in dense} == {("forward", "uint8"), ("backward", "float32")}
    coded = collective_traffic(on_mesh(grad_codec=snap.Codec(snap.Int(8))))(x)
    assert {(t.direction, t.dtype) for t in coded} == {("forward", "uint8"), ("backward", "uint8")}
    with pytest.raises(AssertionError, match="float32"):
        assert_no_float_collectives(jax.jit(on_mesh()), x)
    assert_no_float_collectives(jax.jit(on_mesh(grad_codec=snap.Codec(snap.Int(8)))), x)


def test_scan_remat_vmap_and_jit_keep_the_law():
    codec = snap.Codec(snap.Ternary(0.4))
    exact = snap.Codec(snap.Cast("float32"))

    def program(gather, x):
        @jax.checkpoint
        def body(carry, _):
            rows = jax.vmap(gather)(carry)
            return carry + 0.1 * jnp.tanh(rows.mean(1)), None

        out, _ = lax.scan(body, x, None, length=3)
        return jnp.sum(out**2)

    coded = lambda x: snap.all_gather(x, "x", codec=codec)
    both_ways = lambda x: snap.all_gather(x, "x", codec=codec, grad_codec=exact)
    plain = lambda x: lax.all_gather(codec.quantize(x), "x")
    run = lambda x: [jax.grad(lambda x, g=g: program(g, x))(x) for g in (coded, both_ways, plain)]
    mapped = jax.shard_map(run, mesh=auto_mesh({"x": 4}), in_specs=P("x"), out_specs=P("x"))
    a, b, expected = jax.jit(mapped)(sample((8, 12)))
    np.testing.assert_allclose(a, expected, atol=1e-6)
    np.testing.assert_allclose(b, expected, atol=1e-6)


def test_invariant_6_device_count_does_not_matter():
    """Eight rows of up to 3 spikes: summed on a device first, or one a device; sums of up to 24 come through."""
    codec, x = snap.Codec(snap.Count(3, 0.3)), 2 * sample((8, 40))

    def total(devices):
        def program(rows):
            here = snap.Codec(snap.Count(3 * 8 // devices, 0.3))
            return snap.psum(jax.vmap(codec.quantize)(rows).sum(0), "x", codec=here)

        return jax.jit(jax.shard_map(program, mesh=auto_mesh({"x": devices}), in_specs=P("x"), out_specs=P()))(x)

    assert np.abs(total(1)).max() > 3 * 0.3
    for devices in (2, 4, 8):
        np.testing.assert_allclose(total(devices), total(1), atol=1e-5)
