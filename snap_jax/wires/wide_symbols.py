"""Digits: a range of symbols that is too wide for a wire, as digits that are not.

Invariant: `from_digits(to_digits(s, symbols), symbols) == s`. A payload begins with the mean, in 4 bytes. What is left
has digits centered on 0, so that numbers near the mean differ in their first digit only, and a wire that codes each
channel by itself codes the others in next to no bits.
"""

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Integer

from snap_jax.wires import size_grid
from snap_jax.wires.base import Rung, Wire, spike_dtype
from snap_jax.wires.packed import Packed

BITS = 7  # of a digit: at 128 levels, coding a digit that is always 0 takes 0.05 bits with tables of 12 bits
DIGIT = range(-(2 ** (BITS - 1)), 2 ** (BITS - 1))
_MEAN = 4  # bytes


@dataclasses.dataclass(frozen=True)
class Digits(Wire):
    """Another wire for the digits of each spike, or `Packed` where that is smaller.

    Attributes:
      wire: what carries the digits: those of one place are a channel.

    >>> from snap_jax.wires import Rans, pack, unpack
    >>> sums = jnp.arange(4096, dtype=jnp.int32) % 21 - 10  # of -1024 ... 1024
    >>> payload = pack(Digits(Rans()), sums, range(-1024, 1025))
    >>> round(8 * payload.size / 4096), 8 * Packed().sizes(4096, range(-1024, 1025))[0] // 4096
    (5, 12)
    >>> bool((unpack(Digits(Rans()), payload, sums.shape, range(-1024, 1025)) == sums).all())
    True
    """

    wire: Wire

    def sizes(self, size, symbols):
        """Those of the wire that are smaller than `Packed`, rounded up to `size_grid.sizes`, and that of `Packed`."""
        (most,) = Packed().sizes(size, symbols)
        smaller = (n for n in self._digits(size, symbols) if n < most)
        return tuple(sorted({size_grid.round_up(n, most, size_grid.DENSE) for n in smaller} | {most}))

    def _digits(self, size: int, symbols: range) -> tuple[int, ...]:
        """The bytes of digits and mean, for each rung of the wire."""
        return tuple(n + _MEAN for n in self.wire.sizes(size * places(_around_mean(symbols)), DIGIT))

    def _inner(self, size: int, symbols: range, rung: Rung) -> Array:
        """The largest rung of the wire that fits into `rung` of this one."""
        digits = self._digits(size, symbols)
        fitting = [sum(n <= nbytes for n in digits) - 1 for nbytes in self.sizes(size, symbols)]
        return jnp.asarray(fitting, jnp.uint8)[rung]

    def rung(self, spikes, symbols):
        """The first whose bytes suffice."""
        return self.draft(spikes, symbols)[0]

    def write(self, spikes, symbols, rung):
        """The payload of the rung, in the space of `Packed`."""
        return self.write_draft(self.draft(spikes, symbols)[1], symbols, rung)

    def draft(self, spikes, symbols):
        """The draft of the wire, and the mean."""
        mean = jnp.round(jnp.mean(spikes.astype(jnp.float32)) if spikes.size else 0.0).astype(jnp.int32)
        rung, inner = self.wire.draft(to_digits(spikes.astype(jnp.int32) - mean, _around_mean(symbols)), DIGIT)
        needed = jnp.asarray(self._digits(spikes.size, symbols), jnp.int32)[rung]
        smaller = jnp.asarray(self.sizes(spikes.size, symbols)[:-1], jnp.int32)
        return jnp.sum(needed > smaller).astype(jnp.uint8), (spikes, mean, inner)

    def write_draft(self, draft, symbols, rung):
        """The payload, from what was drafted."""
        spikes, mean, inner = draft
        *smaller, most = self.sizes(spikes.size, symbols)

        def digits(inner: Any) -> Array:
            payload = self.wire.write_draft(inner, DIGIT, self._inner(spikes.size, symbols, rung))
            return jnp.concatenate([lax.bitcast_convert_type(mean, jnp.uint8), payload])[:most]

        packed = lambda _: Packed().write(spikes, symbols, 0)  # noqa: E731
        return lax.cond(jnp.asarray(rung) == len(smaller), packed, digits, inner)

    def read(self, payload, shape, symbols, rung):
        """The spikes that `write` was given."""
        size, wide = math.prod(shape), _around_mean(symbols)
        *smaller, most = self.sizes(size, symbols)
        room = max(0, self.wire.sizes(size * places(wide), DIGIT)[-1] + _MEAN - most)

        def digits(payload: Array) -> Array:
            mean, body = lax.bitcast_convert_type(payload[:_MEAN], jnp.int32), jnp.pad(payload[_MEAN:], (0, room))
            inner = self._inner(size, symbols, rung)
            found = from_digits(self.wire.read(body, (size, places(wide)), DIGIT, inner), wide)
            return (found.astype(jnp.int32) + mean).astype(spike_dtype(symbols)).reshape(shape)

        packed = lambda payload: Packed().read(payload, shape, symbols, 0)  # noqa: E731
        return packed(payload) if not smaller else lax.cond(rung == len(smaller), packed, digits, payload)


def _around_mean(symbols: range) -> range:
    """All differences of two symbols."""
    return range(1 - len(symbols), len(symbols))


def places(symbols: range) -> int:
    """Return how many digits hold every symbol.

    >>> places(range(-64, 64)), places(range(-64, 65)), places(range(-1024, 1025))
    (1, 2, 2)
    """
    least, most, count = symbols[0], symbols[-1], 1
    while least < DIGIT[0] or most > DIGIT[-1]:
        least, most, count = (least - DIGIT[0]) >> BITS, (most - DIGIT[0]) >> BITS, count + 1
    return count


def to_digits(spikes: Integer[Array, "..."], symbols: range) -> Integer[Array, "size places"]:
    """Return the digits of each spike, the lowest first.

    >>> to_digits(jnp.array([3, -100]), range(-1024, 1025)).tolist()
    [[3, 0], [28, -1]]
    """
    rest, digits = spikes.reshape(-1).astype(jnp.int32), []
    for _ in range(places(symbols)):
        digits.append(((rest - DIGIT[0]) & (len(DIGIT) - 1)) + DIGIT[0])
        rest = (rest - digits[-1]) >> BITS
    return jnp.stack(digits, -1).astype(spike_dtype(DIGIT))


def from_digits(digits: Integer[Array, "size places"], symbols: range) -> Integer[Array, " size"]:
    """Return what `to_digits` was given."""
    weights = jnp.asarray([len(DIGIT) ** place for place in range(digits.shape[-1])], jnp.int32)
    return (digits.astype(jnp.int32) * weights).sum(-1).astype(spike_dtype(symbols))
