"""Codec: an encoding and a wire; what a collective needs to send floats as spikes.

Law: `decode(encode(x)) == quantize(x)` bit for bit.

A payload is one flat uint8 array: the packed spikes, what the encoding sends beside them (steps), and one
header byte. The header says what no spike can: the tensor held a NaN or an infinity. A header of 0 is what a device
reads when nothing was sent to it (as `lax.ppermute` leaves zeros): it decodes to zeros.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer, Shaped, UInt8

from snap_jax._compat import pytree
from snap_jax.encodings import Encoding, Side, all_finite, saturate
from snap_jax.errors import UsageError
from snap_jax.wires import Packed, Shape, Wire
from snap_jax.wires.bitstring import chain

NOTHING, FINITE, NOT_FINITE = 0, 1, 2


@pytree
@dataclasses.dataclass(frozen=True)
class Codec:
    """An encoding and the wire its spikes travel on.

    Attributes:
      encoding: float -> spikes -> float; its threshold may be an array, so a codec is a pytree.
      wire: spikes <-> bytes.

    >>> from snap_jax.encodings import Ternary
    >>> codec = Codec(Ternary(threshold=1.0))
    >>> codec.payload_bytes((1000,))  # 2 bits a spike and the header
    251
    >>> x = jnp.array([0.2, -3.0, 0.7])
    >>> codec.decode(codec.encode(x), shape=x.shape, dtype=x.dtype).tolist()
    [0.0, -1.0, 1.0]
    """

    encoding: Encoding
    wire: Wire = dataclasses.field(default=Packed(), metadata={"static": True})

    def quantize(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """What the other side will see of `x`; differentiable in `x` and in the threshold."""
        return self.encoding.quantize(x)

    def spikes(self, x: Float[Array, "..."]) -> Integer[Array, "..."]:
        """The integer spikes of `x`."""
        return self.encoding.spikes(x)

    def __post_init__(self):
        if not self.wire.holds(self.encoding.density):
            raise UsageError(
                f"Codec: {self.wire} cannot hold a tensor that fires more: put it into a ladder, "
                f"Ladder(({self.wire}, Packed()))"
            )

    def pack(self, spikes: Integer[Array, "..."], rung: Array | None = None) -> UInt8[Array, " bytes"]:
        """The spikes on the wire; given a rung, in the space of the largest."""
        if rung is None:
            return self.wire.pack(spikes, self.encoding.symbols)
        return self.wire.write(spikes, self.encoding.symbols, rung)

    def rung(self, spikes: Integer[Array, "..."]) -> UInt8[Array, ""]:
        """Which rung of the wire is the smallest that holds the spikes; 0 where there is one only."""
        return self.wire.rung(spikes, self.encoding.symbols)

    def body_bytes(self, size: int) -> tuple[int, ...]:
        """Bytes of the packed spikes, for every rung of the wire."""
        return self.wire.sizes(size, self.encoding.symbols)

    def encode(self, x: Array, rung: Array | None = None) -> UInt8[Array, " bytes"]:
        """The payload of `x`: what travels. A `Ladder` takes its rung here only if called eagerly."""
        require_float("Codec.encode", x)
        spikes, side = self.encoding.spikes(x), self.encoding.fire(x)[1]
        if rung is not None:
            return seal(self.pack(spikes, rung), side, all_finite(x))
        body, bad = self.wire.pack_and_check(spikes, ~jnp.isfinite(x), self.encoding.symbols)
        return seal(body, side, ~bad)

    def decode(
        self, payload: UInt8[Array, " bytes"], *, shape: Shape, dtype: jnp.dtype, rung: Array | None = None
    ) -> Float[Array, "..."]:
        """The floats that a payload stands for; `rung` as it was given to `encode`."""
        spikes, side, header = self.open(payload, shape, rung)
        return judge(saturate(self.encoding.value(spikes, self.encoding.spread(side, shape)), dtype), header)

    def open(
        self, payload: UInt8[Array, " bytes"], shape: Shape, rung: Array | None = None, whole: Shape | None = None
    ) -> tuple[Integer[Array, "..."], Side, Array]:
        """The spikes of a payload, what came beside them, and its header.

        `whole` is the shape of the tensor whose side travels, where the spikes are those of a part of it.
        """
        side, end = [], payload.size - 1
        for spec in reversed(self.encoding.beside(shape if whole is None else whole)):
            start = end - math.prod(spec.shape) * spec.dtype.itemsize
            side.insert(0, from_bytes(payload[start:end], spec.shape, spec.dtype))
            end = start
        body, symbols = payload[:end], self.encoding.symbols
        spikes = self.wire.unpack(body, shape, symbols) if rung is None else self.wire.read(body, shape, symbols, rung)
        return spikes, tuple(side), payload[-1]

    def payload_bytes(self, shape: Shape) -> int:
        """Bytes of the payload of a tensor of this shape; of the largest rung of a ladder."""
        return jax.eval_shape(self.encode, jax.ShapeDtypeStruct(tuple(shape), jnp.float32)).size

    def sent_bytes(self, x: Float[Array, "..."], rung: Array | None = None) -> Integer[Array, ""]:
        """Bytes that this very `x` takes on the wire: of the rung given, or the smallest that holds it."""
        sizes = self.body_bytes(x.size)
        beside = self.payload_bytes(x.shape) - sizes[-1]
        rung = self.rung(self.spikes(x)) if rung is None else rung
        return jnp.asarray(sizes, jnp.int32)[rung] + beside


def as_bytes(x: Shaped[Array, "..."]) -> UInt8[Array, " bytes"]:
    """Floats as 4 bytes each, integers as they are.

    >>> as_bytes(jnp.array([1.0])).tolist()
    [0, 0, 128, 63]
    """
    wide = x.astype(jnp.float32) if jnp.issubdtype(x.dtype, jnp.floating) else x
    return jax.lax.bitcast_convert_type(wide, jnp.uint8).reshape(-1)


def from_bytes(
    payload: UInt8[Array, " bytes"], shape: Shape, dtype: str | jnp.dtype = "float32"
) -> Shaped[Array, "..."]:
    """What `as_bytes` was given."""
    return jax.lax.bitcast_convert_type(payload.reshape((*shape, jnp.dtype(dtype).itemsize)), dtype)


def seal(body: UInt8[Array, " bytes"], side: Side, finite: Bool[Array, ""]) -> UInt8[Array, " sealed"]:
    """A payload: body, side information, header."""
    header = jnp.where(finite, FINITE, NOT_FINITE).astype(jnp.uint8)[None]
    return chain(body, jnp.concatenate([*map(as_bytes, side), header]))


def judge(y: Float[Array, "..."], header: UInt8[Array, ""]) -> Float[Array, "..."]:
    """`y` if its header says finite, zeros if nothing came, NaN otherwise."""
    bad = jnp.where(header == NOTHING, 0.0, jnp.nan).astype(y.dtype)
    return jnp.where(header == FINITE, y, bad)


def require_float(function: str, x: Array) -> None:
    """Raises unless `x` is of a float dtype: integers are no spikes yet."""
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise UsageError(
            f"{function}: got dtype {x.dtype}, only floats can be coded: cast it, or send it without codec="
        )
