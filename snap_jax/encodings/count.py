"""Spike counts.

Invariant: `y = s * threshold`, s an integer number of spikes. The threshold is shared, so spikes of several devices
add up. `Count(L, t)` equals `t * clip(round(x / t), -L, L)`: in value it is integer quantization with a learned step.
"""

import dataclasses
import math
import numbers
from typing import Any

from snap_jax.encodings.base import Shared, encoding, in_thresholds
from snap_jax.encodings.meeting_arrays import of_spikes
from snap_jax.encodings.surrogates import StraightThrough, Surrogate, staircase
from snap_jax.errors import UsageError


@encoding
@dataclasses.dataclass(frozen=True)
class Ternary(Shared):
    """One signed spike: `s = sign(x) 1(|x| >= dead_zone * threshold)`, `y = s * threshold`.

    Attributes:
      threshold: the value of one spike.
      dead_zone: input at which it fires, in thresholds; 0.5 rounds to nearest, 1 is integrate-and-fire.
      surrogate: the pseudo-derivative of the spike.

    Raises:
      UsageError: unless `dead_zone` is above 0.

    >>> import jax.numpy as jnp
    >>> Ternary(threshold=2.0).quantize(jnp.array([-3.0, 0.9, 1.0])).tolist()
    [-2.0, 0.0, 2.0]
    """

    threshold: Any = 1.0
    dead_zone: float = 0.5
    surrogate: Surrogate = StraightThrough()

    def __post_init__(self):
        _check_dead_zone(self)

    @property
    def symbols(self):
        """{-1, 0, 1}."""
        return range(-1, 2)

    @property
    def uniform_limit(self):
        """1."""
        return 1

    def encode(self, x):
        """Spikes as floats with the surrogate's gradient; no side arrays."""
        return staircase(in_thresholds(x, self.threshold), 1, self.dead_zone, True, self.surrogate), ()

    def decode(self, values, side=()):
        """`spikes * threshold`."""
        return of_spikes(values, self.threshold)


@encoding
@dataclasses.dataclass(frozen=True)
class Count(Shared):
    """Graded spikes: `s = sign(x) min(floor(|x| / threshold + 1 - dead_zone), limit)`, `y = s * threshold`.

    Attributes:
      limit: the most spikes that one element can fire.
      threshold: the value of one spike.
      dead_zone: input at which the first one fires, in thresholds; 0.5 rounds to nearest.
      surrogate: the pseudo-derivative of each spike.

    Raises:
      UsageError: unless `limit` is an integer from 1 up and `dead_zone` above 0.

    >>> import jax.numpy as jnp
    >>> Count(limit=3, threshold=0.5).quantize(jnp.array([-9.0, 0.2, 0.6])).tolist()
    [-1.5, 0.0, 0.5]
    """

    limit: int
    threshold: Any = 1.0
    dead_zone: float = 0.5
    surrogate: Surrogate = StraightThrough()

    def __post_init__(self):
        if not isinstance(self.limit, numbers.Integral):
            raise UsageError(f"Count: limit={self.limit!r} is no integer: use a limit of 1 or more")
        if self.limit < 1:
            raise UsageError(f"Count: limit={self.limit} fires never: use a limit of 1 or more")
        _check_dead_zone(self)

    @property
    def symbols(self):
        """{-limit, ..., limit}."""
        return range(-self.limit, self.limit + 1)

    @property
    def uniform_limit(self):
        """The limit."""
        return self.limit

    def lowered(self, limit):
        """The same counts up to a lower limit."""
        if not 1 <= limit <= self.limit:
            raise UsageError(f"lowered: limit={limit} does not lower {self}: use 1 to {self.limit}")
        return dataclasses.replace(self, limit=limit)

    def encode(self, x):
        """Spikes as floats with the surrogate's gradient; no side arrays."""
        u = in_thresholds(x, self.threshold)
        return staircase(u, self.limit, self.dead_zone, True, self.surrogate), ()

    def decode(self, values, side=()):
        """`spikes * threshold`."""
        return of_spikes(values, self.threshold)


def _check_dead_zone(code: Ternary | Count) -> None:
    if not 0 < code.dead_zone < math.inf:
        raise UsageError(
            f"{type(code).__name__}: dead_zone={code.dead_zone}: use a number above 0; 0.5 rounds to nearest"
        )
