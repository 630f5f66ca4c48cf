"""Every wire keeps invariant 3 with noise behind its payload; wires that do not are named, and never truncate."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import snap_jax as snap
from snap_jax.wires import Packed, Wire, check_wire
from snap_jax.wires.symbols import to_codes, to_spikes
from tests.extensions.run_length import RunLength
from tests.support.messages import LADDER, on_mesh, varying
from tests.support.poisoned import Poisoned

TERNARY, BYTES = range(-1, 2), range(-128, 128)
FIXED = [Packed(), Packed(radix=True), snap.Bitmap(), snap.Bitmap(0.3), snap.Events(0.3), snap.Bitplanes()]
SEVERAL = [snap.Ladder(), snap.Rans(), snap.Rans(ratio=2.0), RunLength()]


@pytest.mark.parametrize("wire", FIXED, ids=repr)
@pytest.mark.parametrize("symbols", [TERNARY, BYTES, range(1)], ids=str)
def test_fixed_wires_are_exact(wire, symbols):
    if isinstance(wire, snap.Bitplanes) and symbols == BYTES:
        symbols = range(-8, 9)
    check_wire(wire, symbols, ((0, 3), (7, 43)) if symbols == TERNARY else ((7, 43),))


@pytest.mark.parametrize("wire", SEVERAL, ids=repr)
@pytest.mark.parametrize(("symbols", "shape"), [(TERNARY, (1500,)), (BYTES, (9, 57))], ids=str)
def test_wires_of_several_sizes_are_exact_at_every_size(wire, symbols, shape):
    check_wire(wire, symbols, (shape,))


@dataclasses.dataclass(frozen=True)
class TwoSizes(Wire):
    """A byte per spike; one bit for all of them where none fires."""

    def sizes(self, size, symbols):
        return (1, size + 1)

    def rung(self, spikes, symbols):
        return jnp.any(spikes != 0).astype(jnp.uint8)

    def write(self, spikes, symbols, rung):
        return jnp.concatenate([jnp.zeros(1, jnp.uint8), to_codes(spikes, symbols)])

    def read(self, payload, shape, symbols, rung):
        spikes = to_spikes(payload[1:], symbols).reshape(shape)
        return jnp.where(rung == 0, jnp.zeros_like(spikes), spikes)


class IgnoresRung(TwoSizes):
    """Writes at the size that its own spikes need, whatever the others agreed on; reads what it is told."""

    def write(self, spikes, symbols, rung):
        fires = jnp.any(spikes != 0)
        return jnp.where(fires, super().write(spikes, symbols, rung), 0)


class ReadsPadding(TwoSizes):
    """Takes a byte past the payload for a zero."""

    def read(self, payload, shape, symbols, rung):
        return super().read(payload, shape, symbols, rung) + (payload[-1] * (rung == 0)).astype(jnp.int8)


class TooShort(TwoSizes):
    """Writes a byte less than it says."""

    def write(self, spikes, symbols, rung):
        return super().write(spikes, symbols, rung)[:-1]


class Falling(TwoSizes):
    """The larger size first."""

    def sizes(self, size, symbols):
        return (size + 1, 1)


class TooMany(TwoSizes):
    """More sizes than a byte counts."""

    def sizes(self, size, symbols):
        return tuple(range(1, 300))


class Flat(TwoSizes):
    """Forgets the shape."""

    def read(self, payload, shape, symbols, rung):
        return super().read(payload, shape, symbols, rung).reshape(-1)


class AsFloats(TwoSizes):
    """Returns floats."""

    def read(self, payload, shape, symbols, rung):
        return super().read(payload, shape, symbols, rung).astype(jnp.float32)


class Wide(TwoSizes):
    """Returns 32 bits for a spike, which is allowed."""

    def rung(self, spikes, symbols):
        return super().rung(spikes, symbols).astype(jnp.int32)

    def read(self, payload, shape, symbols, rung):
        return super().read(payload, shape, symbols, rung).astype(jnp.int32)


class NoRoom(TwoSizes):
    """Says that its largest size does not hold a tensor in which anything fires."""

    def rung(self, spikes, symbols):
        return 2 * super().rung(spikes, symbols)


@pytest.mark.parametrize("wire", [TwoSizes(), Wide()], ids=repr)
def test_wires_that_keep_their_promises_pass(wire):
    check_wire(wire)
    codec, x = snap.Codec(snap.Ternary(1.0), wire), jnp.array([[2.0, 0.0], [0.0, 0.0]])
    coded = jax.jit(on_mesh(lambda x: varying(snap.all_gather(x, "x", codec=codec)), 2))(x)
    np.testing.assert_array_equal(coded, np.broadcast_to(codec.quantize(x).reshape(2, 1, 2), (2, 2, 1, 2)))


WRONG = [
    (Falling(), "2 sizes .* rising"),
    (TooMany(), "299 sizes .* 1 to 256"),
    (TooShort(), r"write returned uint8\[\d+\]: return uint8"),
    (Flat(), r"read returned int8\[\d+\]: return integers"),
    (AsFloats(), r"read returned float32\[.*\]: return integers"),
]


@pytest.mark.parametrize(("wire", "message"), [*WRONG, (NoRoom(), "rung 2 of 2 sizes")], ids=repr)
def test_wires_that_break_their_promises_are_named(wire, message):
    with pytest.raises(snap.UsageError, match=message):
        check_wire(wire, shapes=((2, 3),))


@pytest.mark.parametrize("wire", [IgnoresRung(), ReadsPadding()], ids=repr)
def test_wires_that_ignore_the_size_are_named(wire):
    with pytest.raises(snap.UsageError, match=f"{type(wire).__name__}.*other spikes are read than were written"):
        check_wire(wire, shapes=((2, 3),))


@pytest.mark.parametrize(("wire", "message"), WRONG, ids=repr)
def test_collectives_refuse_them_while_tracing(wire, message):
    codec = snap.Codec(snap.Ternary(1.0), wire)
    gather = on_mesh(lambda x: varying(snap.all_gather(x, "x", codec=codec)))
    with pytest.raises(snap.UsageError, match=message):
        jax.eval_shape(gather, jax.ShapeDtypeStruct((4, 3), "float32"))


def test_what_no_size_holds_becomes_nan_for_all_of_it_and_for_nobody_else():
    codec = snap.Codec(snap.Ternary(1.0), NoRoom())
    gather = jax.jit(on_mesh(lambda x: varying(snap.all_gather(x, "x", codec=codec)), 2))
    received = gather(jnp.array([[0.0, 2.0], [0.0, 0.0]]))[0, :, 0]
    assert np.isnan(received[0]).all()
    np.testing.assert_array_equal(received[1], 0)
    with pytest.raises(snap.UsageError, match=r"NoRoom.* says that none of its 2 sizes holds"):
        codec.encode(jnp.ones(3))


@pytest.mark.parametrize("wire", [LADDER, snap.Rans(ratio=1.5), RunLength(), TwoSizes()], ids=repr)
def test_a_payload_that_does_not_fit_is_nan_and_never_truncated(wire):
    """At every size below the one needed NaN, from it on the very values."""
    codec, shape = snap.Codec(snap.Ternary(1.0), Poisoned(wire)), (1500,)
    x = 3 * jnp.asarray(np.random.default_rng(0).standard_normal(shape) > 1.2, jnp.float32)
    sizes = codec.payload_sizes(shape)
    least = int(codec.draft(codec.spikes(x))[0])
    assert least > 0

    @functools.partial(jax.vmap, in_axes=(None, 0))
    def received(x, rung):
        return codec.decode(codec.encode(x, rung), shape=shape, dtype=x.dtype, rung=rung)

    values = np.asarray(jax.jit(received)(x, jnp.arange(len(sizes), dtype=jnp.uint8)))
    assert np.isnan(values[:least]).all()
    np.testing.assert_array_equal(values[least:], np.broadcast_to(codec.quantize(x), values[least:].shape))


@pytest.mark.parametrize("collective", ["all_gather", "all_to_all", "psum"])
def test_noise_would_be_noticed(collective):
    """The wrapper of the invariant table breaks a wire that reads past its size, and no other."""

    def values(wire):
        codec = snap.Codec(snap.Count(1, 1.0), wire)
        program = lambda x: varying(getattr(snap, collective)(x, "x", *extra, codec=codec))
        return jax.jit(on_mesh(program, 2))(jnp.zeros((4, 8)))

    extra = (0, 0) if collective == "all_to_all" else ()
    assert np.any(values(Poisoned(ReadsPadding())))
    assert not np.any(values(Poisoned(TwoSizes())))
