import dataclasses
from typing import Any

import jax.numpy as jnp

from snap_jax.encodings import Shared, encoding, in_thresholds, straight_through


@encoding
@dataclasses.dataclass(frozen=True)
class Sign(Shared):
    """One bit per element: its sign."""

    threshold: Any = 1.0

    @property
    def symbols(self):
        return range(-1, 2, 2)

    def encode(self, x):
        u = in_thresholds(x, self.threshold)
        return straight_through(jnp.where(u < 0, -1.0, 1.0), u), ()

    def decode(self, values, side=()):
        return values.astype(jnp.float32) * self.threshold
