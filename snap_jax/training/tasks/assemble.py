"""A model and its first parameters, laid out over devices in any layout.

Invariant: the weights are those of the model on one device, in every layout.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
from flax import nnx
from jaxtyping import Array, PyTree

from snap_jax.boundary.boundary import Boundary
from snap_jax.boundary.calibrate import calibrate, fit_wire
from snap_jax.boundary.rate_control import RatePenalty
from snap_jax.boundary.transforms import TransformMaker
from snap_jax.codecs.codec import Codec
from snap_jax.models.base import Network
from snap_jax.models.own_blocks import OwnBlocks
from snap_jax.models.split import cuts, split, split_in_rows, stacked
from snap_jax.parallel.gpipe import GPipe
from snap_jax.parallel.processes import on_host
from snap_jax.parallel.schedule import Remat, Schedule
from snap_jax.parallel.tensor_parallel import divide
from snap_jax.training.tasks.layout import Layout
from snap_jax.training.tasks.task import Task


def build(
    model: Network,
    layout: Layout,
    codec: Codec | None,
    grad_codec: Codec | None,
    *,
    schedule: type[Schedule] = GPipe,
    remat: Remat = None,
    data_codec: Codec | None = None,
    region_codecs: tuple[Codec | None, Codec | None] | None = None,
    local: bool = False,
    transform: Callable[[int], TransformMaker | None] | None = None,
    penalty: RatePenalty | None = None,
    rngs: nnx.Rngs | None = None,
    own: OwnBlocks | None = None,
) -> tuple[Task, PyTree]:
    """Return the task and its first parameters, each on its devices.

    Args:
      model: on one device, e.g. `models.transformer.Transformer` or `models.resnet.ResNet`.
      layout: how devices share it.
      codec: what crosses between stages and out of each region; None for floats.
      grad_codec: what crosses in the backward pass.
      schedule: of the pipeline, e.g. `GPipe` or `OneFOneB`.
      remat: what the backward pass of a stage computes again: None, "full", or a policy of `jax.checkpoint`.
      data_codec: how gradients of replicas are averaged; None for floats.
      region_codecs: what crosses out of each region, forward and backward, if not the same.
      local: whether each replica has parameters of its own; see `Task`.
      transform: features -> what is learned around the codec of a boundary of so many, between stages.
      penalty: on the rate of the boundaries between stages.
      rngs: of what is learned around the codec.
      own: what dropped blocks of other processes from `model`; None if it is whole.

    Raises:
      UsageError: if the devices do not divide the layers, or a weight of them; or if there are too few devices.
    """
    widths = [model.width(place) for place in cuts(model, layout.pipeline)]
    boundaries = [
        Boundary(codec, width, grad_codec=grad_codec, transform=transform and transform(width), rngs=rngs)
        for width in widths
    ]
    if layout.tensor > 1:
        model = divide(model, layout.tensor, *(region_codecs or (codec, grad_codec)))
    stages, rows = split_in_rows(model, boundaries)
    task = Task(stages, layout.make_mesh(), schedule(1, layout.pipeline, remat), data_codec, penalty, local)
    return task, task.place(stacked(stages, rows)) if own is None else task.place_rows(rows, own.read)


def calibrated(task: Task, params: PyTree, inputs: Array, *, bits: float) -> PyTree:
    """Return the parameters with every boundary calibrated on what would cross it of `inputs`, `[batch, ...]`."""
    model, boundaries = task.stages.join(on_one_device(params))
    for boundary, stream in zip(boundaries, _streams(model, len(boundaries), inputs), strict=True):
        calibrate(boundary, stream, inputs, bits=bits)
    return task.place(split(model, boundaries)[1])


def with_learned_book(task: Task, params: PyTree, inputs: Array) -> Task:
    """Return the task with frequency tables for its `Rans` wires, learned from what would cross of `inputs`."""
    model, boundaries = task.stages.join(on_one_device(params))
    streams = _streams(model, len(boundaries), inputs)
    sent = [b.prepare(x, inputs) for b, x in zip(boundaries, streams, strict=True)]
    for alike in task.stages.alike():
        fit_wire(boundaries[alike], sent[alike])
    return dataclasses.replace(task, stages=split(model, boundaries)[0])


@functools.partial(jax.jit, static_argnums=1)
def _streams(model: Network, stages: int, inputs: Array) -> list[Array]:
    """Return the stream after each stage."""
    x, ends, streams = model.enter(inputs), cuts(model, stages), []
    for place, block in enumerate(model.blocks):
        x = block(x)
        if place + 1 in ends:
            streams.append(x)
    return streams


def on_one_device(params: PyTree) -> PyTree:
    """Return the parameters off their mesh, whole and on one device."""
    return jax.device_put(on_host(params))
