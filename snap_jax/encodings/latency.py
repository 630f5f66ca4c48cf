"""Latency: when a neuron fires first.

Invariant: the closed form equals the simulation, step by step, wherever both are exact in f32.
"""

import dataclasses
import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from snap_jax.encodings.base import Encoding, encoding, in_thresholds
from snap_jax.encodings.meeting_arrays import of_spikes
from snap_jax.encodings.surrogates import StraightThrough, Surrogate
from snap_jax.errors import UsageError


@encoding
@dataclasses.dataclass(frozen=True)
class Latency(Encoding):
    """Time to first spike of an integrate-and-fire neuron driven by `x`; the strongest input fires first.

    A spike in time step t stands for `threshold / t`, no spike for 0. A neuron fires at the first t with
    `|x| / threshold >= (1 - dead_zone) / (t + 1) + dead_zone / t` (`dead_zone / t` in the last step), and
    `s = sign(x) (time_steps + 1 - t)`, 0 for no spike. With a dead zone of 1 that is `t = ceil(threshold / |x|)`
    (Thorpe et al. 2001). Not linear in s: spikes of several devices do not add up.

    Attributes:
      time_steps: number of time steps.
      threshold: the membrane potential that fires, and the value of a spike in the first step.
      dead_zone: where between two values it fires for the larger one: 0.5 rounds to nearest, 1 is integrate-and-fire.
      surrogate: the pseudo-derivative of the spike; distances in steps between neighbouring values.

    Raises:
      UsageError: unless `time_steps` is 1 to 127 and `0 < dead_zone <= 1`.

    >>> Latency(time_steps=4).spikes(jnp.array([9.0, -0.5, 0.3, 0.1])).tolist()
    [4, -3, 2, 0]
    >>> Latency(time_steps=4).quantize(jnp.array([9.0, -0.5, 0.3, 0.1])).tolist()
    [1.0, -0.5, 0.3333333432674408, 0.0]
    """

    time_steps: int
    threshold: Any = 1.0
    dead_zone: float = 0.5
    surrogate: Surrogate = StraightThrough()

    def __post_init__(self):
        if not 1 <= self.time_steps <= 127 or not 0 < self.dead_zone <= 1:
            raise UsageError(
                f"Latency: time_steps={self.time_steps}, dead_zone={self.dead_zone}: "
                "use 1 to 127 time steps and 0 < dead_zone <= 1"
            )

    @property
    def symbols(self):
        """{-time_steps, ..., time_steps}."""
        return range(-self.time_steps, self.time_steps + 1)

    @property
    def summable(self):
        """No: two late spikes are not one early spike."""
        return False

    @property
    def values(self) -> tuple[float, ...]:
        """The values of the symbols from 0 up, in thresholds: 0, 1 / time_steps, ..., 1 / 2, 1."""
        return (0.0, *(1 / tick for tick in range(self.time_steps, 0, -1)))

    @property
    def firing_levels(self) -> tuple[float, ...]:
        """The smallest `|x| / threshold` that fires each symbol from 1 up."""
        return tuple(low + self.dead_zone * (high - low) for low, high in itertools.pairwise(self.values))

    def encode(self, x):
        """Spikes as floats with the surrogate's gradient; no side arrays."""
        return _first_spike(in_thresholds(x, self.threshold), self)[0], ()

    def decode(self, values, side=()):
        """`sign(s) threshold / (time_steps + 1 - |s|)`, 0 for 0."""
        return of_spikes(_read(values, self), self.threshold)

    def reconstruct(self, x):
        """The value of the spikes, with one slope for steps of different height."""
        return of_spikes(_first_spike(in_thresholds(x, self.threshold), self)[1], self.threshold)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _first_spike(u: Float[Array, "..."], code: Latency) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Symbols and values for an input in thresholds, by comparisons with constants: the same in every program."""
    spikes = _signed(u, _how_many(jnp.abs(u), code.firing_levels))
    return spikes, _read(spikes, code)


@_first_spike.defjvp
def _first_spike_jvp(code, primals, tangents):
    (u,), (du,) = primals, tangents
    lows, heights = zip(*((low, high - low) for low, high in itertools.pairwise(code.values)), strict=True)
    step = _how_many(jnp.abs(u), lows[1:]).astype(jnp.int32)  # the one between whose values the input lies
    low, height = (jnp.take(jnp.asarray(table, jnp.float32), step, mode="clip") for table in (lows, heights))
    slope = code.surrogate((jnp.abs(u) - low) / height - code.dead_zone)
    return _first_spike(u, code), (slope / height * du, slope * du)


def _how_many(magnitude: Float[Array, "..."], levels: tuple[float, ...]) -> Float[Array, "..."]:
    return sum(((magnitude >= level).astype(jnp.float32) for level in levels), jnp.zeros_like(magnitude))


def _signed(u: Float[Array, "..."], count: Float[Array, "..."]) -> Float[Array, "..."]:
    return jnp.where(u < 0, 0 - count, count)  # 0 - 0 is +0: a spike has no negative zero


def _read(spikes: Array, code: Latency) -> Float[Array, "..."]:
    """The values of symbols, in thresholds, from a table."""
    table = [-value for value in code.values[:0:-1]] + list(code.values)
    return jnp.take(jnp.asarray(table, jnp.float32), spikes.astype(jnp.int32) + code.time_steps, mode="clip")


def simulate_latency(u: Float[Array, "..."], code: Latency) -> Float[Array, "..."]:
    """Return the symbols of `code`, step by step, for an input current `u` in thresholds.

    The membrane potential gains `|u|` per step. It fires in step t at `t` times the firing level there: the threshold
    with a dead zone of 1; with less, `1 - (1 - dead_zone) / (t + 1)` of it, and `dead_zone` of it in the last step.

    >>> simulate_latency(jnp.array([9.0, -0.5, 0.3, 0.1]), Latency(time_steps=4)).tolist()
    [4.0, -3.0, 2.0, 0.0]
    """
    barrier = [1 - (1 - code.dead_zone) / (t + 1) for t in range(1, code.time_steps)] + [code.dead_zone]

    def tick(t, state):
        membrane, symbol = state
        membrane = membrane + jnp.abs(u)
        fires = (membrane >= jnp.asarray(barrier, jnp.float32)[t]) & (symbol == 0)
        return membrane, jnp.where(fires, code.time_steps - t, symbol)

    silent = jnp.zeros_like(u)
    return _signed(u, jax.lax.fori_loop(0, code.time_steps, tick, (silent, silent))[1])
