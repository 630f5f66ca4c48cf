"""Evaluation of trained parameters on many rows: loss, correct answers, and the spikes that were sent.

Scores are sums over rows, so neither microbatches nor data replicas change them.
"""

import functools
import operator
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Integer, PyTree

from snap_jax.boundary.telemetry import Telemetry
from snap_jax.parallel.mesh import STAGE
from snap_jax.parallel.processes import on_host
from snap_jax.training.tasks.losses import Batch, Scores, by_microbatch
from snap_jax.training.tasks.task import Task


class Score(NamedTuple):
    """The result of evaluating many rows.

    Attributes:
      nats: cross-entropy, summed over all labels.
      correct: number of labels predicted correctly.
      seen: what left each stage.
    """

    nats: float
    correct: float
    seen: Telemetry


def score(
    task: Task, params: PyTree, count: int, read: Callable[[np.ndarray, np.ndarray], Batch], at_once: tuple[int, int]
) -> Score:
    """Return how well `count` rows are predicted.

    Args:
      task: the divided model.
      params: its parameters.
      count: number of rows.
      read: indices of the rows of a batch, and which of these this process holds -> those.
      at_once: microbatches, and rows in each.
    """
    total, seen, size = np.zeros(2), [], at_once[0] * at_once[1]
    for start in range(0, count, size):
        # All batches have one size: the last one is filled up with copies, which are not counted.
        counted = min(size, count - start)
        places = np.resize(np.arange(start, start + counted), size)
        batch = task.read_batch(functools.partial(read, places), size, at_once[0])
        scores, sent = _evaluate(task, params, batch)
        total += [float(each.reshape(-1)[:counted].sum()) for each in on_host(scores)]
        seen.append(jax.tree.map(np.int64, on_host(sent)))
    return Score(float(total[0]), float(total[1]), functools.reduce(operator.add, seen))


@functools.partial(jax.jit, static_argnums=0)
def _evaluate(task: Task, params: PyTree, batch: Batch) -> tuple[Scores, Telemetry]:
    return task.evaluate(params, batch)


def sends_spikes(task: Task, seen: Telemetry) -> bool:
    """Return whether spikes, not floats, cross between pipeline stages."""
    return bool(seen.symbols) and task.mesh.shape[STAGE] > 1


def spikes_of(task: Task, params: PyTree, row: Batch, replicas: int) -> list[Integer[np.ndarray, "steps ... channels"]]:
    """Return the spikes that leave each stage but the last for one row, exactly as they cross.

    Args:
      task: with spikes between stages.
      params: its parameters.
      row: inputs and labels, `[1, ...]`. The first axis of the result is 1, or the time steps of a spiking model.
      replicas: number of data replicas; all get the same row.
    """
    rows = Batch(*(np.repeat(np.asarray(a), replicas, axis=0) for a in row))
    spikes = jax.jit(task.spikes)(params, task.place_batch(by_microbatch(rows, 1)))
    return [s.astype(np.int16)[: len(s) // replicas] for s in on_host(spikes)]
