"""Steps taken from the data per tensor, channel or block, and TopK: what travels beside the spikes."""

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
from snap_jax.encodings.integer import round_up, widen
from snap_jax.parallel.mesh import auto_mesh
from snap_jax.traffic.jaxpr import collective_traffic
from tests.support.programs import sample


def test_a_block_has_the_step_of_its_own_maximum():
    """3 bits: limit 3. Blocks of 2 along rows of 5, the last one short: maxima 3, 6, 12 and 1, 0, 3 -> steps / 3."""
    x = jnp.array([[3.0, -1.0, 6.0, 0.0, -12.0], [1.0, 1.0, 0.0, 0.0, 3.0]])
    code = snap.Int(3, block=2)
    spikes, (steps,) = code.encode(x)
    np.testing.assert_array_equal(widen(steps)[0], [1, 2, 4])
    np.testing.assert_allclose(widen(steps)[1], [1 / 3, 2**-126, 1], rtol=2**-7)
    assert spikes.tolist() == [[3, -1, 3, 0, -3], [3, 3, 0, 0, 3]]
    assert snap.Codec(code).payload_bytes(x.shape) == 3 + 2 + 2 * 6 + 1  # 2 bits of each, 1 bit, six steps, header
    assert code.quantize(x)[0].tolist() == [3, -1, 6, 0, -12]


def test_a_channel_has_the_step_of_its_own_maximum():
    x = jnp.array([[[3.0, 0.5], [1.0, 6.0]]])
    code = snap.Int(3, block="channel")
    spikes, (steps,) = code.encode(x)
    assert widen(steps).tolist() == [[[1.0, 2.0]]]
    assert spikes.tolist() == [[[3, 0], [1, 3]]]
    assert snap.Codec(code).payload_bytes(x.shape) == 1 + 1 + 2 * 2 + 1


@given(x=st.floats(2.0**-126, float(np.finfo(np.float32).max), width=32))
@settings(deadline=None, max_examples=200)
def test_steps_are_rounded_up_by_less_than_one_percent(x):
    """bfloat16 keeps 8 digits: at most 2^-7 larger, and never smaller, up to its largest finite number."""
    y = float(widen(round_up(jnp.float32(x))))
    assert y == 255 / 128 * 2.0**127 if x > 255 / 128 * 2.0**127 else x <= y <= x * (1 + 2**-7)


@given(
    x=hnp.arrays(np.float32, 13, elements=st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0, 1e-40, -3e38, 5.0])),
    fraction=st.sampled_from([0.01, 0.25, 0.5, 1.0]),
)
@settings(deadline=None, max_examples=100)
def test_topk_keeps_the_largest_and_of_equal_ones_the_first(x, fraction):
    code = snap.TopK(fraction, 3)
    keep = int(np.ceil(fraction * 13))
    kept = np.zeros(13, bool)
    kept[np.argsort(-np.abs(x.astype(np.float64)), kind="stable")[:keep]] = True
    y = np.asarray(quantize(code, x))
    dense = np.asarray(quantize(snap.TopK(1.0, 3), x))
    np.testing.assert_array_equal(y, np.where(kept, dense, 0))
    slope = jax.vjp(lambda x: quantize(code, x), x)[1](jnp.ones(13))[0]
    np.testing.assert_array_equal(slope, kept)


quantize = jax.jit(lambda code, x: code.quantize(x))


@pytest.mark.parametrize(
    "wire", [snap.Events(0.1), snap.Bitmap(0.1), snap.Ladder()], ids=["events", "bitmap", "ladder"]
)
@pytest.mark.parametrize("size", [1, 30, 1001])
def test_topk_fits_a_wire_of_its_own_capacity(wire, size):
    codec, x = snap.Codec(snap.TopK(0.1, 4), wire), sample(size)
    there = codec.decode(codec.encode(x), shape=x.shape, dtype=x.dtype)
    np.testing.assert_array_equal(there, codec.quantize(x))
    assert codec.encode(x).size <= codec.payload_bytes(x.shape)
    if wire == snap.Events(0.1) and size == 1001:  # 101 events: 1 + 3 low bits + 4, ceil(1001 / 8) zeros; step, header
        assert codec.payload_bytes(x.shape) == -(-(101 * 8 + 126) // 8) + 4 + 1


def test_a_part_of_a_tensor_may_be_too_much_for_the_wire():
    """All that TopK keeps can lie in one part, so a wire for the whole does not do."""
    codec = snap.Codec(snap.TopK(0.1), snap.Events(0.1))
    run = lambda x: snap.psum_scatter(x, "x", tiled=True, codec=codec)
    mapped = jax.shard_map(run, mesh=auto_mesh({"x": 2}), in_specs=P("x"), out_specs=P("x"))
    with pytest.raises(snap.UsageError, match=r"Events\(capacity=0.1\) may be too small for a part.*use Ladder"):
        mapped(jnp.ones(8))


CODES = {
    "channel": snap.Int(4, block="channel"),
    "blocks": snap.Int(4, block=3),
    "astride": snap.Int(4, block=5),
    "token": snap.Int(4, block="token"),
    "scaled": snap.Scaled(snap.Rate(7, 2.0), "token"),
    "scaled-blocks": snap.Scaled(snap.Count(7, 0.7), 3),
    "topk": snap.TopK(0.2),
}
# Of a tensor (2, 4, 12): what is scattered, the shape of a part, and how many steps come with each code.
SCATTERS = {
    "rows": ({"scatter_dimension": 1, "tiled": True}, {"channel": 12, "blocks": 4 * 4, "astride": 4 * 3, "token": 4}),
    "columns": ({"scatter_dimension": 2, "tiled": True}, {"channel": 6, "blocks": 8 * 2, "astride": 8 * 3, "token": 8}),
    "leading": (
        {"scatter_dimension": 0, "tiled": False},
        {"channel": 12, "blocks": 4 * 4, "astride": 4 * 3, "token": 4},
    ),
}


@pytest.mark.parametrize("name", CODES)
def test_invariant_2_parts_of_a_tensor_are_read_with_their_own_steps(name):
    """psum_scatter along every dimension, and the first shot of a psum, in one program; and the bytes of each part."""
    codec, exact = snap.Codec(CODES[name]), snap.Codec(snap.Cast("float32"))

    def program(x):
        q = codec.quantize(x)
        coded = [snap.psum_scatter(x, "x", codec=codec, **how) for how, _ in SCATTERS.values()]
        plain = [lax.psum_scatter(q, "x", **how) for how, _ in SCATTERS.values()]
        return coded, plain, snap.psum(x, "x", codec=codec, sum_codec=exact), lax.psum(q, "x")

    specs = ([P("x")] * 3, [P("x")] * 3, P(), P())
    run = jax.jit(jax.shard_map(program, mesh=auto_mesh({"x": 2}), in_specs=P("x"), out_specs=specs))
    x = sample((4, 4, 12)) * jnp.exp(sample((4, 4, 12), seed=1))
    coded, plain, total, expected = run(x)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b), coded, plain)
    np.testing.assert_array_equal(total, expected)

    moved = [t.bytes for t in collective_traffic(run)(x) if t.op == "all_to_all"]
    width = 4 if name != "topk" else 5
    steps = lambda how: SCATTERS[how][1][{"scaled": "token", "scaled-blocks": "blocks"}.get(name, name)]
    beside = lambda how: 4 if name == "topk" else (1 if name.startswith("scaled") else 2) * steps(how)
    assert moved[:3] == [2 * (48 * width // 8 + beside(how) + 1) for how in SCATTERS]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: snap.Int(4, 0.5, block=32), r"Int: block=32 belongs to .* use threshold=None"),
        (lambda: snap.Int(4, block=0), r"Int: block=0: use None, 'channel', 'token' or a number from 1"),
        (lambda: snap.Int(4, block="row"), r"Int: block='row': use None, 'channel', 'token'"),
        (lambda: snap.TopK(0.0), r"TopK: fraction=0.0, bits=4: use 0 < fraction <= 1"),
        (lambda: snap.TopK(0.1, 9), r"TopK: .*bits=9: use .* bits of 2 to 8"),
        (lambda: snap.Codec(snap.TopK(0.1), snap.Events(0.05)), r"Events\(capacity=0.05\) cannot hold .* Ladder"),
    ],
)
def test_errors_name_the_value_and_the_fix(make, message):
    with pytest.raises(snap.UsageError, match=message):
        make()
