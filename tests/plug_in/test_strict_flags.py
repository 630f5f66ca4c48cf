"""Flags of JAX that refuse what is usually silent: a collective gives with them what it gives without."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from snap_jax._compat import as_varying
from snap_jax.parallel.mesh import auto_mesh
from tests.support.programs import ENCODINGS, PAIRS, PER_CHANNEL, WIRES, sample

FLAGS = {
    "rank promotion": lambda: jax.numpy_rank_promotion("raise"),
    "dtype promotion": lambda: jax.numpy_dtype_promotion("strict"),
    "64 bits": lambda: jax.enable_x64(True),
}
MESH = {"mesh": auto_mesh({"x": 4})}
CASES = [(name, "packed", "ppermute") for name in ENCODINGS]
CASES += [("ternary", wire, collective) for wire in WIRES for collective in ("psum", "all_to_all")]
CASES += [("topk", "bitmap", "all_gather"), ("float", "ladder", "all_gather"), ("integer-block", "rans", "ppermute")]


def gradient(encoding, wire, collective, x):
    """The program of a gradient of a coded collective for input and threshold; nothing is compiled."""

    def local(x, threshold):
        codec = snap.Codec(ENCODINGS[encoding](threshold), WIRES[wire])
        return as_varying(PAIRS[collective].coded(x, "x", codec), ("x",))

    def loss(x, threshold):
        return jnp.sum(jax.shard_map(local, in_specs=(P("x"), P()), out_specs=P("x"), **MESH)(x, threshold))

    return jax.eval_shape(jax.grad(loss, (0, 1)), x, PER_CHANNEL)


@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_a_coded_collective_and_its_gradient_trace(flag, case):
    x = sample((16, 16))
    with FLAGS[flag]():
        found = gradient(*case, x)
    assert [(a.shape, a.dtype) for a in found] == [((16, 16), "float32"), ((16,), "float32")]


def test_a_boundary_and_error_feedback_trace_with_strict_flags():
    transform = snap.LearnedTransform(rank=4, context_tokens=0, token_groups=1)
    boundary = snap.Boundary("count:3", 16, transform=transform, grad_codec="int8:absmax")
    feedback = snap.error_feedback("topk:0.1", "x")

    def program(x):
        y = boundary.ppermute(x, "x", [(0, 1)])
        return y, feedback.update({"w": y}, feedback.init({"w": y}))[0]

    for flag in ("rank promotion", "dtype promotion"):
        with FLAGS[flag]():
            y, updates = jax.eval_shape(
                jax.shard_map(program, in_specs=P("x"), out_specs=(P("x"), P()), **MESH), sample((16, 16))
            )
        assert y.shape == (16, 16)
        assert updates["w"].shape == (4, 16)


@pytest.mark.parametrize("words", ["ternary", "int4:channel+rans", "count:3:token+ladder"])
def test_debug_nans_stops_at_no_nan_that_is_not_there(words):
    """Both eagerly; a tensor without NaN has none on the way, and one with a NaN stops."""
    codec, x = snap.codec(words), sample((40, 16))
    with jax.debug_nans(True):
        sent = codec.decode(codec.encode(x), shape=x.shape, dtype=x.dtype)
        np.testing.assert_array_equal(sent, codec.quantize(x))
        with pytest.raises(FloatingPointError):
            codec.quantize(jnp.asarray(np.where(np.arange(16) == 3, np.nan, 1.0), "float32"))
