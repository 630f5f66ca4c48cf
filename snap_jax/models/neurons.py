"""Activations that are spikes, for models that spike inside a device too.

Invariant: without leak, `TickNeurons` under constant current fire as often as `encodings.Rate` computes in closed form,
from an empty membrane; and `RateNeurons` compute what their `Rate` quantizes.

All are leaky integrate-and-fire: `V <- leak V + x`; at `V >= threshold` a spike, and `V <- V - threshold`.
`TickNeurons` return the spikes of each time step, so the model after them runs for as many. Time steps are
folded into the batch, `[time_steps * batch, ...]`, so a convolution, a norm or a boundary need not know of them.
`RateNeurons` return the firing rate over all time steps at once. A model without time steps has dense functions.
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from snap_jax.encodings import Rate
from snap_jax.encodings.surrogates import ATan, Surrogate, staircase
from snap_jax.errors import UsageError

Activation = Callable[[Array], Array]
UNIT_NORMAL_THRESHOLD = 2 * math.sqrt(2 / math.pi)  # twice the mean size of unit normal input
LEAK = 0.5  # of the membrane is left after a time step: 1 - 1 / tau, tau = 2 as in SpikingJelly (Fang et al. 2023)


@dataclasses.dataclass(frozen=True)
class TickNeurons:
    """The spikes of each time step, 0 or 1, of neurons that all have one fixed threshold.

    The reset carries no gradient: through it, a surrogate would be counted twice (Zenke & Vogels 2021).

    Attributes:
      time_steps: how many time steps they run.
      threshold: the membrane potential that fires, 1 where the input has unit scale; a spike has the value 1.
      leak: what is left of the membrane after one time step, in (0, 1]; 0.5 is a time constant of 1.4 time steps.
      surrogate: the pseudo-derivative of a spike.

    Raises:
      UsageError: time_steps < 1, threshold <= 0, or a leak outside (0, 1]; an input that time steps do not divide.

    >>> TickNeurons(3, leak=1.0)(jnp.array([0.5, 0.5, 0.5])).tolist()
    [0.0, 1.0, 0.0]
    """

    time_steps: int
    threshold: float = 1.0
    leak: float = LEAK
    surrogate: Surrogate = ATan()

    def __post_init__(self):
        if self.time_steps < 1 or self.threshold <= 0 or not 0 < self.leak <= 1:
            raise UsageError(
                f"TickNeurons: time_steps={self.time_steps}, threshold={self.threshold}, leak={self.leak}: "
                "use time_steps >= 1, threshold > 0 and 0 < leak <= 1"
            )

    def __call__(self, x: Float[Array, "steps_batch ..."]) -> Float[Array, "steps_batch ..."]:
        """Return spikes, from a current for each time step, `[time_steps * batch, ...]`."""
        return self._fire(unfold(x, self.time_steps)).reshape(x.shape)

    def _fire(self, current: Float[Array, "time_steps batch ..."]) -> Float[Array, "time_steps batch ..."]:
        def tick(membrane: Array, x: Array) -> tuple[Array, Array]:
            membrane = self.leak * membrane + x
            spike = staircase(membrane / self.threshold, 1, 1.0, False, self.surrogate)
            return membrane - self.threshold * lax.stop_gradient(spike), spike

        return lax.scan(tick, jnp.zeros_like(current[0]), current)[1]


class RateNeurons(nnx.Module):
    """The firing rates over all time steps of neurons under constant current, each channel with a learnable threshold.

    `y = threshold * spikes / time_steps`. Without `signed`, negative input fires nothing.

    Args:
      features: channels.
      time_steps: how many time steps they run.
      signed: whether negative input fires negative spikes.

    >>> y = RateNeurons(3, 4, signed=False)(jnp.array([2.0, 1.2, -2.0]))
    >>> [f"{rate:.2f}" for rate in y / UNIT_NORMAL_THRESHOLD]
    ['1.00', '0.50', '0.00']
    """

    def __init__(self, features: int, time_steps: int, *, signed: bool, split: int | None = None):
        self.rate = nnx.static(Rate(time_steps, leak=LEAK, signed=signed))
        # Without time steps enough to fill its membrane, a neuron fires from half a threshold on, as `Ternary` does.
        start = jnp.full((features,), jnp.log(UNIT_NORMAL_THRESHOLD))
        self.log_threshold = nnx.Param(start, tensor_split=split)

    def __call__(self, x: Float[Array, "... features"]) -> Float[Array, "... features"]:
        """Return firing rates, in thresholds."""
        return self.rate.with_threshold(jnp.exp(self.log_threshold[...])).quantize(x)


def fired(time_steps: int, dense: Activation = jax.nn.relu) -> Activation:
    """Return the activation after a layer: spikes, or for a model without time steps `dense`.

    >>> fired(0)(jnp.array([-1.0, 0.5])).tolist()
    [0.0, 0.5]
    """
    return TickNeurons(time_steps) if time_steps else dense


def feed(features: int, time_steps: int) -> Activation:
    """Return what comes before the weights of a layer: rates, or for a model without time steps nothing."""
    return RateNeurons(features, time_steps, signed=True) if time_steps else identity


def hidden(features: int, time_steps: int) -> Activation:
    """Return the activation of a hidden layer: positive rates, or for a model without time steps a squared ReLU."""
    return RateNeurons(features, time_steps, signed=False, split=0) if time_steps else squared_relu


def identity(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return the same."""
    return x


def squared_relu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """`max(x, 0)^2` (So et al. 2021).

    >>> squared_relu(jnp.array([-1.0, 3.0])).tolist()
    [0.0, 9.0]
    """
    return jnp.square(jax.nn.relu(x))


def repeat(x: Float[Array, "batch ..."], time_steps: int) -> Float[Array, "steps_batch ..."]:
    """Repeat the input at every time step: `[time_steps * batch, ...]`; without time steps, return `x` itself.

    >>> repeat(jnp.array([1.0, 2.0]), 2).tolist()
    [1.0, 2.0, 1.0, 2.0]
    """
    return jnp.tile(x, (max(time_steps, 1),) + (1,) * (x.ndim - 1))


def average(x: Float[Array, "steps_batch ..."], time_steps: int) -> Float[Array, "batch ..."]:
    """Return the mean over time steps, `[batch, ...]`; without them, `x` itself.

    >>> average(jnp.array([1.0, 2.0, 3.0, 6.0]), 2).tolist()
    [2.0, 4.0]
    """
    return unfold(x, max(time_steps, 1)).mean(0)


def unfold(x: Float[Array, "steps_batch ..."], time_steps: int) -> Float[Array, "time_steps batch ..."]:
    """Return the time steps on an axis of their own.

    Raises:
      UsageError: they do not divide the first axis.
    """
    if len(x) % time_steps:
        raise UsageError(
            f"unfold: time_steps={time_steps} does not divide a first axis of {len(x)}: pass the input to `repeat`"
        )
    return x.reshape(time_steps, len(x) // time_steps, *x.shape[1:])
