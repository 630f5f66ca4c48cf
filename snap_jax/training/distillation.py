"""Teachers: what the dense model that a run started from says of a batch, as part of what there is to learn.

Law: with weight W what is minimised is `(1 - W) CE(label) + W CE(teacher)`, cross-entropies; the teacher never learns.

It is a program of its own, before each step, over the same chips, laid out as the student, with dense links. What it
says is made on the last die, and that is where it is asked for: beside its own hops nothing crosses.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from snap_jax.errors import UsageError
from snap_jax.traffic import Traffic
from snap_jax.traffic.hlo import compiled_traffic
from snap_jax.training.config import Settings
from snap_jax.training.config.settings import TICKS
from snap_jax.training.init_from import settings_of
from snap_jax.training.tasks.losses import Batch, Distilled
from snap_jax.training.tasks.task import Task


class Teacher:
    """A dense model, laid out over chips, that is asked for every batch.

    Args:
      task: of the dense model.
      params: its own, on their chips.
      weight: of what it says in the loss.
    """

    def __init__(self, task: Task, params: PyTree, weight: float):
        self._task, self._params, self._weight = task, params, weight
        self._program: jax.stages.Compiled | None = None

    def teach(self, batch: Batch) -> Batch:
        """The batch, with what logits are to be beside its labels."""
        return Batch(batch.inputs, Distilled(jnp.asarray(batch.classes), self._compiled(batch)(self._params, batch)))

    def traffic(self, batch: Batch) -> Traffic:
        """What its program moves for one batch."""
        return compiled_traffic(self._compiled(batch), self._task.mesh)

    def _compiled(self, batch: Batch) -> jax.stages.Compiled:
        """Batches of a run are of one size."""
        if self._program is None:

            def teacher_logits(params: PyTree, batch: Batch) -> Any:
                return self._task.teacher_logits(params, batch, self._weight)

            self._program = jax.jit(teacher_logits).lower(self._params, batch).compile()
        return self._program


def teacher_of(config: Settings, build: Callable[[Settings], tuple[Task, PyTree]]) -> Teacher | None:
    """The teacher that a config asks for; `None` if it asks for none.

    Args:
      config: of the student.
      build: a config -> its task, and the parameters it starts with.

    Raises:
      UsageError: if the run to start from is not there, or not dense.
    """
    if not config.distill:
        return None
    run, source = Path(config.init_from), settings_of(Path(config.init_from))
    if source.sent_link not in ("dense", "bf16"):
        raise UsageError(
            f"distill={config.distill}: the run in {run} sends {source.sent_link}, and a teacher is dense: "
            "give the --out of a run with --mode dense as --init-from"
        )
    return Teacher(*build(as_dense(config)), config.distill)


def as_dense(config: Settings) -> Settings:
    """The config of the same model with floats on all links and no neurons, that starts from the same run.

    >>> from snap_jax.training.config import LanguageConfig
    >>> as_dense(LanguageConfig(budget=1.0, token_groups=8, distill=0.5, init_from="runs/dense")) == LanguageConfig(
    ...     mode="dense", link="dense", init_from="runs/dense"
    ... )
    True
    """
    floats = {"mode": "dense", "link": "dense", "grad_link": "", "ticks": TICKS}
    return dataclasses.replace(config, **floats, budget=0.0, rank=0, token_groups=1, prune_below=None, distill=0.0)
