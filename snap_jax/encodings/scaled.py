"""Scaled: another encoding, in units of a scale that is taken from the data.

Invariant: `Scaled(e).quantize(x) == scale * e.quantize(x / scale)`. Scales are quantiles, found by counting, and what
weights make of them is a sum of integers: no order of summation can change them, and outliers do not.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Shaped, UInt8

from snap_jax.encodings import scale_groups
from snap_jax.encodings.base import Encoding, in_range, in_thresholds, learnable
from snap_jax.encodings.integer import magnitude
from snap_jax.encodings.wrapped import Wrapped
from snap_jax.errors import UsageError

MEDIAN_OF_NORMAL = 0.6745  # of |x|, for a unit normal x: its standard deviation is 1 / 0.6745 medians
_MANTISSA = 2  # bits of a scale, besides 6 of the exponent
_SHIFT = 23 - _MANTISSA
_FIRST = (127 - 40) << _MANTISSA  # the upper bits of 2^-40 as f32


_CODE_OF_ONE = 40 << _MANTISSA
_FRACTION = 12  # bits of what weights add up to, in which 3 are those of numbers in scales
_STEPS = 8  # of a number in scales that weights see, up to 127 of them


@learnable("encoding", "weights")
@dataclasses.dataclass(frozen=True)
class Scaled(Wrapped):
    """An encoding in units of a scale per tensor, channel, token or block: `y = scale e(x / scale)`.

    The scale is a quantile of the magnitudes that are not zero, as a float of 6 bits of exponent and 2 of mantissa,
    from 2^-40 to 2^23 * 1.75. It travels beside the spikes in one byte. The thresholds of the encoding are in units of
    it and learned as usual: one per channel gives a learned shape times the own scale of each token.

    Attributes:
      encoding: one with a threshold, such as `Count(7)`.
      per: which elements share a scale: `"tensor"`, `"channel"` (an index of the last axis), `"token"` (all of the last
        axis), or a number of neighbors along the last axis.
      quantile: 0.5 is the median, 1 the maximum.
      weights: with these, the scale of a token of C channels, whose quantile is m, is
        `2 ** (weights[:C] @ clip(x / m, -16, 16) + weights[C] * log2(m) + weights[C + 1])`, in integers. Errors of some
        tokens cost a model more than those of others, and `calibrate.token_weights` finds what says so. Only the
        sender needs them, and nothing is learned of them. Tensors with other channels do not use them.

    Raises:
      UsageError: for an encoding that takes a scale from the data already or needs none, for other words in `per`,
        unless `0 < quantile <= 1`, and for weights where `per` is not "token".

    >>> from snap_jax.encodings import Count
    >>> x = jnp.array([[1.0, 2.0, -3.0], [100.0, 200.0, -300.0]])
    >>> Scaled(Count(3, threshold=0.5), "token").quantize(x).tolist()  # medians 2 and 192, in 8 bits
    [[1.0, 2.0, -3.0], [96.0, 192.0, -288.0]]
    """

    encoding: Any
    per: scale_groups.Groups = "token"
    quantile: float = 0.5
    weights: Any = None
    relative: ClassVar[bool] = True  # pyright: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]

    def __post_init__(self):
        inner = self.encoding
        if isinstance(inner, Encoding) and (inner.relative or inner.bit_patterns or inner.side_specs((1,))):
            raise UsageError(
                f"Scaled: {inner} has no threshold that could be in units of a scale: use one such as Count(7)"
            )
        if not scale_groups.is_groups(self.per):
            raise UsageError(f"Scaled: per={self.per!r}: use 'tensor', 'channel', 'token' or a number from 1 up")
        if not 0 < self.quantile <= 1:
            raise UsageError(f"Scaled: quantile={self.quantile}: use a number above 0, up to 1; 0.5 is the median")
        if self.weights is not None and self.per != "token":
            raise UsageError(f"Scaled: weights, and per={self.per!r}: use per='token', or no weights")

    def normalized(self, x):
        """`x / scale`."""
        return self._in_scales(x, self._scales(self._codes(x), x.shape))

    def side_specs(self, shape):
        """The scales, one byte each."""
        return (jax.ShapeDtypeStruct(scale_groups.grid(shape, self.per), jnp.uint8),)

    def expand_side(self, side, shape):
        """The scale of each element."""
        return (self._scales(side[0], shape),)

    def splits_side(self, shape, dimension, part):
        """Yes where no group falls into two parts."""
        return scale_groups.splits(shape, dimension, part, self.per)

    def encode(self, x):
        """Spikes of `x / scale`, with the gradient of the encoding, and the scales."""
        codes = self._codes(x)
        return self.encoding.encode(self._in_scales(x, self._scales(codes, x.shape)))[0], (codes,)

    def decode(self, values, side=()):
        """The value of the spikes, times the scale."""
        # The barriers here and below keep XLA from merging scale and threshold in some programs and not in others.
        return lax.optimization_barrier(self.encoding.decode(values)) * side[0]

    def reconstruct(self, x):
        """`scale e(x / scale)`; no gradient goes through the scale."""
        scale = self._scales(self._codes(x), x.shape)
        return lax.optimization_barrier(self.encoding.reconstruct(self._in_scales(x, scale))) * scale

    def _codes(self, x: Float[Array, "..."]) -> UInt8[Array, "..."]:
        codes = quantile_code(scale_groups.grouped(magnitude(x), self.per), self.quantile)
        if self.weights is None or x.shape[-1:] != (self.weights.shape[0] - 2,):
            return codes
        return weighted_code(codes, self._in_scales(x, self._scales(codes, x.shape)), self.weights)

    def _scales(self, codes: UInt8[Array, "..."], shape) -> Float[Array, "..."]:
        return scale_groups.spread(decode_scale(codes), shape, self.per)

    def _in_scales(self, x: Float[Array, "..."], scale: Float[Array, "..."]) -> Float[Array, "..."]:
        return lax.optimization_barrier(in_range(in_thresholds(x, scale), jnp.dtype("float32")))


def weighted_code(codes: UInt8[Array, "..."], units: Float[Array, "..."], weights: Float[Array, " n"]):
    """Return the codes of scales that weights make of codes and of numbers in their scales; see `Scaled`.

    >>> one = encode_scale(jnp.ones((1, 1)))
    >>> decode_scale(weighted_code(one, jnp.array([[1.0, -1.0]]), jnp.array([1.0, 0.0, 1.0, 2.0]))).tolist()
    [[8.0]]
    """
    channels = weights.shape[0] - 2
    most = 2**31 // (8 * 127 * max(channels, 1))
    fixed = jnp.round(lax.stop_gradient(weights) * (1 << _FRACTION))
    each = jnp.clip(jnp.round(fixed[:channels] / _STEPS), -most, most).astype(jnp.int32)
    slope, start = jnp.clip(fixed[channels:], -(2**19), 2**19).astype(jnp.int32)
    seen = jnp.clip(jnp.round(lax.stop_gradient(units) * _STEPS), -127, 127).astype(jnp.int32)
    octaves = jnp.sum(seen * each, axis=-1, keepdims=True) + start
    moved = (octaves << _MANTISSA) + slope * (codes.astype(jnp.int32) - _CODE_OF_ONE) + (1 << (_FRACTION - 1))
    return jnp.clip((moved >> _FRACTION) + _CODE_OF_ONE, 0, 255).astype(jnp.uint8)


def encode_scale(x: Float[Array, "..."]) -> UInt8[Array, "..."]:
    """Return numbers above 0 as 8 bits, rounded to nearest: 6 bits of exponent from 2^-40 on, 2 bits of mantissa.

    In integers, because what XLA makes of such conversions differs between programs.

    >>> decode_scale(encode_scale(jnp.array([1.0, 1.1, 1.13, 25265.0, 0.0]))).tolist()
    [1.0, 1.0, 1.25, 24576.0, 9.094947017729282e-13]
    """
    upper = (_bits(x) + (1 << (_SHIFT - 1))) >> _SHIFT
    return (jnp.clip(upper, _FIRST, _FIRST + 255) - _FIRST).astype(jnp.uint8)


def decode_scale(codes: UInt8[Array, "..."]) -> Float[Array, "..."]:
    """Return the f32 numbers of `encode_scale`."""
    return lax.bitcast_convert_type((codes.astype(jnp.int32) + _FIRST) << _SHIFT, jnp.float32)


def quantile_code(magnitudes: Float[Array, "... members"], quantile: float) -> UInt8[Array, "..."]:
    """Return `encode_scale` of a quantile of the numbers that are not zero, along the last axis; 0 if all are.

    The quantile is the smallest number that a share `quantile` of them does not exceed.

    >>> x = jnp.array([[0.0, 4.0, 1.0, 2.0, 0.0, 0.0], [0.0] * 6])
    >>> [decode_scale(quantile_code(x, q)).tolist()[0] for q in (0.1, 0.5, 1.0)]
    [1.0, 2.0, 4.0]
    """
    counted = _bits(magnitudes) >= 1 << 23  # smaller ones are zero in some programs
    codes = encode_scale(magnitudes)
    members = _count(counted)
    needed = members - jnp.clip(jnp.ceil(members.astype(jnp.float32) * quantile).astype(jnp.int32), 1, members) + 1
    found = jnp.zeros_like(members)
    for bit in reversed(range(8)):  # the largest code that so many reach
        higher = found | 1 << bit
        found = jnp.where(_count(counted & (codes >= higher[..., None].astype(codes.dtype))) >= needed, higher, found)
    return found.astype(jnp.uint8)


def _bits(x: Float[Array, "..."]) -> Shaped[Array, "..."]:
    return lax.bitcast_convert_type(x.astype(jnp.float32), jnp.int32)


def _count(which: Shaped[Array, "... members"]) -> Shaped[Array, "..."]:
    return jnp.sum(which, axis=-1, dtype=jnp.int32)
