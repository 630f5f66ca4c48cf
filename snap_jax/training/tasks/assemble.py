"""Divided: a model and its first parameters, laid out over chips in any layout.

Law: the weights are those of the model on one chip, in every layout.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, PyTree

from snap_jax.boundary.boundary import Boundary
from snap_jax.boundary.calibrate import calibrate, fit_wire
from snap_jax.boundary.rate_control import RatePenalty
from snap_jax.boundary.transforms import TransformMaker
from snap_jax.codecs.codec import Codec
from snap_jax.models import pipeline_stages
from snap_jax.models.base import Network
from snap_jax.parallel import tensor_parallel
from snap_jax.training.tasks.layout import Layout
from snap_jax.training.tasks.task import Task


def build(
    model: Network,
    layout: Layout,
    codec: Codec | None,
    grad_codec: Codec | None,
    *,
    data_codec: Codec | None = None,
    transform: Callable[[int], TransformMaker | None] | None = None,
    penalty: RatePenalty | None = None,
    rngs: nnx.Rngs | None = None,
) -> tuple[Task, PyTree]:
    """The task and its first parameters, each on its chips; the weights are those of `model` in every layout.

    Args:
      model: on one chip, e.g. `models.transformer.Transformer` or `models.resnet.ResNet`.
      layout: how chips share it.
      codec: what crosses from die to die and out of each region; `None` for floats.
      grad_codec: what crosses back.
      data_codec: how gradients of replicas are averaged; `None` for floats.
      transform: features -> what is learned around the codec of a boundary of so many, from die to die.
      penalty: what makes the spikes fewer, from die to die.
      rngs: of what is learned around the codec.

    Raises:
      UsageError: if the chips do not divide the layers, or a weight of them; or if there are too few devices.
    """
    widths = [model.width(place) for place in pipeline_stages.cuts(model, layout.pipeline)]
    boundaries = [
        Boundary(codec, width, grad_codec=grad_codec, transform=transform and transform(width), rngs=rngs)
        for width in widths
    ]
    if layout.tensor > 1:
        model = tensor_parallel.divide(model, layout.tensor, codec, grad_codec)
    graph, params = pipeline_stages.split(model, boundaries)
    task = Task(graph, layout.make_mesh(), data_codec, penalty)
    return task, task.place(params)


def calibrated(task: Task, params: PyTree, inputs: Array, *, bits: float) -> PyTree:
    """The parameters with every boundary calibrated on what would cross it of `inputs`, `[batch, ...]`, uncoded."""
    model, boundaries = pipeline_stages.join(task.graph, on_host(params))
    for boundary, stream in zip(boundaries, _streams(model, len(boundaries), inputs), strict=True):
        calibrate(boundary, stream, inputs, bits=bits)
    return task.place(pipeline_stages.split(model, boundaries)[1])


def with_learned_book(task: Task, params: PyTree, inputs: Array) -> Task:
    """The task with a book for its `Rans` wires, learned from what would cross of `inputs`, uncoded; one a program."""
    model, boundaries = pipeline_stages.join(task.graph, on_host(params))
    streams = _streams(model, len(boundaries), inputs)
    sent = [b.prepare(x, inputs) for b, x in zip(boundaries, streams, strict=True)]
    for dies in pipeline_stages.alike(task.graph, len(boundaries)):
        fit_wire(boundaries[dies], sent[dies])
    return dataclasses.replace(task, graph=pipeline_stages.split(model, boundaries)[0])


def _streams(model: Network, dies: int, inputs: Array) -> list[Array]:
    """The stream behind each die."""
    x, ends, streams = model.enter(inputs), pipeline_stages.cuts(model, dies), []
    for place, block in enumerate(model.blocks):
        x = block(x)
        if place + 1 in ends:
            streams.append(x)
    return streams


def on_host(params: PyTree) -> PyTree:
    """Parameters off their mesh, whole and on one device."""
    return jax.tree.map(lambda p: jnp.asarray(np.asarray(p)), params)
