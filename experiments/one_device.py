"""A trained model on one device, with its boundaries between the blocks."""

from collections.abc import Sequence

import jax
from flax import nnx
from jaxtyping import Array

from snap_jax import training
from snap_jax.boundary.boundary import Boundary
from snap_jax.models.base import Network
from snap_jax.models.neurons import RateNeurons, TickNeurons
from snap_jax.training.tasks.assemble import on_one_device


def joined(trained: training.Trained) -> tuple[Network, list[Boundary]]:
    """Return the model and the boundary after each block; what the last boundary would send is not used."""
    return trained.job.task.stages.join(on_one_device(trained.params))


def run(model: Network, boundaries: Sequence[Boundary], inputs: Array) -> tuple[Array, list[Array]]:
    """Return the logits, and what each boundary sends, before it is coded."""
    x, sent = model.enter(inputs), []
    for block, boundary in zip(model.blocks, boundaries, strict=True):
        x = block(x)
        if len(sent) < len(boundaries) - 1:
            sent.append(boundary.prepare(x, inputs))
            codec = boundary.codec
            x = boundary.restore(sent[-1] if codec is None else codec.quantize(sent[-1]), inputs)
    return model.leave(x), sent


def firing_rate(model: nnx.Module, inputs: Array) -> float:
    """Return how many spikes a neuron inside the model fires per time step; negative ones count as well."""

    @nnx.jit
    def fired(model: nnx.Module, inputs: Array) -> tuple[list[Array], list[int]]:
        spikes: list[Array] = []
        watched = nnx.clone(model)
        for _, module in list(nnx.iter_modules(watched)):
            for name, neurons in list(vars(module).items()):
                if isinstance(neurons, RateNeurons | TickNeurons):
                    setattr(module, name, lambda x, neurons=neurons: _note(neurons, x, spikes))
        watched(inputs)  # pyright: ignore[reportCallIssue]
        return [each.sum() for each in spikes], [each.size for each in spikes]

    spikes, sizes = fired(model, inputs)
    return float(sum(spikes)) / float(sum(sizes))


def _note(neurons: RateNeurons | TickNeurons, x: Array, spikes: list[Array]) -> Array:
    y = neurons(x)
    if isinstance(neurons, RateNeurons):
        rate = neurons.rate.with_threshold(jax.numpy.exp(neurons.log_threshold[...]))
        spikes.append(abs(rate.spikes(x)) / rate.time_steps)
    else:
        spikes.append(y)
    return y
