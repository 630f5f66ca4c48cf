"""A run that is resumed with another number of steps, or another patience: what may go on, and what that changes.

The schedule of the learning rate, the evaluations and an annealed budget are functions of the number of steps. From the
step at which the run is resumed they are those of the new number; what was trained before keeps what it was trained by.
"""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from snap_jax.errors import UsageError
from snap_jax.training.config import Settings
from snap_jax.training.config.settings import flag, typed
from snap_jax.training.optimizer import schedule


def goes_on(out: Path, done: Mapping, then: Mapping, config: Settings) -> bool:
    """Return whether a finished run is to be trained further: `config` has more steps, or a longer patience.

    Args:
      out: the run directory, for messages.
      done: what `result.json` says of its training.
      then: the settings it had, as in `run.json`.
      config: the settings it is resumed with.

    Raises:
      UsageError: if there are fewer steps than were done, or patience would end it at once.
    """
    steps, patience = int(done["steps"]), then.get("patience")
    if config.steps < steps:
        raise UsageError(
            f"--resume: the run in {out} has done {steps} steps, not {typed(config, ['steps'])}: give more to train on"
        )
    longer = config.patience is None or (patience is not None and config.patience > patience)
    if done.get("stopped_early") and not longer:
        if config.steps != then.get("steps"):
            raise UsageError(
                f"--resume: patience ended the run in {out} after step {steps}: give a larger {flag('patience')} than "
                f"{patience} to train on"
            )
        return False
    return config.steps > steps


def changes(then: Mapping, config: Settings, step: int) -> list[str]:
    """Return a note of what another number of steps changes in a run that has done `step` steps; none if it is equal.

    Raises:
      UsageError: if fewer steps are asked for than were done; if the target of an annealed budget would rise again.
    """
    before = then.get("steps", config.steps)
    if config.steps == before:
        return []
    if config.steps < step:
        steps = typed(config, ["steps"])
        raise UsageError(f"--resume: the run has done {step} steps, more than {steps}: give {step} or more")
    if config.anneal is not None and config.steps > before and step < config.anneal * config.steps:
        raise UsageError(
            f"--resume: {typed(config, ['steps', 'anneal'])}: the target of the budget would rise again at step "
            f"{step + 1}: give at most --steps {max(before, math.floor(step / config.anneal))}, or start another run "
            "with --init-from"
        )
    was, now = (np.asarray(schedule(each)(step)) for each in (dataclasses.replace(config, steps=before), config))
    return [
        f"--steps {before} is now {config.steps}: the learning rate of step {step + 1} is {now:.3g}, on the "
        f"schedule of {config.steps} steps, and not {was:.3g}; evaluations are {config.evaluate_every} steps apart; a "
        f"run that has {config.steps} steps from its beginning gives other numbers"
    ]
