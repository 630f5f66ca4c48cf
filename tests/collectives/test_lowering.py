"""Every wire lowers for GPUs and TPUs in every collective, each with some encoding, gradients too; without a device."""

import functools
import itertools

import jax
import jax.numpy as jnp
import pytest
from jax import export

import snap_jax as snap
from tests.support.messages import LADDER, on_mesh, varying
from tests.support.programs import ENCODINGS, PAIRS, SUMS

WIRES = {
    "packed": snap.Packed(),
    "radix": snap.Packed(radix=True),
    "bitmap": snap.Bitmap(),
    "events": snap.Events(1.0),
    "bitplanes": snap.Bitplanes(),
    "ladder": LADDER,
    "rans": snap.Rans(ratio=2.0),
    "default ladder": snap.Ladder(),
    "default rans": snap.Rans(),
}
FEW_SIZES = tuple(WIRES)[:-2]
COLLECTIVES = ("all_gather-tiled", "ppermute", "all_to_all", "psum_scatter", *SUMS)


@functools.cache
def codec_of(encoding, wire):
    """None where the wire refuses the encoding."""
    try:
        codec = snap.Codec(ENCODINGS[encoding](0.7), WIRES[wire])
        codec.payload_sizes((2, 512))
    except snap.UsageError:
        return None
    return codec


def exists(encoding, wire, collective):
    return codec_of(encoding, wire) is not None and (collective not in SUMS or ENCODINGS[encoding](1.0).summable)


def cases():
    """Every wire with every collective, and encodings by turns, so that each is sent on several wires."""
    turns = list(ENCODINGS)
    for wire, collective in itertools.product(FEW_SIZES, COLLECTIVES):
        encoding = next(name for name in turns if exists(name, wire, collective))
        turns = [*(name for name in turns if name != encoding), encoding]
        yield encoding, wire, collective
    yield "ternary", "default ladder", "all_to_all"
    yield "phase", "default rans", "psum"


@pytest.mark.parametrize("case", list(cases()), ids="-".join)
def test_programs_lower_for_gpu_and_tpu(case):
    encoding, wire, collective = case
    codec = codec_of(encoding, wire)

    def step(x):
        loss = lambda x: jnp.sum(jnp.sin(PAIRS[collective].coded(x, "x", codec)))
        return varying(jax.value_and_grad(loss)(x))

    program = jax.jit(on_mesh(step, 2))
    exported = export.export(program, platforms=["cuda", "tpu"])(jax.ShapeDtypeStruct((4, 512), "float32"))
    assert exported.platforms == ("cuda", "tpu")
    assert exported.nr_devices == 2


def test_every_encoding_is_among_them():
    assert {case[0] for case in cases()} == set(ENCODINGS)
