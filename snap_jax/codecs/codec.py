"""Codec: an encoding and a wire; what a collective needs to send floats as spikes.

Invariant: `decode(encode(x)) == quantize(x)` bit for bit.

A payload is one flat uint8 array; `codecs.payload` says what it holds.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer, UInt8

from snap_jax._compat import pytree
from snap_jax.codecs.payload import judge, read_tail, seal, tail, tail_bytes
from snap_jax.encodings import Encoding, Spikes, saturate
from snap_jax.errors import UsageError
from snap_jax.wires import Packed, Shape, Wire
from snap_jax.wires.base import pack, unpack
from snap_jax.wires.symbols import contiguous, from_contiguous, to_contiguous
from snap_jax.wires.wire_checks import checked_sizes, checked_spikes


@pytree
@dataclasses.dataclass(frozen=True)
class Codec:
    """An encoding and the wire its spikes travel on.

    Attributes:
      encoding: float -> spikes -> float; its threshold may be an array, so a codec is a pytree.
      wire: spikes <-> bytes.

    Raises:
      UsageError: for what is no encoding or no wire; if the wire has too little room for the spikes of the encoding.

    >>> from snap_jax.encodings import Ternary
    >>> codec = Codec(Ternary(threshold=1.0))
    >>> codec.payload_bytes((1000,))  # 2 bits per spike and the header
    251
    >>> x = jnp.array([0.2, -3.0, 0.7])
    >>> codec.decode(codec.encode(x), shape=x.shape, dtype=x.dtype).tolist()
    [0.0, -1.0, 1.0]
    """

    encoding: Encoding
    wire: Wire = dataclasses.field(default=Packed(), metadata={"static": True})

    def __post_init__(self):
        check_parts(self.encoding, self.wire)
        if not self.wire.holds(self.encoding.density):
            raise UsageError(
                f"Codec: {self.wire} cannot hold a tensor that fires more: put it into a ladder, "
                f"Ladder(({self.wire}, Packed()))"
            )

    def quantize(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return what the receiver will see of `x`; differentiable in `x` and in the learnable arrays."""
        check_input("Codec.quantize", self, x)
        return self.encoding.quantize(x)

    def fire(self, x: Float[Array, "..."]) -> Spikes:
        """Return the spikes of `x`."""
        return self.encoding.fire(x)

    def spikes(self, x: Float[Array, "..."]) -> Integer[Array, "..."]:
        """Return the integer spikes of `x`."""
        return self.encoding.spikes(x)

    def encode(self, x: Array, rung: Array | None = None) -> UInt8[Array, " bytes"]:
        """Return the payload of `x`: what travels.

        Args:
          x: of a float dtype.
          rung: which of the wire's sizes to write; a payload that does not fit decodes to NaN. `None` takes the
            smallest that holds `x` when called eagerly, the largest while tracing.
        """
        check_input("Codec.encode", self, x)
        check_sizes("Codec.encode", x)
        spikes = self.fire(x)
        if rung is None:
            symbols = self.encoding.symbols
            return seal(pack(self.wire, to_contiguous(spikes.values, symbols), contiguous(symbols)), tail((spikes,)))
        least, draft = self.draft(spikes.values)
        return seal(self.write(draft, rung), tail((spikes,), least <= rung))

    def decode(
        self, payload: UInt8[Array, " bytes"], *, shape: Shape, dtype: jnp.dtype, rung: Array | None = None
    ) -> Float[Array, "..."]:
        """Return the floats that a payload stands for; `rung` as it was given to `encode`."""
        symbols, end = self.encoding.symbols, payload.size - tail_bytes(self.encoding, (shape,))
        if rung is None:
            values = from_contiguous(unpack(self.wire, payload[:end], shape, contiguous(symbols)), symbols)
        else:
            values = self.read(payload[:end], shape, rung)
        ((side, header),) = read_tail(self.encoding, payload[end:], (shape,))
        y = self.encoding.decode(values, self.encoding.expand_side(side, shape))
        return judge(saturate(y, dtype), header)

    def sizes(self, size: int) -> tuple[int, ...]:
        """Return the bytes of `size` packed spikes for each rung of the wire, rising."""
        return checked_sizes(self.wire, size, contiguous(self.encoding.symbols))

    def draft(self, values: Integer[Array, "..."]) -> tuple[UInt8[Array, ""], Any]:
        """Return the rung of the smallest size that holds the spikes, and what `write` needs of them."""
        return _draft(values, self.wire, self.encoding.symbols)

    def write(self, draft: Any, rung: Array) -> UInt8[Array, " most"]:
        """Return the packed spikes of a `draft`, in the space of the largest size."""
        return _write(draft, rung, self.wire, self.encoding.symbols)

    def read(self, body: UInt8[Array, " most"], shape: Shape, rung: Array) -> Integer[Array, "..."]:
        """Return the spikes that `write` was given."""
        return _read(body, rung, shape, self.wire, self.encoding.symbols)

    def payload_sizes(self, shape: Shape) -> tuple[int, ...]:
        """Return the payload bytes of a tensor of this shape for each rung of the wire, rising."""
        beside = tail_bytes(self.encoding, (tuple(shape),))
        return tuple(size + beside for size in self.sizes(int(np.prod(shape, dtype=np.int64))))

    def payload_bytes(self, shape: Shape) -> int:
        """Return the payload bytes of a tensor of this shape; the most, if the wire has several sizes."""
        return self.payload_sizes(shape)[-1]

    def sent_bytes(self, x: Float[Array, "..."], rung: Array | None = None) -> Integer[Array, ""]:
        """Return the payload bytes of this very `x`: of the rung given, or the smallest that holds it."""
        rung = self.draft(self.spikes(x))[0] if rung is None else rung
        return jnp.asarray(self.payload_sizes(x.shape), jnp.int32)[rung]


# Jitted, so that a program that sends alike in many places traces and lowers each step once.
@functools.partial(jax.jit, static_argnums=(1, 2))
def _draft(values, wire: Wire, symbols: range):
    return wire.draft(to_contiguous(values, symbols), contiguous(symbols))


@functools.partial(jax.jit, static_argnums=(2, 3))
def _write(draft, rung, wire: Wire, symbols: range):
    return wire.write_draft(draft, contiguous(symbols), rung)


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _read(body, rung, shape: Shape, wire: Wire, symbols: range):
    values = wire.read(body, shape, contiguous(symbols), rung)
    return from_contiguous(checked_spikes(wire, values, shape, contiguous(symbols)), symbols)


def check_parts(encoding: Any, wire: Any) -> None:
    """Raise for words, numbers, `None`, classes, and one kind where the other belongs.

    Other objects pass, as JAX makes codecs of placeholders.

    Raises:
      UsageError: says what to give.
    """
    wrong = (str, int, float, type, type(None))
    if isinstance(encoding, (*wrong, Wire, Codec)):
        raise UsageError(
            f"Codec: encoding {encoding!r} is no encoding: give one such as Count(limit=3), or take words with "
            'snap.codec("count:3")'
        )
    if isinstance(wire, (*wrong, Encoding, Codec)):
        raise UsageError(
            f'Codec: wire {wire!r} is no wire: give one such as Rans(), or take words with snap.codec(encoding, "rans")'
        )


def check_input(function: str, codec: Codec | None, x: Array) -> None:
    """Raise unless `x` is of a float dtype and the threshold, if there is any, broadcasts against it.

    Raises:
      UsageError: naming `function`.
    """
    if not jnp.issubdtype(jnp.result_type(x), jnp.floating):
        raise UsageError(
            f"{function}: got dtype {x.dtype}, only floats can be coded: cast it, or send it without codec="
        )
    threshold, shape = None if codec is None else codec.encoding.threshold, jnp.shape(x)
    if threshold is None:
        return
    threshold = jnp.shape(threshold)
    ends = zip(threshold[::-1], shape[::-1], strict=False)
    if len(threshold) > len(shape) or any(have != 1 and have != want for have, want in ends):
        raise UsageError(
            f"{function}: a threshold of shape {threshold} does not broadcast against an input of shape {shape}: "
            "give one number, or one per element of the last axis"
        )


def check_sizes(function: str, x: Array) -> None:
    """Raise for symbolic sizes, as `jax.export` takes them.

    Raises:
      UsageError: naming `function`.
    """
    if not all(isinstance(n, int) for n in x.shape):
        raise UsageError(
            f"{function}: the shape {x.shape} has symbolic sizes: JAX cannot run a shard_map or a bit cast that "
            "depends on them, as packing does: export a program for each size"
        )
