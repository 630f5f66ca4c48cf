"""A budget from scratch: a dense phase, then boundaries calibrated on it, then the budgeted phase.

The dense phase is a run of its own, in the directory beside that of the run, so that other budgets can start from it.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from snap_jax.parallel.processes import is_first, on_first
from snap_jax.training import lifecycle, run_dir
from snap_jax.training.atomic_io import to_json, write_atomically
from snap_jax.training.config import Settings, command
from snap_jax.training.config.settings import from_scratch
from snap_jax.training.run import Progress

# What only the budgeted phase has; the rest is the same in both.
_OF_THE_BUDGET = (
    "budget", "dense_steps", "anneal", "rank", "link", "grad_link", "link_policy", "link_speed", "distill", "teacher",
    "prune_below", "time_steps", "link_streams", "token_groups",
)  # fmt: skip


def train(
    config: Settings,
    out: Path,
    *,
    overwrite: bool = False,
    resume: bool = False,
    requeue: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    on_note: Callable[[str], None] | None = None,
    on_metrics: Callable[[dict], None] | None = None,
) -> dict:
    """Train, evaluate, write the run directory, and return what `result.json` holds.

    With a budget and without `init_from`, a dense run comes first, in a directory beside `out` whose name ends with
    "-dense". It is taken as it is if it is finished. The section `phases` of the result has the quality of both.

    Args:
      config: of the run.
      out: the run directory.
      overwrite: replace the run that is there.
      resume: continue the run that is there.
      requeue: continue the run that is there, or start it if there is none.
      on_progress: receives where the run stands, every few steps.
      on_note: receives other messages, one line each.
      on_metrics: receives the metrics of every logged step, as `metrics.jsonl` has them: `step`, `loss_bits`, ... Of
        several processes the first one calls it.

    Raises:
      UsageError: for data, links, devices or sizes that cannot work; if `out` cannot be written, is in use, holds
        another run, or holds none to resume; if the disk is full; if the loss or its gradient is not finite.
      Stopped: after SIGTERM or SIGINT, when the current step is done and saved.
    """
    told: dict[str, Any] = {"on_progress": on_progress, "on_note": on_note, "on_metrics": on_metrics}
    how = {"overwrite": overwrite, "resume": resume, "requeue": requeue}
    if not from_scratch(config):
        return lifecycle.train(config, out, **how, **told)
    note = on_note if on_note and is_first() else lambda _: None
    dense, where = dense_phase(config), out.with_name(f"{out.name}-dense")
    if not (resume or requeue):
        on_first(lambda: run_dir.check_free(out, overwrite))
    if config.dense_steps is None and not overwrite:  # more --steps of the budgeted phase are no more dense steps
        dense = dataclasses.replace(dense, steps=on_first(lambda: _steps_there(where)) or dense.steps)
    note(f"phase 1 of 2: {dense.steps} dense steps in {where}")
    before = lifecycle.train(dense, where, overwrite=overwrite, requeue=not overwrite, **told)
    note(f"phase 2 of 2: boundaries are calibrated, then {config.steps} steps at {config.budget:g} bits per element")
    budgeted = dataclasses.replace(config, init_from=str(where), dense_steps=None)
    return _reported(config, out, before, lifecycle.train(budgeted, out, **how, **told))


def dense_phase(config: Settings) -> Settings:
    """Return the settings of the dense phase: float links, no transform, and otherwise the same.

    >>> from snap_jax.training.config import LanguageConfig
    >>> dense = dense_phase(LanguageConfig(budget=1.0, width=64, token_groups=8, steps=300, dense_steps=100))
    >>> dense == LanguageConfig(mode="dense", width=64, steps=100)
    True
    """
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    plain: dict[str, Any] = {name: defaults[name] for name in _OF_THE_BUDGET if name in defaults}
    return dataclasses.replace(config, **plain, mode="dense", steps=config.dense_steps or config.steps)


def _steps_there(where: Path) -> int | None:
    known = run_dir.record(where)
    return None if known is None else known.config.get("steps")


def _reported(config: Settings, out: Path, before: dict, after: dict) -> dict:
    """The result with the section `phases` and the command as it was given; written if it was not yet."""
    if "phases" in after:
        return after
    quality = {"dense": before["quality"], "budgeted": after["quality"]}
    seconds = {"dense": before["seconds"], "budgeted": after["seconds"]}
    steps = {"dense": before["training"]["steps"], "budgeted": after["training"]["steps"]}
    phases = [
        {"phase": name, "steps": steps[name], "quality": quality[name], "seconds": seconds[name]} for name in quality
    ]
    result = after | {"phases": phases, "command": f"{command(config)} --out {out}"}
    on_first(lambda: write_atomically(out / "result.json", to_json(result, indent=1)))
    return result
