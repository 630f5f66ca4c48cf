"""Integer: the baseline with evenly spaced values.

Law: `y = s * step`; a step that was taken from the data travels beside the integers.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from snap_jax.encodings.base import Encoding, Side, Threshold, encoding, in_thresholds
from snap_jax.errors import UsageError
from snap_jax.surrogates import round_clip


@functools.partial(encoding, meta_fields=["bits"])
@dataclasses.dataclass(frozen=True)
class Integer(Encoding):
    """The baseline integer: `s = clip(round(x / step), -2^(bits-1), 2^(bits-1) - 1)`, `y = s * step`.

    Attributes:
      bits: 2 to 8.
      threshold: the step, learned like a threshold (LSQ, Esser et al. 2020); `None` takes `max|x| / (2^(bits-1) - 1)`
        of the tensor at hand, which then travels beside the integers in 4 bytes.

    >>> Integer(bits=4, threshold=0.5).quantize(jnp.array([0.7, 9.0, -9.0])).tolist()
    [0.5, 3.5, -4.0]
    >>> Integer(bits=8).quantize(jnp.array([-1.0, 1.0])).tolist()
    [-1.0, 1.0]
    """

    bits: int
    threshold: Any = None

    def __post_init__(self):
        if not 2 <= self.bits <= 8:
            raise UsageError(f"Integer: bits={self.bits}: use 2 to 8, or Float() for more")

    @property
    def symbols(self):
        """Two's complement of `bits` bits."""
        return range(-(2 ** (self.bits - 1)), 2 ** (self.bits - 1))

    @property
    def summable(self):
        """Only with a shared step."""
        return self.threshold is not None

    @property
    def side_shapes(self):
        """The step, where it was taken from the data."""
        return ((),) if self.threshold is None else ()

    def fire(self, x):
        """Integers as floats with the straight-through gradient, and the step where it was taken from the data."""
        side: Side = () if self.threshold is not None else (self._absmax_step(x),)
        u = in_thresholds(x, self._step(side))
        return round_clip(u, self.symbols.start, self.symbols.stop - 1), side

    def value(self, spikes, side=()):
        """`spikes * step`."""
        return spikes.astype(jnp.float32) * jnp.asarray(self._step(side), jnp.float32)

    def reconstruct(self, x):
        """`value` of `fire`."""
        return self.value(*self.fire(x))

    def _step(self, side: Side) -> Threshold:
        return side[0] if self.threshold is None else self.threshold

    def _absmax_step(self, x):
        largest = jnp.max(jnp.abs(jax.lax.stop_gradient(x).astype(jnp.float32)), initial=0)
        return jnp.maximum(largest * (1 / (self.symbols.stop - 1)), jnp.finfo(jnp.float32).tiny)
