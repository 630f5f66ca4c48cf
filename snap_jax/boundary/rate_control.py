"""Budgets: sparsity that is learned, towards a number of bits that crosses, not a weight tuned by hand.

Law: a multiplier rises while what was *measured* on the wire is above the budget and falls while it is below; it rests
only where they meet.

Training minimises `loss + pressure`. `RateController` is the pressure to use; the others are what it is held
against, each with
a weight to be tuned by hand.
"""

import abc
import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from snap_jax.boundary import rate_estimate
from snap_jax.encodings import Encoding
from snap_jax.errors import UsageError


class BoundaryStats(NamedTuple):
    """What crosses one boundary, or one a row: differentiable means over elements.

    Attributes:
      bits: entropy of the spikes per channel, bits an element of what the model sent (`codelength.bits_per_element`).
      rate: share of the elements that fire.
      spikes: how many an element fires.
      log_threshold: mean over channels.
      saturation: how often the first and the last symbol occur, in shares of equally frequent symbols: from 1 on, a
        finer threshold makes the spikes poorer, not richer.
    """

    bits: Float[Array, "*boundaries"]
    rate: Float[Array, "*boundaries"]
    spikes: Float[Array, "*boundaries"]
    log_threshold: Float[Array, "*boundaries"]
    saturation: Float[Array, "*boundaries"]


def boundary_stats(encoding: Encoding, x: Float[Array, "... channels"]) -> BoundaryStats:
    """What crosses when `encoding` sends `x`.

    >>> from snap_jax.encodings import Ternary
    >>> [round(v.item(), 2) for v in boundary_stats(Ternary(1.0), jnp.array([[0.1], [2.0], [0.3], [-1.5]]))]
    [1.5, 0.5, 0.5, 0.0, 0.75]
    """
    threshold = 1.0 if encoding.threshold is None else encoding.threshold
    return BoundaryStats(
        rate_estimate.bits_per_element(encoding, x),
        rate_estimate.firing_rate(encoding, x),
        rate_estimate.spike_count(encoding, x),
        jnp.mean(jnp.log(jnp.asarray(threshold))),
        rate_estimate.saturation(encoding, x),
    )


class RatePenalty(abc.ABC):
    """What is added to the loss so that less crosses. State: one number a boundary."""

    def init(self, boundaries: int) -> Float[Array, " boundaries"]:
        """The state before the first step."""
        return jnp.zeros(boundaries)

    @abc.abstractmethod
    def loss(self, state: Float[Array, "*boundaries"], seen: BoundaryStats) -> Float[Array, "*boundaries"]:
        """What each boundary adds to the loss, nats a token or image."""

    def update(
        self, state: Float[Array, " boundaries"], measured: Float[Array, " boundaries"], progress: Array | float
    ) -> Float[Array, " boundaries"]:
        """The state after a step in which `measured` bits an element took the wire; `progress` in [0, 1] of the run."""
        return state

    def threshold_step(
        self, measured: Float[Array, " boundaries"], saturation: Float[Array, " boundaries"], progress: Array | float
    ) -> Float[Array, " boundaries"]:
        """What to add to the logarithms of all thresholds of a boundary after that step."""
        return jnp.zeros_like(measured)


@dataclasses.dataclass(frozen=True)
class RateController(RatePenalty):
    """Bits an element, met by a hand on the thresholds and by dual ascent on a price.

    `e = clip(measured / target - 1, -1, 1)`, `log threshold' = log threshold + grip e`, and
    `m' = max(0, m + speed (m + init_multiplier / 2) e)`, with `m R` in the loss, R the differentiable code length.

    Both are driven by what the wire took, so headers, rungs and an estimate that is off are all inside the budget. The
    thresholds keep to it within some steps, from below as from above: bits that are paid for are used. What the
    optimizer wants otherwise shows as an error that stays, and the price m grows until it wants no more: as in any
    proportional-integral controller (Astrom and Hagglund 1995).
    Where that is asked for, the target comes down geometrically from `start_ratio` times the budget during the first
    `anneal_fraction`
    of the run.

    Attributes:
      bits_per_element: the budget of a boundary, or of the mean over each group.
      groups: boundaries that share one multiplier and one budget, e.g. `((0, 1, 2),)` for a model of three; empty: each
        boundary by itself.
      multiplier_lr: relative change of a large multiplier in a step at an error of 100 %.
      threshold_gain: what a step adds to the logarithm of thresholds at an error of 100 %.
      init_multiplier: the multiplier before the first step, nats a bit.
      start_ratio: where the target starts, in budgets.
      anneal_fraction: share of the run in which the target comes down.

    Raises:
      UsageError: unless the budget is positive and finite, `start_ratio >= 1`, and no boundary is in two groups.

    >>> budget = RateController(1.0, start_ratio=1.0)
    >>> state = budget.init(2)
    >>> above, below = budget.update(state, jnp.array([1.5, 0.5]), 1.0) / state
    >>> bool(above > 1), bool(below < 1)
    (True, True)
    """

    bits_per_element: float
    groups: tuple[tuple[int, ...], ...] = ()
    multiplier_lr: float = 0.1
    threshold_gain: float = 0.1
    init_multiplier: float = 0.03
    start_ratio: float = 1.0
    anneal_fraction: float = 0.3

    def __post_init__(self):
        if not 0 < self.bits_per_element < 64:
            raise UsageError(
                f"RateController: bits_per_element={self.bits_per_element}: use a number above 0, e.g. 0.75"
            )
        if self.start_ratio < 1 or not 0 <= self.anneal_fraction <= 1:
            raise UsageError(
                f"RateController: start_ratio={self.start_ratio}, anneal_fraction={self.anneal_fraction}: "
                "use start_ratio >= 1 and 0 <= anneal_fraction <= 1"
            )
        members = [i for group in self.groups for i in group]
        if len(members) != len(set(members)):
            raise UsageError(f"RateController: groups={self.groups}: a boundary can be in one group only")

    def init(self, boundaries):
        """`init_multiplier` for each."""
        return jnp.full(boundaries, self.init_multiplier)

    def target(self, progress: Array | float) -> Float[Array, "..."]:
        """Bits an element to aim at.

        >>> RateController(0.5, start_ratio=4.0, anneal_fraction=0.5).target(jnp.array([0.0, 0.25, 0.5, 1.0])).tolist()
        [2.0, 1.0, 0.5, 0.5]
        """
        left = 1 - jnp.clip(jnp.asarray(progress) / max(self.anneal_fraction, 1e-6), 0, 1)
        return self.bits_per_element * self.start_ratio**left

    def loss(self, state, seen):
        """`m R`."""
        return state * seen.bits

    def update(self, state, measured, progress):
        """One step of dual ascent."""
        return jnp.clip(
            state + self.multiplier_lr * (state + self.init_multiplier / 2) * self._error(measured, progress), 0.0, 10.0
        )

    def threshold_step(self, measured, saturation, progress):
        """`grip e`; down only while the spikes are not saturated."""
        error = self._error(measured, progress)
        return self.threshold_gain * jnp.where((error < 0) & (saturation >= 1), 0.0, error)

    def _error(self, measured: Array, progress: Array | float) -> Array:
        return jnp.clip(self._shared(measured) / self.target(progress) - 1, -1, 1)

    def _shared(self, measured: Array) -> Array:
        for group in self.groups:
            members = jnp.asarray(group)
            measured = measured.at[members].set(measured[members].mean())
        return measured


@dataclasses.dataclass(frozen=True)
class Penalty(RatePenalty):
    """A fixed price a bit: `weight R`.

    >>> Penalty(0.1).loss(jnp.zeros(()), BoundaryStats(*jnp.array([2.0, 0.5, 0.7, 0.0, 0.1]))).item()
    0.20000000298023224
    """

    weight: float

    def loss(self, state, seen):
        """`weight R`."""
        return state + self.weight * seen.bits


@dataclasses.dataclass(frozen=True)
class L1(RatePenalty):
    """A fixed price a spike: `weight mean|s|`."""

    weight: float

    def loss(self, state, seen):
        """`weight mean|s|`."""
        return state + self.weight * seen.spikes


@dataclasses.dataclass(frozen=True)
class TargetRate(RatePenalty):
    """A firing rate to be near: `weight (rate - target)^2`."""

    target: float
    weight: float

    def loss(self, state, seen):
        """`weight (rate - target)^2`."""
        return state + self.weight * (seen.rate - self.target) ** 2


@dataclasses.dataclass(frozen=True)
class RaiseThreshold(RatePenalty):
    """Thresholds pushed up, whatever fires (as AT-LIF raises them; Wang et al. 2022): `-weight mean(log threshold)`."""

    weight: float

    def loss(self, state, seen):
        """`-weight mean(log threshold)`."""
        return state - self.weight * seen.log_threshold
