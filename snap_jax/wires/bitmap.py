"""Bitmap: one bit per element, then the values that are not zero.

Invariant: the payload is `n` bits that say which elements fired, in whole bytes, and `ceil(log2(levels - 1))` bit
planes of the non-zero values, in order, one directly after the other.
"""

import dataclasses
import math

import jax.numpy as jnp
from jax import lax

from snap_jax.errors import UsageError
from snap_jax.wires import bitstring
from snap_jax.wires.base import Sparse, require_offsets
from snap_jax.wires.symbols import code_dtype, to_fired, to_values, width_of, without_zero


@dataclasses.dataclass(frozen=True)
class Bitmap(Sparse):
    """One bit per element that says whether it fired, then the non-zero values, `ceil(log2(levels - 1))` bits each.

    Attributes:
      capacity: the largest share of elements that may fire; 1 holds any tensor, less is for a size of a `Ladder`.

    Raises:
      UsageError: unless `0 < capacity <= 1`; when used, for symbols without 0.

    >>> from snap_jax.wires import pack
    >>> wire, s = Bitmap(), jnp.array([0, -1, 0, 0, 1, 0, 0, 0])
    >>> pack(wire, s, range(-1, 2)).tolist()  # elements 1 and 4 fired; one bit each: 0 for -1, 1 for +1
    [18, 2]
    >>> Bitmap(capacity=0.25).sizes(800, range(-1, 2))  # 100 bytes of bitmap, 25 of values
    (125,)
    """

    capacity: float = 1.0

    def __post_init__(self):
        if not 0 < self.capacity <= 1:
            raise UsageError(f"Bitmap: capacity={self.capacity} is no share of elements: use 0 < capacity <= 1")

    def sizes(self, size, symbols):
        """`ceil(n / 8) + ceil(slots * width / 8)`."""
        width = width_of(len(without_zero(symbols)))
        nbytes = math.ceil(size / 8) + math.ceil(self.slots(size) * width / 8)
        require_offsets(self, size, 8 * nbytes)
        return (nbytes,)

    def setting(self, size):
        """The slots."""
        return (self.slots(size),)

    def write_any(self, spikes, symbols, settings, chosen, room):
        """Squeeze the planes of each word of 32 elements and write them one after the other."""
        flat, width = spikes.reshape(-1), width_of(len(without_zero(symbols)))
        fired = bitstring.mask_words(flat != 0)
        head = jnp.packbits(flat != 0, bitorder="little")
        if not width or not flat.size:
            return jnp.pad(head, (0, room - head.size))
        (slots,) = (jnp.asarray(s)[chosen] for s in zip(*settings, strict=True))
        before = bitstring.starts(lax.population_count(fired).astype(jnp.int32))
        planes, codes = jnp.arange(width)[:, None], jnp.pad(to_values(flat, symbols), (0, -flat.size % 32))
        bits = bitstring.mask_words((codes[None] >> planes.astype(codes.dtype)) & 1 != 0)
        squeezed = bitstring.squeeze(bits, jnp.tile(fired, width))
        body = jnp.zeros(bitstring.words_for(8 * room) + 1, jnp.uint32)
        body = bitstring.put(body, ((planes * slots + before[None]).reshape(-1), squeezed))
        return jnp.concatenate([head, bitstring.to_bytes(body)[: room - head.size]])

    def read_any(self, payload, shape, symbols, settings, chosen):
        """Give each set bit the next value."""
        size, width = math.prod(shape), width_of(len(without_zero(symbols)))
        head = math.ceil(size / 8)
        fired = bitstring.to_words(payload[:head])
        has_fired = jnp.unpackbits(payload[:head], count=size, bitorder="little").astype(bool)
        codes = jnp.zeros(size, code_dtype(len(symbols) - 1))
        if width and size:
            (slots,) = (jnp.asarray(s)[chosen] for s in zip(*settings, strict=True))
            before, body = (
                bitstring.starts(lax.population_count(fired).astype(jnp.int32)),
                bitstring.to_words(payload[head:]),
            )
            offsets = jnp.arange(width)[:, None] * slots + before[None]
            for plane, squeezed in enumerate(bitstring.take(body, offsets, jnp.uint32(0xFFFFFFFF))):
                codes |= bitstring.spread(squeezed, fired)[:size].astype(codes.dtype) << plane
        values = to_fired(codes, symbols)
        return jnp.where(has_fired, values, jnp.zeros_like(values)).reshape(shape)
