"""Rate: how often a neuron fires.

Invariant: without leak the closed form equals the simulation, step by step, wherever both are exact in f32.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from snap_jax.encodings.base import Shared, as_f32, encoding, in_thresholds
from snap_jax.encodings.meeting_arrays import of_spikes
from snap_jax.encodings.surrogates import StraightThrough, Surrogate, staircase
from snap_jax.errors import UsageError


@encoding
@dataclasses.dataclass(frozen=True)
class Rate(Shared):
    """A leaky integrate-and-fire neuron driven by `x` for `time_steps` time steps: its spike count is sent.

    In each time step `V <- leak V + x`; at `V >= threshold` it fires and `V <- V - threshold`. The value is `y = s *
    threshold / time_steps`.
    Without leak the count is `clip(floor(time_steps x / threshold + start), 0, time_steps)`, without simulation.

    Attributes:
      time_steps: number of time steps, and the most spikes that it can fire.
      threshold: the membrane potential that fires; also the value of a neuron that fires in every step.
      leak: factor of the membrane potential per step, in (0, 1].
      signed: whether negative input fires negative spikes (a second neuron); without, it fires none.
      start: the initial membrane potential, in thresholds; 0.5 rounds to nearest.
      surrogate: the pseudo-derivative of each spike.

    >>> Rate(time_steps=4).quantize(jnp.array([0.3, 0.9, -2.0])).tolist()
    [0.25, 1.0, -1.0]
    >>> Rate(time_steps=4, leak=0.5).spikes(jnp.array([0.3, 0.9])).tolist()
    [0, 3]
    """

    time_steps: int
    threshold: Any = 1.0
    leak: float = 1.0
    signed: bool = True
    start: float = 0.5
    surrogate: Surrogate = StraightThrough()

    def __post_init__(self):
        if self.time_steps < 1 or not 0 < self.leak <= 1:
            raise UsageError(
                f"Rate: time_steps={self.time_steps}, leak={self.leak}: use time_steps >= 1 and 0 < leak <= 1"
            )

    @property
    def symbols(self):
        """{-time_steps, ..., time_steps}, from 0 when unsigned."""
        return range(-self.time_steps if self.signed else 0, self.time_steps + 1)

    def encode(self, x):
        """Spikes as floats with the surrogate's gradient; no side arrays."""
        u = in_thresholds(x, self.threshold)
        drive = jax.lax.optimization_barrier(u) * self.time_steps  # else XLA merges both factors in some programs
        count = staircase(drive, self.time_steps, 1 - self.start, self.signed, self.surrogate)
        if self.leak == 1:
            return count, ()
        # The leaky count, with the slope of the leak-free one.
        return count + jax.lax.stop_gradient(simulate(u, self) - count), ()

    def decode(self, values, side=()):
        """`spikes * threshold / time_steps`."""
        return of_spikes(values, as_f32(self.threshold) * (1 / self.time_steps))


def simulate(u: Float[Array, "..."], rate: Rate) -> Float[Array, "..."]:
    """Return the spikes of `rate`, step by step, for an input current `u` in thresholds.

    >>> simulate(jnp.array([0.3, 0.9]), Rate(time_steps=4)).tolist()
    [1.0, 4.0]
    """
    drive = jnp.abs(u) if rate.signed else u

    def tick(_, state):
        membrane, count = state
        membrane = rate.leak * membrane + drive
        fired = (membrane >= 1).astype(u.dtype)
        return membrane - fired, count + fired

    silent = jnp.zeros_like(drive)
    _, count = jax.lax.fori_loop(0, rate.time_steps, tick, (silent + rate.start, silent))
    return jnp.where(u < 0, 0 - count, count) if rate.signed else count
