"""The bytes of a payload: the packed spikes of one or several arrays, side arrays, one header per array.

Invariant: `read(write(...))` returns the same spikes; the layout is `body | side of each array | header of each array`.

A header says what no spike can: the array held a NaN or an infinity, or its spikes did not fit. A header of 0 is what a
device reads when nothing was sent to it (`lax.ppermute` leaves zeros there): it stands for zeros.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped, UInt8

from snap_jax.encodings import Encoding, Side, Spikes
from snap_jax.encodings.base import or_nan
from snap_jax.errors import UsageError
from snap_jax.wires import Shape
from snap_jax.wires.bitstring import chain

NOTHING, FINITE, NOT_FINITE = 0, 1, 2


class Arrived(NamedTuple):
    """One array of a payload as it was read: its spikes, its side arrays, its header."""

    values: Array
    side: Side
    header: Array


def as_bytes(x: Shaped[Array, "..."]) -> UInt8[Array, " bytes"]:
    """Return floats as 4 bytes each, integers as they are.

    >>> as_bytes(jnp.array([1.0])).tolist()
    [0, 0, 128, 63]
    """
    wide = x.astype(jnp.float32) if jnp.issubdtype(x.dtype, jnp.floating) else x
    return jax.lax.bitcast_convert_type(wide, jnp.uint8).reshape(-1)


def from_bytes(
    payload: UInt8[Array, " bytes"], shape: Shape, dtype: str | jnp.dtype = "float32"
) -> Shaped[Array, "..."]:
    """Return what `as_bytes` was given."""
    width = jnp.dtype(dtype).itemsize
    return jax.lax.bitcast_convert_type(payload.reshape((*shape, width) if width > 1 else shape), dtype)


def join(arrays: tuple[Array, ...]) -> Array:
    """Return the arrays as one: a single array as it is, several flattened one after the other."""
    return arrays[0] if len(arrays) == 1 else jnp.concatenate([a.reshape(-1) for a in arrays])


def split(joined: Array, shapes: tuple[Shape, ...]) -> tuple[Array, ...]:
    """Return what `join` was given."""
    ends = [0]
    for shape in shapes:
        ends.append(ends[-1] + math.prod(shape))
    flat = joined.reshape(-1)
    return tuple(flat[a:b].reshape(shape) for a, b, shape in zip(ends, ends[1:], shapes, strict=False))


def joined_shape(shapes: tuple[Shape, ...]) -> Shape:
    """Return the shape of what `join` returns for arrays of these shapes."""
    return shapes[0] if len(shapes) == 1 else (sum(map(math.prod, shapes)),)


def tail(spikes: tuple[Spikes, ...], fits: Array | bool = True) -> UInt8[Array, " bytes"]:
    """Return all that follows the body: side arrays, then a header per array."""
    sides = [as_bytes(leaf) for each in spikes for leaf in each.side]
    finite = jnp.stack([jnp.asarray(each.finite & fits) for each in spikes])
    return jnp.concatenate([*sides, jnp.where(finite, FINITE, NOT_FINITE).astype(jnp.uint8)])


def tail_bytes(encoding: Encoding, shapes: tuple[Shape, ...]) -> int:
    """Return the length of `tail` for arrays of these shapes.

    Raises:
      UsageError: for 2^31 bytes or more.
    """
    specs = [spec for shape in shapes for spec in encoding.side_specs(shape)]
    size = sum(math.prod(spec.shape) * spec.dtype.itemsize for spec in specs) + len(shapes)
    if size >= 2**31:
        name = type(encoding).__name__
        raise UsageError(
            f"{name}: {size} bytes of scales beside the spikes are past 2^31: use fewer, or split the tensor"
        )
    return size


def read_tail(
    encoding: Encoding, payload: UInt8[Array, " bytes"], shapes: tuple[Shape, ...]
) -> list[tuple[Side, Array]]:
    """Return the side arrays and the header of each array whose side has the specs of `shapes`."""
    sides, start = [], 0
    for shape in shapes:
        side = []
        for spec in encoding.side_specs(shape):
            end = start + math.prod(spec.shape) * spec.dtype.itemsize
            side.append(from_bytes(payload[start:end], spec.shape, spec.dtype))
            start = end
        sides.append(tuple(side))
    return [(side, payload[start + i]) for i, side in enumerate(sides)]


def seal(body: UInt8[Array, " body"], tail: UInt8[Array, " tail"]) -> UInt8[Array, " payload"]:
    """Return body and tail as one payload."""
    return chain(body, tail)


def judge(y: Float[Array, "..."], header: UInt8[Array, ""]) -> Float[Array, "..."]:
    """Return `y` if its header says finite, zeros if nothing came, NaN otherwise."""
    return or_nan((header == FINITE) | (header == NOTHING), jnp.where(header == NOTHING, 0.0, y))
