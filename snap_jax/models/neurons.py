"""Neurons: activations that are spikes, for models that spike inside the chip too.

Law: a layer of neurons computes what its `Rate` encoding quantises: the firing rates of leaky integrate-and-fire
neurons after `ticks` ticks.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from snap_jax.encodings import Rate
from snap_jax.specs import unit_normal_threshold

Activation = Callable[[Array], Array]
LEAK = 0.5  # of the membrane is left after a tick: 1 - 1 / tau, tau = 2 as in SpikingJelly (Fang et al. 2023)


class Neurons(nnx.Module):
    """Leaky integrate-and-fire neurons, one a channel, each with a learnable threshold.

    `V <- V / 2 + x` for `ticks` ticks; `y = threshold * spikes / ticks`. Without `signed`, negative input stays silent.

    Args:
      features: channels.
      ticks: how long they run.
      signed: whether negative input fires negative spikes.

    >>> y = Neurons(3, 4, signed=False)(jnp.array([2.0, 1.2, -2.0]))
    >>> [f"{rate:.2f}" for rate in y / unit_normal_threshold(1)]
    ['1.00', '0.50', '0.00']
    """

    def __init__(self, features: int, ticks: int, *, signed: bool):
        self.rate = nnx.static(Rate(ticks, leak=LEAK, signed=signed))
        # Without ticks enough to fill its membrane, a neuron fires from half a threshold on, as `Ternary` does.
        self.log_threshold = nnx.Param(jnp.full((features,), jnp.log(unit_normal_threshold(1))))

    def __call__(self, x: Float[Array, "... features"]) -> Float[Array, "... features"]:
        """Firing rates, in thresholds."""
        return self.rate.with_threshold(jnp.exp(self.log_threshold[...])).quantize(x)


def feed(features: int, ticks: int) -> Activation:
    """What stands before the weights of a layer: neurons, or for a model without ticks nothing."""
    return Neurons(features, ticks, signed=True) if ticks else identity


def hidden(features: int, ticks: int) -> Activation:
    """What a hidden layer fires: neurons of positive spikes, or for a model without ticks a squared ReLU."""
    return Neurons(features, ticks, signed=False) if ticks else squared_relu


def identity(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The same."""
    return x


def squared_relu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """`max(x, 0)^2` (So et al. 2021).

    >>> squared_relu(jnp.array([-1.0, 3.0])).tolist()
    [0.0, 9.0]
    """
    return jnp.square(jax.nn.relu(x))
