"""Cast: the baseline that keeps floats.

Invariant: the spike is the bit pattern of the rounded value; nothing overflows to infinity.
"""

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp

from snap_jax.encodings.base import Encoding, encoding, saturate
from snap_jax.errors import UsageError


@encoding
@dataclasses.dataclass(frozen=True)
class Cast(Encoding):
    """Round to `dtype` and send its bits; the gradient is the identity. The baseline that keeps floats.

    Attributes:
      dtype: a float dtype of 8, 16 or 32 bits; what is too large for it saturates.

    >>> Cast("bfloat16").quantize(jnp.array([1.001])).tolist()
    [1.0]
    """

    dtype: str = "bfloat16"
    bit_patterns: ClassVar[bool] = True
    baseline: ClassVar[bool] = True

    def __post_init__(self):
        if not jnp.issubdtype(jnp.dtype(self.dtype), jnp.floating) or jnp.finfo(self.dtype).bits not in (
            8,
            16,
            32,
        ):
            raise UsageError(f"Cast: dtype={self.dtype} is no float of 8, 16 or 32 bits: use 'bfloat16'")

    @property
    def symbols(self):
        """Every bit pattern."""
        return range(2 ** jnp.finfo(self.dtype).bits)

    @property
    def summable(self):
        """No: bit patterns do not add."""
        return False

    def encode(self, x):
        """The bits of the rounded value; no side arrays."""
        unsigned = f"uint{jnp.finfo(self.dtype).bits}"
        return jax.lax.bitcast_convert_type(saturate(x, jnp.dtype(self.dtype)), unsigned), ()

    def decode(self, values, side=()):
        """The float with these bits."""
        unsigned = f"uint{jnp.finfo(self.dtype).bits}"
        return jax.lax.bitcast_convert_type(values.astype(unsigned), jnp.dtype(self.dtype)).astype(jnp.float32)

    def reconstruct(self, x):
        """`x` rounded to `dtype`."""
        return _round_to(x, self.dtype)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _round_to(x, dtype: str):
    return saturate(x, jnp.dtype(dtype)).astype(jnp.float32)


@_round_to.defjvp
def _round_to_jvp(dtype, primals, tangents):
    return _round_to(primals[0], dtype), tangents[0].astype(jnp.float32)
