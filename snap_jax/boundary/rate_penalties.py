"""Rate penalties: what is added to the loss so that less is sent.

`RateController` in `rate_control` is the one to use: it has a budget and no weight. Those here have a weight to tune by
hand; they are the baselines that it is compared with.
"""

import abc
import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float

from snap_jax.boundary.rate_estimate import BoundaryStats


class RatePenalty(abc.ABC):
    """A term of the loss that makes spikes fewer. Its state is one number per boundary."""

    def init(self, boundaries: int) -> Float[Array, " boundaries"]:
        """Return the state before the first step."""
        return jnp.zeros(boundaries)

    @abc.abstractmethod
    def loss(self, state: Float[Array, "*boundaries"], seen: BoundaryStats) -> Float[Array, "*boundaries"]:
        """Return what each boundary adds to the loss, nats per token or image."""

    def update(
        self, state: Float[Array, " boundaries"], measured: Float[Array, " boundaries"], progress: Array | float
    ) -> Float[Array, " boundaries"]:
        """Return the state after a step in which the wire took `measured` bits per element.

        `progress` is how much of the run is done, in [0, 1].
        """
        return state

    def threshold_step(
        self, measured: Float[Array, " boundaries"], saturation: Float[Array, " boundaries"], progress: Array | float
    ) -> Float[Array, " boundaries"]:
        """Return what to add to the logarithms of all thresholds of each boundary after that step."""
        return jnp.zeros_like(measured)


@dataclasses.dataclass(frozen=True)
class Penalty(RatePenalty):
    """A fixed weight on the estimated bits: `weight R`.

    >>> Penalty(0.1).loss(jnp.zeros(()), BoundaryStats(*jnp.array([2.0, 0.5, 0.7, 0.0, 0.1]))).item()
    0.20000000298023224
    """

    weight: float

    def loss(self, state, seen):
        """Return `weight R`."""
        return state + self.weight * seen.bits


@dataclasses.dataclass(frozen=True)
class L1(RatePenalty):
    """A fixed weight on the spikes: `weight mean|s|`."""

    weight: float

    def loss(self, state, seen):
        """Return `weight mean|s|`."""
        return state + self.weight * seen.spikes


@dataclasses.dataclass(frozen=True)
class TargetRate(RatePenalty):
    """A firing rate to stay near: `weight (rate - target)^2`."""

    target: float
    weight: float

    def loss(self, state, seen):
        """Return `weight (rate - target)^2`."""
        return state + self.weight * (seen.rate - self.target) ** 2


@dataclasses.dataclass(frozen=True)
class RaiseThreshold(RatePenalty):
    """Thresholds pushed up, whatever fires: `-weight mean(log threshold)` (as AT-LIF; Wang et al. 2022)."""

    weight: float

    def loss(self, state, seen):
        """Return `-weight mean(log threshold)`."""
        return state - self.weight * seen.log_threshold
