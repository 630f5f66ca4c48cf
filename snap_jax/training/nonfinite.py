"""Failures: where a loss that is not finite came from.

Law: the state is the one before the step that failed, so what is said of that step was computed from its own numbers.
"""

import math

import jax
import numpy as np
from jaxtyping import Array, PyTree

from snap_jax.errors import UsageError
from snap_jax.parallel.mesh import STAGE
from snap_jax.training.config import Settings
from snap_jax.training.job import Job
from snap_jax.training.state import Measured, TrainState, batch_indices


def failure(job: Job, config: Settings, state: TrainState, measured: Measured) -> UsageError:
    """What to raise when `state.finite` is false; `measured` is of the step that failed.

    Names the step, the first boundary that something not finite crossed, and the batch.
    """
    step, bits = int(state.step), float(measured.loss) / math.log(2)
    what = f"loss is {bits}" if not math.isfinite(bits) else f"gradient is {float(measured.gradient_norm)}"
    where, index = _first(job, config, state.params, step)
    return UsageError(
        f"train: the {what} at step {step + 1}: lower --learning-rate, or look at the batch; "
        f"first not finite: {where}; {job.batch_name(index)}"
    )


def _first(job: Job, config: Settings, params: PyTree, step: int) -> tuple[str, int]:
    """Where, and in which batch of the step, forward. Parameters come first: they are older than any stream."""
    indices = batch_indices(config, step)
    if broken := _parameter(params):
        return broken, indices[0]
    count = jax.jit(job.not_finite)
    for index in indices:
        dies = np.flatnonzero(np.asarray(count(params, job.batch(index))))
        if dies.size:
            return _name(int(dies[0]), job.mesh.shape[STAGE]), index
    return "nothing that crosses forward, so the loss itself or the way back", indices[0]


def _name(die: int, dies: int) -> str:
    return f"what stage {die} sends to stage {die + 1}" if die + 1 < dies else f"what the last stage, {die}, computes"


def _parameter(params: PyTree) -> str:
    """The first parameter that is not finite, by die; "" if there is none."""
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    found = [(die, jax.tree_util.keystr(path, simple=True, separator=".")) for path, a in leaves for die in _dies(a)]
    return f"a parameter of stage {min(found)[0]}, {min(found)[1]}" if found else ""


def _dies(leaf: Array) -> list[int]:
    """The dies whose part of a parameter is not finite."""
    array = np.asarray(leaf)
    return np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(1)).tolist()
