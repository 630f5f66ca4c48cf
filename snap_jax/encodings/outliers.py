"""Outliers: another encoding, beside which the largest of its errors travel.

Invariant: exactly `slots_for(share, n)` of n elements are corrected, those with the largest errors.

Spike counts have a limit, and frequency tables few symbols. A few elements of a real stream are hundreds of times as
large as the others of their token: cut off, they do more harm than all rounding.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from snap_jax.encodings.base import Encoding, learnable
from snap_jax.encodings.cast import Cast
from snap_jax.encodings.integer import magnitude
from snap_jax.encodings.topk import largest
from snap_jax.encodings.wrapped import Wrapped
from snap_jax.errors import UsageError
from snap_jax.wires import Shape, slots_for

_FLOAT = Cast("bfloat16")


@learnable("encoding")
@dataclasses.dataclass(frozen=True)
class Outliers(Wrapped):
    """An encoding, and its largest errors as floats: `y = e(x) + round(x - e(x))` at a share of the elements.

    An error that is sent takes 6 bytes: 4 for its place, 2 for a bfloat16.

    Attributes:
      encoding: of all elements.
      share: of the elements whose errors are sent.

    Raises:
      UsageError: unless `0 < share <= 1`, and for an encoding of floats.

    >>> from snap_jax.encodings import Count
    >>> Outliers(Count(3), share=0.25).quantize(jnp.array([0.6, -1.2, 500.0, 2.2])).tolist()
    [1.0, -1.0, 499.0, 2.0]
    """

    encoding: Any
    share: float = 1e-4

    def __post_init__(self):
        if not 0 < self.share <= 1:
            raise UsageError(f"Outliers: share={self.share}: use a number above 0, up to 1, such as 1e-4")
        if isinstance(self.encoding, Encoding) and self.encoding.bit_patterns:
            raise UsageError(f"Outliers: {self.encoding} sends floats: use an encoding such as Count(7)")

    def side_specs(self, shape):
        """Places and errors; then what the encoding sends."""
        count = _count(self, shape)
        own = jax.ShapeDtypeStruct((count,), jnp.uint32), jax.ShapeDtypeStruct((count,), jnp.uint16)
        return (*own, *self.encoding.side_specs(shape))

    def expand_side(self, side, shape):
        """The errors at their places, zeros elsewhere; then what the encoding sends."""
        places, errors, *inner = side
        flat = jnp.zeros(max(1, math.prod(shape))).at[places].set(_FLOAT.decode(errors), mode="drop")
        return (flat[: math.prod(shape)].reshape(shape), *self.encoding.expand_side(tuple(inner), shape))

    def encode(self, x):
        """Spikes of the encoding; places and errors, and what the encoding sends."""
        values, side = self.encoding.encode(x)
        error = self._errors(x, self.encoding.reconstruct(x)).reshape(-1)
        places = jnp.nonzero(self._chosen(error), size=_count(self, x.shape), fill_value=x.size)[0]
        errors = _FLOAT.encode(error.at[places].get(mode="fill", fill_value=0))[0]
        return values, (places.astype(jnp.uint32), errors, *side)

    def decode(self, values, side=()):
        """The value of the spikes, and the errors that came."""
        errors, *inner = side
        return jax.lax.optimization_barrier(self.encoding.decode(values, tuple(inner))) + errors

    def reconstruct(self, x):
        """What the encoding gives, with its largest errors corrected; the gradient is 1 there."""
        y = jax.lax.optimization_barrier(self.encoding.reconstruct(x))
        error = self._errors(x, y)
        return y + _FLOAT.reconstruct(jnp.where(self._chosen(error), error, 0))

    def _errors(self, x: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "..."]:
        return x.astype(jnp.float32) - y

    def _chosen(self, error: Float[Array, "..."]) -> Array:
        return largest(magnitude(error), _count(self, error.shape))


def _count(code: Outliers, shape: Shape) -> int:
    return slots_for(code.share, math.prod(shape))
