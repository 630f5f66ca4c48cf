"""Rate control: train to a number of bits per element, without a weight to tune.

Invariant: the multiplier rises while what was *measured* on the wire is above the budget, and falls while it is below.
It rests only where they meet.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from snap_jax.boundary.boundary import Boundary
from snap_jax.boundary.rate_estimate import BoundaryStats, boundary_stats
from snap_jax.boundary.rate_penalties import RatePenalty
from snap_jax.boundary.telemetry import Telemetry, observe
from snap_jax.collectives.message import Sent
from snap_jax.errors import UsageError


@dataclasses.dataclass(frozen=True)
class RateController(RatePenalty):
    """Meet a budget in bits per element with two controls: a step of the thresholds, and dual ascent on a multiplier.

    With `e = clip(measured / target - 1, -1, 1)`, after each step

        log threshold' = log threshold + threshold_gain e
        m' = clip(m + multiplier_lr (m + init_multiplier / 2) e, 0, 10)

    and the loss holds `m R`, where R is the differentiable rate estimate. Both follow what the wire took, so headers,
    size buckets and errors of the estimate are all inside the budget. The thresholds keep to it within some steps, from
    above and from below: bits that are allowed are used. Where the optimizer wants otherwise an error remains, and the
    multiplier changes until it wants no more, as in any proportional-integral controller (Astrom and Hagglund 1995).
    The target falls geometrically from `start_ratio` times the budget during the first `anneal_fraction` of the run.

    Attributes:
      bits_per_element: the budget of a boundary, or of the mean over each group.
      multiplier_lr: relative change of a large multiplier per step at an error of 100 %.
      threshold_gain: what a step adds to the logarithm of thresholds at an error of 100 %.
      init_multiplier: the multiplier before the first step, nats per bit.
      start_ratio: the first target, in budgets.
      anneal_fraction: share of the run in which the target falls.
      groups: boundaries that share one multiplier and one budget, e.g. `((0, 1, 2),)` for a model of three. Without
        groups each boundary has its own.

    Raises:
      UsageError: unless the budget is above 0 and below 64, `start_ratio >= 1`, `anneal_fraction` is in [0, 1], and no
        boundary is in two groups.

    >>> controller = RateController(1.0)
    >>> state = controller.init(2)
    >>> above, below = controller.update(state, jnp.array([1.5, 0.5]), 1.0) / state
    >>> bool(above > 1), bool(below < 1)
    (True, True)
    """

    bits_per_element: float
    multiplier_lr: float = 0.1
    threshold_gain: float = 0.1
    init_multiplier: float = 0.03
    start_ratio: float = 1.0
    anneal_fraction: float = 0.3
    groups: tuple[tuple[int, ...], ...] = ()

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
        """Return `init_multiplier` for each."""
        return jnp.full(boundaries, self.init_multiplier)

    def target(self, progress: Array | float) -> Float[Array, "..."]:
        """Return the bits per element to aim at.

        >>> RateController(0.5, start_ratio=4.0, anneal_fraction=0.5).target(jnp.array([0.0, 0.25, 0.5, 1.0])).tolist()
        [2.0, 1.0, 0.5, 0.5]
        """
        left = 1 - jnp.clip(jnp.asarray(progress) / max(self.anneal_fraction, 1e-6), 0, 1)
        return self.bits_per_element * self.start_ratio**left

    def loss(self, state, seen):
        """Return `m R`."""
        return state * seen.bits

    def update(self, state, measured, progress):
        """Return the multipliers after one step of dual ascent."""
        step = self.multiplier_lr * (state + self.init_multiplier / 2) * self._error(measured, progress)
        return jnp.clip(state + step, 0.0, 10.0)

    def threshold_step(self, measured, saturation, progress):
        """Return `threshold_gain e`; thresholds do not fall while the spikes are saturated."""
        error = self._error(measured, progress)
        return self.threshold_gain * jnp.where((error < 0) & (saturation >= 1), 0.0, error)

    def _error(self, measured: Array, progress: Array | float) -> Array:
        return jnp.clip(self._of_groups(measured) / self.target(progress) - 1, -1, 1)

    def _of_groups(self, measured: Array) -> Array:
        for group in self.groups:
            members = jnp.asarray(group)
            measured = measured.at[members].set(measured[members].mean())
        return measured


class Crossing(NamedTuple):
    """What one boundary sends in one step.

    Attributes:
      stats: differentiable estimates; bits per element of the boundary's input.
      sent: what the wire took.
      share: numbers sent per element of that input.
    """

    stats: BoundaryStats
    sent: Telemetry
    share: float

    @property
    def measured(self) -> Float[Array, "..."]:
        """Bits that the wire took per element of the input."""
        return self.sent.bits_per_element * self.share


def crossing(boundary: Boundary, prepared: Float[Array, "... channels"], sent: Sent | None = None) -> Crossing:
    """Return what a boundary sends, for `rate_loss` and `control_rate`.

    Args:
      boundary: with a codec.
      prepared: what `boundary.prepare` returned.
      sent: what the collective returned with `return_sent=True`; `None` counts `prepared` by itself, as on one device.

    Raises:
      UsageError: for a boundary that sends floats.
    """
    if boundary.codec is None:
        raise UsageError("crossing: this boundary sends floats: give it a codec")
    stats = boundary_stats(boundary.codec.encoding, prepared)
    seen = observe(boundary.codec, prepared if sent is None else sent)
    return Crossing(stats._replace(bits=stats.bits * boundary.share), seen, boundary.share)


def rate_loss(penalty: RatePenalty, state: Float[Array, " boundaries"], crossings: Sequence[Crossing]) -> Array:
    """Return what all boundaries add to the loss."""
    return sum(penalty.loss(m, each.stats) for m, each in zip(state, crossings, strict=True)) + jnp.zeros(())


def control_rate(
    penalty: RatePenalty,
    state: Float[Array, " boundaries"],
    boundaries: Sequence[Boundary],
    crossings: Sequence[Crossing],
    progress: Array | float,
) -> Float[Array, " boundaries"]:
    """Move the thresholds after a step, and return the next state of the penalty.

    This and `rate_loss` are all that a training loop of your own needs:

    >>> import optax
    >>> from flax import nnx
    >>> class Model(nnx.Module):
    ...     def __init__(self, rngs):
    ...         self.first, self.last = nnx.Linear(8, 16, rngs=rngs), nnx.Linear(16, 1, rngs=rngs)
    ...         self.boundary = Boundary("count:15+rans", 16)
    ...     def __call__(self, x):
    ...         z = self.boundary.prepare(nnx.relu(self.first(x)))
    ...         return self.last(self.boundary.restore(self.boundary.codec.quantize(z))), crossing(self.boundary, z)
    >>> controller, model = RateController(0.5), Model(nnx.Rngs(0))
    >>> optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)
    >>> @nnx.jit
    ... def step(model, optimizer, multipliers, x, y, progress):
    ...     def loss(model):
    ...         found, seen = model(x)
    ...         return jnp.mean((found - y) ** 2) + rate_loss(controller, multipliers, [seen]), seen
    ...     (_, seen), gradient = nnx.value_and_grad(loss, has_aux=True)(model)
    ...     optimizer.update(model, gradient)
    ...     return control_rate(controller, multipliers, [model.boundary], [seen], progress), seen.measured
    >>> x, multipliers = jax.random.normal(jax.random.key(0), (512, 8)), controller.init(1)
    >>> for i in range(60):
    ...     multipliers, bits = step(model, optimizer, multipliers, x, x[:, :1], i / 60)
    >>> bool(0.45 < bits < 0.55)
    True

    Args:
      penalty: e.g. a `RateController`.
      state: of the penalty, one number per boundary.
      boundaries: changed in place.
      crossings: of that step, one per boundary.
      progress: how much of the run is done, in [0, 1].
    """
    measured = jnp.stack([each.measured for each in crossings])
    saturation = jnp.stack([each.sent.saturation for each in crossings])
    steps = penalty.threshold_step(measured, saturation, progress)
    for boundary, step in zip(boundaries, steps, strict=True):
        boundary.raise_thresholds(step)
    return penalty.update(state, measured, progress)
