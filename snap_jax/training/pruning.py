"""Pruning: channels that a trained model does not use are removed from the wire; and how many bytes that saves.

The outputs of the pruned model equal those of the masked one bit for bit; its program sends less.
"""

import dataclasses

import jax
import numpy as np
from jaxtyping import PyTree

from snap_jax.boundary.channel_pruning import Pruned, mask_channels, prune
from snap_jax.models.split import split
from snap_jax.parallel.processes import on_host
from snap_jax.traffic.hlo import compiled_traffic
from snap_jax.training.tasks.assemble import on_one_device
from snap_jax.training.tasks.losses import Batch
from snap_jax.training.tasks.task import Task


def masked(task: Task, params: PyTree, sample: Batch, *, least_rate: float) -> PyTree:
    """Mask the channels that fire at most at `least_rate` on all boundaries that share a program.

    Args:
      task: of a pipeline.
      params: trained.
      sample: one batch, by microbatch.
      least_rate: firing rate; 0 masks channels that never fire.
    """
    spikes = jax.jit(task.spikes)(params, Batch(sample.inputs[:1], sample.classes[:1]))
    model, boundaries = task.stages.join(on_one_device(params))
    rates = [(s != 0).reshape(-1, s.shape[-1]).mean(0) for s in on_host(spikes)]
    for alike in task.stages.alike():
        idle = np.max(rates[alike], 0) <= least_rate
        for boundary in boundaries[alike]:
            mask_channels(boundary, np.flatnonzero(np.tile(idle, boundary.channels // len(idle))).tolist())
    return task.place(split(model, boundaries)[1])


def pruned(task: Task, params: PyTree) -> tuple[Task, PyTree, list[Pruned]]:
    """Return the task and the parameters without masked channels on the wire, and one report per program.

    Raises:
      UsageError: if all channels of a boundary are masked.
    """
    model, boundaries = task.stages.join(on_one_device(params))
    reports = [prune(boundaries[alike]) for alike in task.stages.alike()]
    stages, left = split(model, boundaries)
    task = dataclasses.replace(task, stages=stages)
    return task, task.place(left), reports


def section(task: Task, params: PyTree, sample: Batch) -> dict:
    """Return what pruning did, for `result.json`: channels and forward bytes of one evaluation, before and after.

    Channels are those of one boundary, or the sum over boundaries where each is pruned by itself. `identical` says
    whether loss and correct answers of `sample` stay the same bit for bit.
    """
    after, left, reports = pruned(task, params)
    scores, nbytes = zip(*(_evaluated(t, p, sample) for t, p in ((task, params), (after, left))), strict=True)
    same = jax.tree.map(lambda a, b: bool((a == b).all()), *on_host(scores))
    channels = np.sum([report.channels for report in reports], 0).tolist()
    return {"channels": channels, "payload_bytes": list(nbytes), "identical": all(jax.tree.leaves(same))}


def _evaluated(task: Task, params: PyTree, sample: Batch) -> tuple[PyTree, int]:
    compiled = jax.jit(task.evaluate).lower(params, sample).compile()
    traffic = compiled_traffic(compiled, task.mesh, schedule=task.schedule_of(sample))
    return compiled(params, sample)[0], traffic.where(lambda t: "boundary" in t.path).sent_bytes
