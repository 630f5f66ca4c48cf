"""TopK: the baseline that sends only the largest elements.

Invariant: of n elements exactly `slots_for(fraction, n) = ceil(fraction * n)` are kept, so a sparse wire of that
capacity holds every tensor.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Integer

from snap_jax._compat import as_varying, varying_axes
from snap_jax.encodings.base import Encoding, encoding, in_thresholds
from snap_jax.encodings.integer import absmax_step, magnitude
from snap_jax.encodings.meeting_arrays import flat
from snap_jax.encodings.surrogates import round_clip
from snap_jax.errors import UsageError
from snap_jax.wires import bitstring as bit_strings
from snap_jax.wires import slots_for


@encoding
@dataclasses.dataclass(frozen=True)
class TopK(Encoding):
    """The largest magnitudes of the tensor, rounded: `s = round(x / step)` if kept, else 0; `y = s * step`.

    Exactly `ceil(fraction * n)` of n elements are kept, the first ones of equal magnitudes; `step = max|x| /
    2^(bits-1)` travels beside them in 4 bytes. Kept elements are not zero, so `bits` bits hold `2^bits` other values,
    and with `Events(fraction)` or `Bitmap(fraction)` a kept element takes `bits` bits and its address. The gradient is
    1 on kept elements and 0 elsewhere (Aji & Heafield 2017 send gradients so).

    Attributes:
      fraction: share of the elements that is kept.
      bits: 2 to 8.

    Raises:
      UsageError: unless `0 < fraction <= 1` and `bits` is 2 to 8.

    >>> TopK(fraction=0.5, bits=2).quantize(jnp.array([0.1, -4.0, 1.9, 0.2])).tolist()
    [0.0, -4.0, 2.0, 0.0]
    """

    fraction: float
    bits: int = 4
    baseline: ClassVar[bool] = True

    def __post_init__(self):
        if not 0 < self.fraction <= 1 or not 2 <= self.bits <= 8:
            raise UsageError(
                f"TopK: fraction={self.fraction}, bits={self.bits}: use 0 < fraction <= 1 and bits of 2 to 8"
            )

    @property
    def symbols(self):
        """{-2^(bits-1), ..., 2^(bits-1)}."""
        return range(-(2 ** (self.bits - 1)), 2 ** (self.bits - 1) + 1)

    @property
    def summable(self):
        """No: the step is taken from the data."""
        return False

    @property
    def density(self):
        """The fraction."""
        return self.fraction

    def side_specs(self, shape):
        """The step."""
        return (jax.ShapeDtypeStruct((), jnp.float32),)

    def encode(self, x):
        """Integers as floats, with the straight-through gradient where they are kept, and the step."""
        size = magnitude(x)
        limit = self.symbols.stop - 1
        step = absmax_step(jnp.max(size, initial=0), limit)
        spikes = round_clip(in_thresholds(x, step), -limit, limit)
        return jnp.where(largest(size, slots_for(self.fraction, x.size)), spikes, jnp.zeros_like(spikes)), (step,)

    def decode(self, values, side=()):
        """`spikes * step`."""
        return values.astype(jnp.float32) * side[0]


def largest(x: Float[Array, "..."], count: int) -> Bool[Array, "..."]:
    """Return which are the `count` largest of numbers that are not negative; the first ones of equal numbers.

    >>> largest(jnp.array([1.0, 3.0, 1.0, 2.0]), 3).tolist()
    [True, True, False, True]
    """
    if count >= x.size:
        return jnp.ones_like(x, bool)
    # As integers: these are ordered like the floats, and denormal ones differ in every program.
    order = lax.bitcast_convert_type(flat("TopK, Outliers", x).astype(jnp.float32), jnp.int32)
    last = _of_rank(order, count)
    above, ties = order > last, order == last
    room = count - bit_strings.count_fired(above)
    first = bit_strings.running(jnp.sum, ties.astype(jnp.int32)) <= room
    return (above | (ties & first)).reshape(x.shape)


def _of_rank(order: Integer[Array, " n"], count: int) -> Integer[Array, ""]:
    """Return the largest number that at least `count` reach, bit by bit from the top."""

    def halve(i: Array, number: Array) -> Array:
        higher = number | (jnp.int32(1) << (30 - i))
        return jnp.where(bit_strings.count_fired(order >= higher) >= count, higher, number)

    return lax.fori_loop(0, 31, halve, as_varying(jnp.int32(0), tuple(varying_axes(order))))
