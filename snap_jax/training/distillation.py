"""Distillation: a dense model teaches the run that starts from it.

With weight W the loss is `(1 - W) CE(label) + W CE(teacher)`, both cross-entropies; the teacher does not learn.

The teacher is a program of its own that runs before each step, on the same devices and in the same layout as the
student, with float links. Its logits are made on the last stage, where the loss needs them, so they are never sent.
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
from snap_jax.training.config import LanguageConfig, Settings
from snap_jax.training.config.settings import flag, typed
from snap_jax.training.init_from import settings_of
from snap_jax.training.tasks.losses import Batch, Distilled
from snap_jax.training.tasks.task import Task


class Teacher:
    """A dense model, divided over devices, that makes targets for every batch.

    Args:
      task: of the dense model.
      params: its parameters, on their devices.
      weight: of its targets in the loss.
    """

    def __init__(self, task: Task, params: PyTree, weight: float):
        self._task, self.params, self._weight = task, params, weight
        self._program: jax.stages.Compiled | None = None

    def teach(self, batch: Batch) -> Batch:
        """Return the batch with the teacher's targets beside its labels."""
        return Batch(batch.inputs, Distilled(jnp.asarray(batch.classes), self._compiled(batch)(self.params, batch)))

    def traffic(self, batch: Batch) -> Traffic:
        """Return what its program sends for one batch."""
        return compiled_traffic(self._compiled(batch), self._task.mesh, schedule=self._task.schedule_of(batch))

    def _compiled(self, batch: Batch) -> jax.stages.Compiled:
        """All batches of a run have one size."""
        if self._program is None:

            def teacher_logits(params: PyTree, batch: Batch) -> Any:
                return self._task.teacher_logits(params, batch, self._weight)

            self._program = jax.jit(teacher_logits).lower(self.params, batch).compile()
        return self._program


def teacher_of(config: Settings, build: Callable[[Settings], tuple[Task, PyTree]]) -> Teacher | None:
    """Return the teacher that a config asks for; None if it asks for none.

    Args:
      config: of the student.
      build: a config -> its task, and the parameters it starts with.

    Raises:
      UsageError: if the run to start from does not exist, or is not dense.
    """
    if config.distill is None or config.init_from is None:
        return None
    run, name = (config.teacher, "teacher") if config.teacher else (config.init_from, "init_from")
    source = settings_of(Path(run))
    if source.sent_link not in ("fp32", "bf16"):
        raise UsageError(
            f"{typed(config, ['distill'])}: the run in {run} sends {source.sent_link}, a teacher must be dense: "
            f"give the --out of a run with --mode dense as {flag(name)}"
        )
    return Teacher(*build(dataclasses.replace(as_dense(config), init_from=run)), config.distill)


def as_dense(config: Settings) -> Settings:
    """Return the config of the same model with float links and no neurons, that starts from the same run.

    >>> as_dense(LanguageConfig(budget=1.0, token_groups=8, distill=0.5, init_from="runs/dense")) == LanguageConfig(
    ...     mode="dense", init_from="runs/dense"
    ... )
    True
    """
    coded = ("link", "grad_link", "time_steps", "budget", "anneal", "penalty", "rank", "prune_below", "distill")
    coded += ("local_steps",)
    plain: dict[str, Any] = dict.fromkeys((*coded, "teacher"))
    plain |= {name: getattr(Settings, name) for name in ("transform_lr", "outer_lr", "outer_momentum")}
    plain |= {"mode": "dense"}
    return dataclasses.replace(config, **plain | ({"token_groups": 1} if isinstance(config, LanguageConfig) else {}))
