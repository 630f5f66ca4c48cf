"""Budgets: sparsity that is learned, towards a number of bits that crosses, not a weight tuned by hand.

Law: a multiplier rises while what was *measured* on the wire is above the budget and falls while it is below; it rests
only where they meet.

Training minimises `loss + pressure`. `Budget` is the pressure to use; the others are what it is held against, each with
a weight to be tuned by hand.
"""

import abc
import dataclasses
import math
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from snap_jax import codelength
from snap_jax.encodings import Encoding
from snap_jax.errors import UsageError


class Crossing(NamedTuple):
    """What crosses one boundary, or one a row: differentiable means over elements.

    Attributes:
      bits: entropy of the spikes per channel, bits an element of what the model sent (`codelength.bits_per_element`).
      rate: share of the elements that fire.
      spikes: how many an element fires.
      log_threshold: mean over channels.
    """

    bits: Float[Array, "*boundaries"]
    rate: Float[Array, "*boundaries"]
    spikes: Float[Array, "*boundaries"]
    log_threshold: Float[Array, "*boundaries"]


def crossing(encoding: Encoding, x: Float[Array, "... channels"]) -> Crossing:
    """What crosses when `encoding` sends `x`.

    >>> from snap_jax.encodings import Ternary
    >>> [round(v.item(), 2) for v in crossing(Ternary(1.0), jnp.array([[0.1], [2.0], [0.3], [-1.5]]))]
    [1.5, 0.5, 0.5, 0.0]
    """
    threshold = 1.0 if encoding.threshold is None else encoding.threshold
    return Crossing(
        codelength.bits_per_element(encoding, x),
        codelength.firing_rate(encoding, x),
        codelength.spike_count(encoding, x),
        jnp.mean(jnp.log(jnp.asarray(threshold))),
    )


class Pressure(abc.ABC):
    """What is added to the loss so that less crosses. State: a row of two numbers a boundary; most leave it zero."""

    def init(self, boundaries: int) -> Float[Array, "boundaries 2"]:
        """The state before the first step."""
        return jnp.zeros((boundaries, 2))

    @abc.abstractmethod
    def loss(self, state: Float[Array, "*boundaries 2"], seen: Crossing) -> Float[Array, "*boundaries"]:
        """What each boundary adds to the loss, nats a token or image."""

    def update(
        self, state: Float[Array, "boundaries 2"], measured: Float[Array, " boundaries"], progress: Array | float
    ) -> Float[Array, "boundaries 2"]:
        """The state after a step in which `measured` bits an element took the wire; `progress` in [0, 1] of the run."""
        return state


@dataclasses.dataclass(frozen=True)
class Budget(Pressure):
    """Bits an element, met by dual ascent with a damper.

    `e = clip(measured / target - 1, -1, 1)`, `m' = m + speed (|m| + first / 2) e`, and
    `price = m' + damping (|m'| + first / 2) e`.

    The multiplier m of a boundary is driven by what the wire took, so that headers, rungs and an estimate that is off
    are all inside the budget. It is that of an equality. A price above zero is paid for the differentiable code length
    R, `price R` in the loss; one below, down to `-4 first`, draws on bits that are paid for and not used: by finer
    thresholds alone, `-price mean(log threshold) / ln 2`, since a stream must not grow only to cost more. The damper
    answers at once, before the multiplier has moved, and keeps the two from swinging about each other.
    The target comes down geometrically from `start` times the budget during the first `anneal` of the run.

    Attributes:
      bits_per_element: the budget of a boundary, or of the mean over each group.
      groups: boundaries that share one multiplier and one budget, e.g. `((0, 1, 2),)` for a model of three; empty: each
        boundary by itself.
      speed: relative change of a large multiplier in a step at an error of 100 %.
      damping: the price over a large multiplier, less 1, at an error of 100 %.
      first: the multiplier before the first step, nats a bit.
      start: where the target starts, in budgets.
      anneal: share of the run in which the target comes down.

    Raises:
      UsageError: unless the budget is positive and finite, `start >= 1`, and no boundary is in two groups.

    >>> budget = Budget(1.0, start=1.0)
    >>> state = budget.init(2)
    >>> above, below = budget.update(state, jnp.array([1.5, 0.5]), 1.0) / state
    >>> bool((above > 1).all()), bool((below < 1).all())
    (True, True)
    """

    bits_per_element: float
    groups: tuple[tuple[int, ...], ...] = ()
    speed: float = 0.1
    damping: float = 1.0
    first: float = 0.03
    start: float = 2.0
    anneal: float = 0.3

    def __post_init__(self):
        if not 0 < self.bits_per_element < 64:
            raise UsageError(f"Budget: bits_per_element={self.bits_per_element}: use a number above 0, e.g. 0.75")
        if self.start < 1 or not 0 <= self.anneal <= 1:
            raise UsageError(f"Budget: start={self.start}, anneal={self.anneal}: use start >= 1 and 0 <= anneal <= 1")
        members = [i for group in self.groups for i in group]
        if len(members) != len(set(members)):
            raise UsageError(f"Budget: groups={self.groups}: a boundary can be in one group only")

    def init(self, boundaries):
        """`m = price = first` for each."""
        return jnp.full((boundaries, 2), self.first)

    def target(self, progress: Array | float) -> Float[Array, "..."]:
        """Bits an element to aim at.

        >>> Budget(0.5, start=4.0, anneal=0.5).target(jnp.array([0.0, 0.25, 0.5, 1.0])).tolist()
        [2.0, 1.0, 0.5, 0.5]
        """
        left = 1 - jnp.clip(jnp.asarray(progress) / max(self.anneal, 1e-6), 0, 1)
        return self.bits_per_element * self.start**left

    def loss(self, state, seen):
        """`price R`; below zero, `-price mean(log threshold) / ln 2`."""
        price = state[..., 1]
        return jnp.where(price > 0, price * seen.bits, -price * seen.log_threshold / math.log(2))

    def update(self, state, measured, progress):
        """One step of dual ascent."""
        error = jnp.clip(self._shared(measured) / self.target(progress) - 1, -1, 1)
        m = self._moved(state[:, 0], self.speed * error)
        return jnp.stack([m, self._moved(m, self.damping * error)], -1)

    def _moved(self, m: Array, by: Array) -> Array:
        """By a share of its size."""
        return jnp.clip(m + by * (jnp.abs(m) + self.first / 2), -4 * self.first, 10.0)

    def _shared(self, measured: Array) -> Array:
        for group in self.groups:
            members = jnp.asarray(group)
            measured = measured.at[members].set(measured[members].mean())
        return measured


@dataclasses.dataclass(frozen=True)
class Penalty(Pressure):
    """A fixed price a bit: `weight R`.

    >>> Penalty(0.1).loss(jnp.zeros(2), Crossing(*jnp.array([2.0, 0.5, 0.7, 0.0]))).item()
    0.20000000298023224
    """

    weight: float

    def loss(self, state, seen):
        """`weight R`."""
        return state[..., 0] + self.weight * seen.bits


@dataclasses.dataclass(frozen=True)
class L1(Pressure):
    """A fixed price a spike: `weight mean|s|`."""

    weight: float

    def loss(self, state, seen):
        """`weight mean|s|`."""
        return state[..., 0] + self.weight * seen.spikes


@dataclasses.dataclass(frozen=True)
class TargetRate(Pressure):
    """A firing rate to be near: `weight (rate - target)^2`."""

    target: float
    weight: float

    def loss(self, state, seen):
        """`weight (rate - target)^2`."""
        return state[..., 0] + self.weight * (seen.rate - self.target) ** 2


@dataclasses.dataclass(frozen=True)
class RaiseThreshold(Pressure):
    """Thresholds pushed up, whatever fires (as AT-LIF raises them; Wang et al. 2022): `-weight mean(log threshold)`."""

    weight: float

    def loss(self, state, seen):
        """`-weight mean(log threshold)`."""
        return state[..., 0] - self.weight * seen.log_threshold
