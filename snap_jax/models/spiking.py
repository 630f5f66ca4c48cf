"""Spiking activations: a leaky integrate-and-fire neuron in place of a ReLU, and the ticks it runs for.

Law: without leak, a neuron under constant current fires as often as `encodings.Rate` says in closed form.

`V_t = leak V_{t-1} + x_t`; at `V_t >= threshold` a spike, and `V_t <- V_t - threshold`. Ticks are folded into the
batch, `[ticks * batch, ...]`, tick by tick, so that a convolution, a norm or a boundary need not know of them.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from snap_jax.errors import UsageError
from snap_jax.surrogates import ATan, Surrogate, staircase


@dataclasses.dataclass(frozen=True)
class Activation:
    """What a layer does with its input: `dense(x)`, or, given `ticks`, the spikes of a neuron for each of them.

    The reset carries no gradient: through it, a surrogate would be counted twice (Zenke & Vogels 2021).

    Attributes:
      ticks: how long the neuron runs; 0 for the dense function.
      dense: the function when there are no ticks.
      threshold: the membrane potential that fires, 1 where the input has unit scale; a spike has the value 1.
      leak: what is left of the membrane after one tick, in (0, 1]; 0.5 is a time constant of 1.4 ticks.
      surrogate: the pseudo-derivative of a spike.

    Raises:
      UsageError: ticks < 0, threshold <= 0, or a leak outside (0, 1]; ticks that do not divide what comes in.

    >>> Activation()(jnp.array([-1.0, 0.5])).tolist()
    [0.0, 0.5]
    >>> Activation(ticks=3, leak=1.0)(jnp.array([0.5, 0.5, 0.5])).tolist()
    [0.0, 1.0, 0.0]
    """

    ticks: int = 0
    dense: Callable[[Array], Array] = jax.nn.relu
    threshold: float = 1.0
    leak: float = 0.5
    surrogate: Surrogate = ATan()

    def __post_init__(self):
        if self.ticks < 0 or self.threshold <= 0 or not 0 < self.leak <= 1:
            raise UsageError(
                f"Activation: ticks={self.ticks}, threshold={self.threshold}, leak={self.leak}: "
                "use ticks >= 0, threshold > 0 and 0 < leak <= 1"
            )

    def __call__(self, x: Float[Array, "ticks_batch ..."]) -> Float[Array, "ticks_batch ..."]:
        """The activation of `x`; with ticks, of a current for each, `[ticks * batch, ...]`."""
        if self.ticks == 0:
            return self.dense(x)
        return self._fire(unfold(x, self.ticks)).reshape(x.shape)

    def _fire(self, current: Float[Array, "ticks batch ..."]) -> Float[Array, "ticks batch ..."]:
        def tick(membrane: Array, x: Array) -> tuple[Array, Array]:
            membrane = self.leak * membrane + x
            spike = staircase(membrane / self.threshold, 1, 1.0, False, self.surrogate)
            return membrane - self.threshold * lax.stop_gradient(spike), spike

        return lax.scan(tick, jnp.zeros_like(current[0]), current)[1]


def repeat(x: Float[Array, "batch ..."], ticks: int) -> Float[Array, "ticks_batch ..."]:
    """The same input at every tick: `[ticks * batch, ...]`; without ticks, `x` itself.

    >>> repeat(jnp.array([1.0, 2.0]), 2).tolist()
    [1.0, 2.0, 1.0, 2.0]
    """
    return jnp.tile(x, (max(ticks, 1),) + (1,) * (x.ndim - 1))


def average(x: Float[Array, "ticks_batch ..."], ticks: int) -> Float[Array, "batch ..."]:
    """The mean over ticks, `[batch, ...]`; without ticks, `x` itself.

    >>> average(jnp.array([1.0, 2.0, 3.0, 6.0]), 2).tolist()
    [2.0, 4.0]
    """
    return unfold(x, max(ticks, 1)).mean(0)


def unfold(x: Float[Array, "ticks_batch ..."], ticks: int) -> Float[Array, "ticks batch ..."]:
    """Ticks on an axis of their own.

    Raises:
      UsageError: they do not divide the first axis.
    """
    if len(x) % ticks:
        raise UsageError(f"unfold: ticks={ticks} does not divide a first axis of {len(x)}: pass the input to `repeat`")
    return x.reshape(ticks, len(x) // ticks, *x.shape[1:])
