"""Surrogates: what replaces the derivative of a spike, which is zero almost everywhere.

Invariant: `ds/du = g(d)`, where `d` is the signed distance of `|u|` (in thresholds) to the nearest firing level:
negative below it, positive above. The forward value never depends on the surrogate.
"""

import abc
import dataclasses
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class Surrogate(abc.ABC):
    """A pseudo-derivative `g(d)` of one spike, `d` the distance to its firing level in thresholds."""

    @abc.abstractmethod
    def __call__(self, distance: Float[Array, "..."]) -> Float[Array, "..."]:
        """The pseudo-derivative at `distance`, same shape and dtype."""


@dataclasses.dataclass(frozen=True)
class StraightThrough(Surrogate):
    """`g(d) = 1` wherever the code can follow the input, 0 where it is saturated (Bengio et al. 2013).

    >>> StraightThrough()(jnp.array([-0.5, 0.0, 0.5, 0.6])).tolist()
    [1.0, 1.0, 1.0, 0.0]
    """

    def __call__(self, distance):
        """1 from one threshold below a firing level to half a threshold above it."""
        return ((distance >= -1) & (distance <= 0.5)).astype(distance.dtype)


@dataclasses.dataclass(frozen=True)
class Rectangular(Surrogate):
    """`g(d) = 1(|d| < width / 2) / width` (Wu et al. 2018).

    >>> Rectangular(width=0.5)(jnp.array([0.0, 0.2, 0.3])).tolist()
    [2.0, 2.0, 0.0]
    """

    width: float = 1.0

    def __call__(self, distance):
        """The box of unit area and width `width`."""
        return (jnp.abs(distance) < self.width / 2).astype(distance.dtype) / self.width


@dataclasses.dataclass(frozen=True)
class Triangular(Surrogate):
    """`g(d) = max(0, 1 - slope |d|)` (Esser et al. 2016).

    >>> Triangular()(jnp.array([0.0, 0.5, 2.0])).tolist()
    [1.0, 0.5, 0.0]
    """

    slope: float = 1.0

    def __call__(self, distance):
        """The hat of height 1."""
        return jnp.maximum(0, 1 - self.slope * jnp.abs(distance))


@dataclasses.dataclass(frozen=True)
class ATan(Surrogate):
    """`g(d) = (alpha / 2) / (1 + (pi alpha d / 2)^2)` (Fang et al. 2021).

    >>> ATan(alpha=2.0)(jnp.array([0.0])).tolist()
    [1.0]
    """

    alpha: float = 2.0

    def __call__(self, distance):
        """The derivative of an arc tangent of unit area."""
        return self.alpha / 2 / (1 + (jnp.pi * self.alpha * distance / 2) ** 2)


@dataclasses.dataclass(frozen=True)
class SuperSpike(Surrogate):
    """`g(d) = 1 / (1 + slope |d|)^2` (Zenke & Ganguli 2018).

    >>> SuperSpike(slope=1.0)(jnp.array([0.0, 1.0])).tolist()
    [1.0, 0.25]
    """

    slope: float = 25.0

    def __call__(self, distance):
        """The derivative of a fast sigmoid."""
        return 1 / (1 + self.slope * jnp.abs(distance)) ** 2


@dataclasses.dataclass(frozen=True)
class Gaussian(Surrogate):
    """`g(d) = exp(-d^2 / (2 sigma^2)) / (sigma sqrt(2 pi))` (Yin et al. 2021).

    >>> round(float(Gaussian(sigma=0.5)(jnp.array(0.0))), 4)
    0.7979
    """

    sigma: float = 0.5

    def __call__(self, distance):
        """The normal density with standard deviation `sigma`."""
        return jnp.exp(-0.5 * (distance / self.sigma) ** 2) / (self.sigma * jnp.sqrt(2 * jnp.pi))


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2, 3, 4))
def staircase(u: Float[Array, "..."], limit: int, dead_zone: float, signed: bool, surrogate: Surrogate):
    """Return the spikes in `u`: `s = sign(u) min(floor(|u| + 1 - dead_zone), limit)`, with the surrogate's gradient.

    Args:
      u: input in units of the threshold.
      limit: most spikes one value can fire.
      dead_zone: `|u|` at which the first spike fires; 0.5 rounds to nearest, 1 is integrate-and-fire.
      signed: whether negative spikes exist; without them negative input fires none.
      surrogate: the pseudo-derivative.

    Returns:
      Integers, as floats of the dtype of `u`.

    >>> staircase(jnp.array([-2.6, 0.4, 0.5, 9.0]), 3, 0.5, True, StraightThrough()).tolist()
    [-3.0, 0.0, 1.0, 3.0]
    """
    level = (jnp.abs(u) if signed else u) + (1 - dead_zone)
    # For a single spike this is the same number in half the time.
    count = (level >= 1).astype(u.dtype) if limit == 1 else jnp.clip(jnp.floor(level), 0, limit)
    return jnp.where(u < 0, 0 - count, count) if signed else count  # 0 - 0 is +0: a spike has no negative zero


@staircase.defjvp
def _staircase_jvp(limit, dead_zone, signed, surrogate, primals, tangents):
    (u,), (du,) = primals, tangents
    magnitude = jnp.abs(u) if signed else u
    nearest = jnp.clip(jnp.round(magnitude - dead_zone), 0, limit - 1)
    slope = surrogate(magnitude - dead_zone - nearest)
    return staircase(u, limit, dead_zone, signed, surrogate), slope * du


@jax.custom_jvp
def straight_through(spikes: Float[Array, "..."], u: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return `spikes`, with the gradient of `u` (Bengio et al. 2013).

    >>> jax.grad(lambda u: straight_through(jnp.sign(u), u))(jnp.float32(0.3)).item()
    1.0
    """
    return spikes


@straight_through.defjvp
def _straight_through_jvp(primals, tangents):
    return straight_through(*primals), tangents[1]


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def round_clip(u: Float[Array, "..."], low: int, high: int) -> Float[Array, "..."]:
    """Return `clip(round(u), low, high)` with gradient 1 inside the range and 0 outside (LSQ, Esser et al. 2020).

    >>> round_clip(jnp.array([-9.0, 0.4, 0.6]), -8, 7).tolist()
    [-8.0, 0.0, 1.0]
    """
    rounded = jnp.clip(jnp.round(u), low, high)
    return jnp.where(rounded == 0, jnp.zeros_like(u), rounded)  # a spike has no negative zero


@round_clip.defjvp
def _round_clip_jvp(low, high, primals, tangents):
    (u,), (du,) = primals, tangents
    return round_clip(u, low, high), du * ((u >= low - 0.5) & (u <= high + 0.5)).astype(du.dtype)
