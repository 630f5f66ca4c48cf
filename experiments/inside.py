"""How often the neurons inside a spiking model fire: a share of the ticks of all of them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from snap_jax.models.neurons import RateNeurons, TickNeurons


def firing_rate(net: Any, inputs: jax.Array) -> float:
    """Spikes a neuron and tick, over all neurons of the blocks, negative ones counted as well."""

    @nnx.jit
    def fired(net: Any, inputs: jax.Array) -> tuple[list[jax.Array], list[int]]:
        seen: list[jax.Array] = []
        watched = nnx.clone(net)
        for _, module in list(nnx.iter_graph(watched)):
            if isinstance(module, nnx.Module):
                for name, value in list(vars(module).items()):
                    if isinstance(value, RateNeurons | TickNeurons):
                        setattr(module, name, _watch(value, seen))
        watched(inputs)
        return [spikes.sum() for spikes in seen], [spikes.size for spikes in seen]

    spikes, sizes = fired(net, inputs)
    return float(sum(spikes)) / float(sum(sizes))


def _watch(neurons: RateNeurons | TickNeurons, seen: list[jax.Array]) -> Callable[[jax.Array], jax.Array]:
    def call(x: jax.Array) -> jax.Array:
        y = neurons(x)
        if isinstance(neurons, RateNeurons):
            rate = neurons.rate.with_threshold(jnp.exp(neurons.log_threshold[...]))
            seen.append(jnp.abs(rate.spikes(x)) / rate.ticks)
        else:
            seen.append(y)
        return y

    return call
