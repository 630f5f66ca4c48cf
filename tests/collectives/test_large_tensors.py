"""Tensors of 2^31 elements or bytes and more are refused by name, never cut; on abstract shapes, without memory."""

import itertools

import jax
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from tests.collectives.test_invariant_table import covering

RING = [(0, 1), (1, 2), (2, 3), (3, 0)]
COLLECTIVES = {
    "all_gather": lambda v, c: snap.all_gather(v, "x", codec=c, tiled=True),
    "psum": lambda v, c: snap.psum(v, "x", codec=c),
    "psum-coded-again": lambda v, c: snap.psum(v, "x", codec=c, sum_codec=c),
    "psum_scatter": lambda v, c: snap.psum_scatter(v, "x", codec=c, tiled=True),
    "all_to_all": lambda v, c: snap.all_to_all(v, "x", 0, 0, codec=c, tiled=True),
    "ppermute": lambda v, c: snap.ppermute(v, "x", RING, codec=c),
}
WIRES = {
    "packed": snap.Packed(),
    "radix": snap.Packed(radix=True),
    "bitmap": snap.Bitmap(),
    "events": snap.Events(1.0),
    "bitplanes": snap.Bitplanes(),
    "ladder": snap.Ladder(),
    "rans": snap.Rans(),
}
ENCODINGS = {
    "ternary": snap.Ternary(1.0),
    "count": snap.Count(100, 1.0),
    "blocks": snap.Int(4, block=2),
    "float32": snap.Cast("float32"),
}
# Elements on a device; a part of a sum has a quarter.
SIZES = {"2^29": 2**29, "2^30": 2**30, "2^31": 2**31, "2^31 - 4": 2**31 - 4, "2^33": 2**33}


def traced(codec, collective, size, tree=False):
    """Trace a collective of `size` elements on a device, as one array or in two."""
    mesh = jax.sharding.AbstractMesh((4,), ("x",), axis_types=(AxisType.Auto,))
    specs = {"in_specs": P("x"), "out_specs": P("x"), "check_vma": False}
    program = jax.shard_map(lambda v: COLLECTIVES[collective](v, codec), mesh=mesh, **specs)
    halves = [jax.ShapeDtypeStruct((2 * size,), "float32")] * 2
    jax.eval_shape(program, halves if tree else jax.ShapeDtypeStruct((4 * size,), "float32"))


def refusal(codec, collective, size, tree):
    """What a collective says of such a tensor; nothing if it takes it."""
    try:
        traced(codec, collective, size, tree)
    except snap.UsageError as error:
        return str(error)
    return ""


def codec_of(encoding, wire):
    return snap.Codec(ENCODINGS[encoding], WIRES[wire])


def exists(case):
    encoding, wire, collective, *_ = case
    try:
        codec_of(encoding, wire).payload_sizes((64,))
    except snap.UsageError:
        return False
    return collective != "psum" or ENCODINGS[encoding].summable


CASES = covering((tuple(ENCODINGS), tuple(WIRES), tuple(COLLECTIVES), tuple(SIZES), ("array", "tree")), exists)


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_a_large_tensor_works_or_is_refused_by_name(case):
    """Without a warning, which JAX gives where an index does not fit into 32 bits; warnings are errors here."""
    encoding, wire, collective, size, tree = case
    said = refusal(codec_of(encoding, wire), collective, SIZES[size], tree == "tree")
    if said:
        assert said.startswith((f"{WIRES[wire]}:", f"{type(ENCODINGS[encoding]).__name__}:"))
        assert "past 2^31: " in said


@pytest.mark.parametrize("collective", COLLECTIVES)
def test_the_largest_that_are_not_refused(collective):
    """Of two bits each: 2^31 - 4 elements where all are in one payload, four times as many where it holds a quarter."""
    whole = collective in ("all_gather", "ppermute")
    largest = 2**31 - 4 if whole else 4 * (2**31 - 4)
    traced(codec_of("ternary", "packed"), collective, largest)
    with pytest.raises(snap.UsageError, match=r"Packed\(radix=False\): 2147483648 spikes in .* past 2\^31: split"):
        traced(codec_of("ternary", "packed"), collective, 2**31 if whole else 2**33)


def test_scales_count_too():
    """Two bytes per element, beside half a byte for the element itself and a header: 2^30 elements are too many."""
    codec = snap.Codec(snap.Int(4, block=1))
    assert codec.payload_bytes((2**30 - 8,)) == (2**30 - 8) // 2 + 2 * (2**30 - 8) + 1
    with pytest.raises(snap.UsageError, match=r"Int: 2147483649 bytes of scales .* past 2\^31"):
        codec.payload_bytes((2**30,))


def test_every_wire_meets_every_collective():
    met = {case[1:3] for case in CASES}
    possible = {
        (wire, collective)
        for encoding, wire, collective in itertools.product(ENCODINGS, WIRES, COLLECTIVES)
        if exists((encoding, wire, collective))
    }
    assert met == possible
