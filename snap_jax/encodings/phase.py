"""Phase: spikes that weigh less the later they come.

Invariant: the closed form equals the simulation, step by step, wherever both are exact in f32.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from snap_jax.encodings.base import Shared, encoding, in_thresholds
from snap_jax.encodings.meeting_arrays import of_spikes
from snap_jax.encodings.surrogates import StraightThrough, Surrogate, staircase
from snap_jax.errors import UsageError


@encoding
@dataclasses.dataclass(frozen=True)
class Phase(Shared):
    """A neuron whose spike in time step k = 0, 1, ... weighs `2^-(k + 1)` thresholds (Kim et al. 2018).

    The spikes of one value are the binary digits of `s = sign(x) clip(floor(2^time_steps |x| / threshold + start), 0,
    2^time_steps - 1)`, and a second neuron fires for negative input; `y = s * threshold / 2^time_steps`.

    Attributes:
      time_steps: number of time steps.
      threshold: the value of all spikes together, plus the weight of the last.
      start: the initial membrane potential, in weights of the last step; 0.5 rounds to nearest.
      surrogate: the pseudo-derivative of each step of s.

    Raises:
      UsageError: unless `time_steps` is 1 to 16.

    >>> Phase(time_steps=3).spikes(jnp.array([0.625, -0.3, 4.0])).tolist()  # binary 101, 010, 111
    [5, -2, 7]
    >>> Phase(time_steps=3).quantize(jnp.array([0.625, -0.3, 4.0])).tolist()
    [0.625, -0.25, 0.875]
    """

    time_steps: int
    threshold: Any = 1.0
    start: float = 0.5
    surrogate: Surrogate = StraightThrough()

    def __post_init__(self):
        if not 1 <= self.time_steps <= 16:
            raise UsageError(f"Phase: time_steps={self.time_steps}: use 1 to 16, or Cast() for more")

    @property
    def symbols(self):
        """{-(2^time_steps - 1), ..., 2^time_steps - 1}."""
        return range(1 - 2**self.time_steps, 2**self.time_steps)

    def encode(self, x):
        """Spikes as floats with the surrogate's gradient; no side arrays."""
        u = in_thresholds(x, self.threshold) * 2**self.time_steps
        return staircase(u, 2**self.time_steps - 1, 1 - self.start, True, self.surrogate), ()

    def decode(self, values, side=()):
        """`spikes * threshold / 2^time_steps`."""
        return of_spikes(values, jnp.asarray(self.threshold, jnp.float32) * 2**-self.time_steps)


def simulate_phase(u: Float[Array, "..."], code: Phase) -> Float[Array, "..."]:
    """Return the symbols of `code`, step by step, for an input `u` in thresholds; it fires at the weight of the step.

    >>> simulate_phase(jnp.array([0.625, -0.3, 4.0]), Phase(time_steps=3)).tolist()
    [5.0, -2.0, 7.0]
    """

    def tick(k, state):
        membrane, symbol = state
        weight = 2.0 ** -(k + 1.0)
        fired = (membrane >= weight).astype(u.dtype)
        return membrane - fired * weight, 2 * symbol + fired

    start = jnp.abs(u) + code.start * 2.0**-code.time_steps
    _, symbol = jax.lax.fori_loop(0, code.time_steps, tick, (start, jnp.zeros_like(u)))
    return jnp.where(u < 0, 0 - symbol, symbol)
