"""Packed: as many bits per spike as its levels need.

Invariant: the payload depends on shape and symbols only: `ceil(log2(levels))` bits per spike, 32 / digits with `radix`.
"""

import dataclasses
import functools
import math
import operator

import jax
import jax.numpy as jnp

from snap_jax.wires.base import Wire
from snap_jax.wires.symbols import code_dtype, to_codes, to_spikes, width_of


@dataclasses.dataclass(frozen=True)
class Packed(Wire):
    """Fixed-width fields: `ceil(log2(levels))` bits per spike, `sum_p ceil(n p / 8)` bytes over the parts p of a width.

    Attributes:
      radix: write as many base-`levels` digits as a 32-bit word holds, `32 / floor(32 / log2(levels))` bits per spike:
        1.6 instead of 2 for ternary.

    >>> from snap_jax.wires import pack, unpack
    >>> payload = pack(Packed(), jnp.array([-1, 0, 1, 1, 0]), range(-1, 2))
    >>> payload.shape, unpack(Packed(), payload, (5,), range(-1, 2)).tolist()
    ((2,), [-1, 0, 1, 1, 0])
    """

    radix: bool = False

    def write(self, spikes, symbols, rung):
        """The bytes of `spikes`; see the class."""
        codes = to_codes(spikes, symbols)
        if self._digits_pay(symbols):
            return _pack_radix(codes, len(symbols))
        return _pack_fields(codes, width_of(len(symbols)))

    def read(self, payload, shape, symbols, rung):
        """The spikes that `write` was given."""
        size = math.prod(shape)
        if self._digits_pay(symbols):
            codes = _unpack_radix(payload, size, len(symbols))
        else:
            codes = _unpack_fields(payload, size, width_of(len(symbols)))
        return to_spikes(codes, symbols).reshape(shape)

    def sizes(self, size, symbols):
        """`ceil(n p / 8)` summed over the parts p of the width; whole 32-bit words with `radix`."""
        if self._digits_pay(symbols):
            return (4 * math.ceil(size / _digits(len(symbols))),)
        return (sum(math.ceil(size * part / 8) for part in _parts(width_of(len(symbols)))),)

    def _digits_pay(self, symbols: range) -> bool:
        """Whether digits are smaller: not for one level, which takes no bits, nor where a word holds one digit."""
        return self.radix and 1 < len(symbols) <= 2**16


def _parts(width: int) -> list[int]:
    """`width` as a sum of 8, 4, 2 and 1, widest first: fields that fill whole bytes."""
    return [8] * (width // 8) + [p for p in (4, 2, 1) if width % 8 & p]


def _pack_fields(codes, width: int):
    if width == 8 * codes.dtype.itemsize:
        return jax.lax.bitcast_convert_type(codes, jnp.uint8).reshape(-1)
    planes, shift = [jnp.zeros(0, jnp.uint8)], 0
    for part in _parts(width):
        field = (codes >> shift) & (2**part - 1)
        planes.append(pack_lanes(field.astype(jnp.uint8), part))
        shift += part
    return jnp.concatenate(planes)


def _unpack_fields(payload, size: int, width: int):
    if width == 8 * code_dtype(2**width).itemsize:
        return jax.lax.bitcast_convert_type(payload.reshape(size, width // 8), code_dtype(2**width)).reshape(-1)
    codes, start, shift = jnp.zeros(size, code_dtype(2**width)), 0, 0
    for part in _parts(width):
        count = math.ceil(size * part / 8)
        field = unpack_lanes(payload[start : start + count], size, part)
        codes = codes | (field.astype(codes.dtype) << shift)
        start, shift = start + count, shift + part
    return codes


def pack_lanes(fields, part: int):
    """Return bytes; field `lane * W + w` is at bits `lane * part ...` of byte w, so that loops vectorize."""
    lanes = 8 // part
    count = math.ceil(fields.size / lanes)
    return _or(_pad(fields, lanes * count).reshape(lanes, count) << _steps(lanes, part))


def _steps(count: int, step: int):
    """A column of shifts: 0, step, 2 step, ..."""
    return (jnp.arange(count, dtype=jnp.uint8) * step).astype(jnp.uint8)[:, None]


def _or(rows):
    return functools.reduce(operator.or_, rows)


def unpack_lanes(packed, size: int, part: int):
    """Return the fields that `pack_lanes` was given."""
    shifts = jnp.arange(0, 8, part, dtype=jnp.uint8)[:, None]
    return ((packed[None] >> shifts) & (2**part - 1)).reshape(-1)[:size]


def _digits(levels: int) -> int:
    """How many base-`levels` digits a 32-bit word holds."""
    count = 1
    while levels ** (count + 1) <= 2**32:
        count += 1
    return count


def _pack_radix(codes, levels: int):
    digits = _digits(levels)
    rows = _pad(codes, digits * math.ceil(codes.size / digits)).reshape(digits, -1).astype(jnp.uint32)
    words = sum(row * jnp.uint32(levels**place) for place, row in enumerate(rows))
    return jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(-1)


def _unpack_radix(payload, size: int, levels: int):
    words = jax.lax.bitcast_convert_type(payload.reshape(-1, 4), jnp.uint32)
    rows = [(words // jnp.uint32(levels**place)) % jnp.uint32(levels) for place in range(_digits(levels))]
    return jnp.concatenate(rows)[:size].astype(code_dtype(levels))


def _pad(flat, size: int):
    return flat if flat.size == size else jnp.pad(flat, (0, size - flat.size))
