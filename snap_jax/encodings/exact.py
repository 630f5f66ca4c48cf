"""Exact: another encoding, beside which a few tokens or channels travel as floats.

Invariant: at the places that are exact, `quantize(x)` is `x` rounded to `dtype`; elsewhere it is that of the encoding,
for an `x` that is zero at those places.

Transformers put numbers a thousand times as large as the others into the first token of a sequence and into a few
channels. Coded with the rest, they would take its resolution.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from snap_jax.encodings.base import Encoding, learnable
from snap_jax.encodings.cast import Cast
from snap_jax.encodings.wrapped import Wrapped
from snap_jax.errors import UsageError
from snap_jax.wires import Shape


@learnable("encoding")
@dataclasses.dataclass(frozen=True)
class Exact(Wrapped):
    """An encoding, but for the first tokens of each sequence and some channels, which travel as floats.

    A sequence is what lies along the axis before the last one, and its indices are the tokens; an array of one axis has
    channels only.

    Attributes:
      encoding: of all other elements.
      tokens: how many of the first tokens are exact.
      channels: indices of the last axis that are exact.
      dtype: of these floats, 2 bytes each as "bfloat16" and 4 as "float32".

    Raises:
      UsageError: for an encoding in which all is exact, negative tokens or channels, or neither.

    >>> from snap_jax.encodings import Ternary
    >>> Exact(Ternary(1.0), tokens=1).quantize(jnp.array([[25265.0, 3.0], [0.7, 0.2], [-3.0, 0.0]])).tolist()
    [[25216.0, 3.0], [1.0, 0.0], [-1.0, 0.0]]
    """

    encoding: Any
    tokens: int = 0
    channels: tuple[int, ...] = ()
    dtype: str = "bfloat16"

    def __post_init__(self):
        if isinstance(self.encoding, Encoding) and (self.encoding.bit_patterns or self.encoding.density < 1):
            raise UsageError(f"Exact: {self.encoding} cannot leave places out: use one such as Count(7)")
        if min((self.tokens, *self.channels)) < 0 or not (self.tokens or self.channels):
            raise UsageError(
                f"Exact: tokens={self.tokens}, channels={self.channels}: use tokens=1, or channels from 0 up"
            )
        Cast(self.dtype)

    def normalized(self, x):
        """As the encoding sees it: zero at the places that are exact."""
        return self.encoding.normalized(self._rest(x))

    def side_specs(self, shape):
        """The bits of the floats, of tokens and of channels; then what the encoding sends."""
        bits = f"uint{jnp.finfo(self.dtype).bits}"
        exact = [jax.ShapeDtypeStruct(part.shape, bits) for part in jax.eval_shape(self._take, _like(shape))]
        return (*exact, *self.encoding.side_specs(shape))

    def expand_side(self, side, shape):
        """The floats and where they are, of the shape of the tensor; then what the encoding sends."""
        places = self._write(jnp.zeros(shape), [1.0 for _ in self._kinds(shape)])
        floats = [Cast(self.dtype).decode(part) for part in side[: len(self._kinds(shape))]]
        inner = self.encoding.expand_side(side[len(floats) :], shape)
        return (self._write(jnp.zeros(shape), floats), places, *inner)

    def encode(self, x):
        """Spikes of all other elements; the floats, and what the encoding sends."""
        values, side = self.encoding.encode(self._rest(x))
        return values, (*(Cast(self.dtype).encode(part)[0] for part in self._take(x)), *side)

    def decode(self, values, side=()):
        """The floats at their places, elsewhere the value of the spikes."""
        floats, places, *inner = side
        return jnp.where(places > 0, floats, self.encoding.decode(values, tuple(inner)))

    def reconstruct(self, x):
        """The rounded floats at their places, elsewhere what the encoding gives."""
        places = self._write(jnp.zeros(x.shape), [1.0 for _ in self._kinds(x.shape)])
        return jnp.where(places > 0, Cast(self.dtype).reconstruct(x), self.encoding.reconstruct(self._rest(x)))

    def _rest(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        return self._write(x, [0.0 for _ in self._kinds(x.shape)])

    def _kinds(self, shape: Shape) -> list[Any]:
        """The indices of what is exact."""
        tokens = [(..., slice(self.tokens), slice(None))] if self.tokens and len(shape) > 1 else []
        channels = [c for c in self.channels if shape and c < shape[-1]]
        return tokens + ([(..., np.asarray(channels))] if channels else [])

    def _take(self, x: Float[Array, "..."]) -> list[Float[Array, "..."]]:
        return [x[kind] for kind in self._kinds(x.shape)]

    def _write(self, x: Float[Array, "..."], parts: list[Any]) -> Float[Array, "..."]:
        for kind, part in zip(self._kinds(x.shape), parts, strict=True):
            x = x.at[kind].set(part)
        return x


def _like(shape: Shape) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)
