"""Rasters: the spikes that one held-out row sends, for the report to show.

Law: what is kept is what crosses the boundaries for the trained parameters, to the last spike.
"""

import jax
import numpy as np
from jaxtyping import Integer, PyTree

from snap_jax.boundary.telemetry import Telemetry
from snap_jax.parallel.mesh import STAGE
from snap_jax.training.parallel_job import Divided, by_microbatch
from snap_jax.training.tasks.losses import Batch


def sends_spikes(job: Divided, seen: Telemetry) -> bool:
    """Whether spikes and no floats cross from die to die."""
    return bool(seen.symbols) and job.mesh.shape[STAGE] > 1


def spikes_of(job: Divided, params: PyTree, row: Batch) -> list[Integer[np.ndarray, "ticks ... channels"]]:
    """What leaves each die but the last for one row of a batch; the same for all replicas, so that of the first.

    Args:
      job: with spikes from die to die.
      params: trained.
      row: inputs and labels, `[1, ...]`. The first axis of what left a die is one, or of a model that folds its ticks
        into the batch, as many as there are.
    """
    replicas = job.config.divided.data
    rows = Batch(*(np.repeat(np.asarray(a), replicas, axis=0) for a in row))
    spikes = jax.jit(job.task.spikes)(params, by_microbatch(rows, 1))[:-1]
    return [np.asarray(s, np.int16)[: len(s) // replicas] for s in spikes]
