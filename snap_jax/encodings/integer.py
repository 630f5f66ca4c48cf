"""Int: the baseline with evenly spaced values.

Invariant: `y = s * step`. A step that was taken from the data travels beside the integers: 4 bytes for a whole tensor,
2 per channel or block.
"""

import dataclasses
import numbers
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt16

from snap_jax.encodings import scale_groups
from snap_jax.encodings.base import Encoding, encoding, in_thresholds, saturate
from snap_jax.encodings.meeting_arrays import of_spikes
from snap_jax.encodings.surrogates import round_clip
from snap_jax.errors import UsageError


@encoding
@dataclasses.dataclass(frozen=True)
class Int(Encoding):
    """Integers, a baseline: `s = clip(round(x / step), -2^(bits-1), 2^(bits-1) - 1)`, `y = s * step`.

    Attributes:
      bits: 2 to 8.
      threshold: the step, learned like a threshold (LSQ, Esser et al. 2020), for the tensor or per channel; `None`
        takes `max|x| / (2^(bits-1) - 1)` of the tensor, which then travels beside the integers in 4 bytes.
      block: with `threshold=None`, what the maximum is taken over: `None` for the tensor, `"channel"` for each index of
        the last axis, `"token"` for all of the last axis, a number for blocks of so many neighbors along the last axis
        (the last one may be short). These steps are rounded up to bfloat16, so that nothing saturates, and take 2 bytes
        each.

    Raises:
      UsageError: unless `bits` is an integer from 2 to 8 and `block` is one of these.

    >>> Int(bits=4, threshold=0.5).quantize(jnp.array([0.7, 9.0, -9.0])).tolist()
    [0.5, 3.5, -4.0]
    >>> Int(bits=8).quantize(jnp.array([-1.0, 1.0])).tolist()
    [-1.0, 1.0]
    >>> Int(bits=2, block=2).quantize(jnp.array([-1.0, 0.25, 8.0])).tolist()
    [-1.0, 0.0, 8.0]
    """

    bits: int
    threshold: Any = None
    block: int | str | None = None
    baseline: ClassVar[bool] = True

    def __post_init__(self):
        if not isinstance(self.bits, numbers.Integral) or not 2 <= self.bits <= 8:
            raise UsageError(f"Int: bits={self.bits}: use 2 to 8, or Cast() for more")
        if self.block is None:
            return
        if self.threshold is not None:
            raise UsageError(f"Int: block={self.block!r} belongs to steps taken from the data: use threshold=None")
        if self.block == "tensor" or not scale_groups.is_groups(self.block):
            raise UsageError(f"Int: block={self.block!r}: use None, 'channel', 'token' or a number from 1 up")

    @property
    def symbols(self):
        """Two's complement of `bits` bits."""
        return range(-(2 ** (self.bits - 1)), 2 ** (self.bits - 1))

    @property
    def summable(self):
        """Only with a shared step."""
        return self.threshold is not None

    def initial_threshold(self, sample):
        """`2 E|x| / sqrt(limit)` of each channel (LSQ, Esser et al. 2020)."""
        return jnp.maximum(2 * jnp.abs(sample).mean(0) / max(self.symbols[-1], 1) ** 0.5, 1e-6)

    def side_specs(self, shape):
        """The steps, where they were taken from the data."""
        if self.threshold is not None:
            return ()
        if self.block is None:
            return (jax.ShapeDtypeStruct((), jnp.float32),)
        return (jax.ShapeDtypeStruct(scale_groups.grid(shape, self.block), jnp.uint16),)

    def expand_side(self, side, shape):
        """The step of each element."""
        if self.threshold is not None or self.block is None:
            return side
        return (scale_groups.spread(widen(side[0]), shape, self.block),)

    def splits_side(self, shape, dimension, part):
        """Yes where the parts have other channels, or no block falls into two of them."""
        if self.threshold is not None:
            return False
        return scale_groups.splits(shape, dimension, part, self.block or "tensor")

    def encode(self, x):
        """Integers as floats with the straight-through gradient, and the steps that were taken from the data."""
        side = () if self.threshold is not None else (self._steps(x),)
        return round_clip(self._in_steps(x, side), self.symbols.start, self.symbols.stop - 1), side

    def decode(self, values, side=()):
        """`spikes * step`."""
        return of_spikes(values, side[0] if side else self.threshold)

    def _in_steps(self, x, side):
        return in_thresholds(x, self.expand_side(side, x.shape)[0] if side else self.threshold)

    def _steps(self, x):
        sizes = magnitude(x)
        if self.block is None:
            return absmax_step(jnp.max(sizes, initial=0), self.symbols.stop - 1)
        largest = jnp.max(scale_groups.grouped(sizes, self.block), axis=-1, initial=0)
        return round_up(absmax_step(largest, self.symbols.stop - 1))


def magnitude(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return `|x|` as f32 without gradient; what f32 cannot hold counts as its largest number.

    >>> magnitude(jnp.array([-2.0, 0.5])).tolist()
    [2.0, 0.5]
    """
    x = jax.lax.stop_gradient(x)
    return jnp.abs(x.astype(jnp.float32) if x.dtype.itemsize <= 4 else saturate(x, jnp.dtype("float32")))


def absmax_step(largest: Float[Array, "..."], limit: int) -> Float[Array, "..."]:
    """Return `largest / limit`, at least the smallest normal number.

    >>> absmax_step(jnp.array([14.0]), 7).tolist()
    [2.0]
    """
    return jnp.maximum(largest * (1 / limit), jnp.finfo(jnp.float32).tiny)


def round_up(x: Float[Array, "..."]) -> UInt16[Array, "..."]:
    """Return the bits of positive numbers rounded up to bfloat16, to the largest finite one at most.

    In integers, because XLA may drop a conversion to bfloat16 and back.

    >>> widen(round_up(jnp.array([1.0, 1.001, 3.4e38]))).tolist()
    [1.0, 1.0078125, 3.3895313892515355e+38]
    """
    bits = jax.lax.bitcast_convert_type(x.astype(jnp.float32), jnp.uint32)
    return jnp.minimum((bits + 0xFFFF) >> 16, 0x7F7F).astype(jnp.uint16)


def widen(bits: UInt16[Array, "..."]) -> Float[Array, "..."]:
    """Return the f32 numbers that `round_up` stands for."""
    return jax.lax.bitcast_convert_type(bits.astype(jnp.uint32) << 16, jnp.float32)
