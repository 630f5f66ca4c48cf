"""Runs: begun, or taken up where they were left.

Law: a run that is taken up has the state it saved, the data it was reading, and nothing of what it did after that.
"""

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path

import optax

from snap_jax.training import checkpoints, checksums, run_dir
from snap_jax.training.config import Settings
from snap_jax.training.job import Job
from snap_jax.training.optimizers import optimizer
from snap_jax.training.prepare import prepare
from snap_jax.training.result_json import environment
from snap_jax.training.run_dir import Record
from snap_jax.training.state import TrainState, start


@dataclasses.dataclass(frozen=True)
class Progress:
    """Where a run stands; losses in bits a byte or picture, time in seconds; at first nothing is known."""

    step: int
    steps: int
    loss_bits: float = math.nan
    bits_per_element: float = math.nan
    seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Run:
    """A run under way: what stays the same from step to step.

    Attributes:
      config: what was asked for.
      out: the run directory.
      job: the task and its data.
      optimizer: of all parameters.
      record: what `run.json` says.
      began: on the monotonic clock, as if the run had never been stopped.
      on_progress: to be told where the run stands.
    """

    config: Settings
    out: Path
    job: Job
    optimizer: optax.GradientTransformation
    record: Record
    began: float
    on_progress: Callable[[Progress], None]

    @property
    def elements(self) -> int:
        """That cross all boundaries in one step, forward."""
        return self.config.accumulate * self.job.crossing_elements

    @property
    def seconds(self) -> float:
        """Taken so far, those before it was stopped included."""
        return time.monotonic() - self.began


def begin(
    config: Settings, out: Path, overwrite: bool, on_progress: Callable[[Progress], None]
) -> tuple[Run, TrainState]:
    """A new run, and its state before the first step.

    Raises:
      UsageError: as `prepare` and `directory.claim`.
    """
    began, job = time.monotonic(), prepare(config)
    rule = job.optimizer(optimizer(config))
    record = run_dir.claim(out, config, job.fingerprint(), overwrite, job.origin)
    return Run(config, out, job, rule, record, began, on_progress), start(job, config, rule)


def take_up(
    config: Settings,
    out: Path,
    known: Record,
    on_progress: Callable[[Progress], None],
    on_note: Callable[[str], None],
) -> tuple[Run, TrainState]:
    """The run that `known` describes, and the state of its last good checkpoint; its first state if it saved none.

    Raises:
      UsageError: as `prepare`; if the data is not what it was; if there are checkpoints, and none is good.
    """
    began = time.monotonic()
    good, notes = checkpoints.last_good(out / "checkpoints")
    # What it started from is in the checkpoint: where nothing else is made of it, the run it came from may be gone.
    job = prepare(config if good is None or config.needs_origin else dataclasses.replace(config, init_from=""))
    run_dir.check_sources(out, known, config, job.fingerprint(), job.origin)
    rule = job.optimizer(optimizer(config))
    state = start(job, config, rule)
    if good is not None:
        state = checkpoints.restore(good, state)
        began -= checksums.facts(good)["seconds"]
    checkpoints.drop_newer(out / "checkpoints", good)
    notes += [*_differences(known.versions), f"resumed at step {int(state.step)} of {config.steps}"]
    for note in notes:
        on_note(note)
    record = run_dir.continued(known, int(state.step), notes)
    run_dir.write_record(out, record)
    return Run(config, out, job, rule, record, began, on_progress), state


def _differences(then: dict) -> list[str]:
    """Other versions may round otherwise."""
    now = environment()
    changed = [f"{name} {then[name]} is now {now[name]}" for name in now if then.get(name, now[name]) != now[name]]
    return [f"numbers may differ from those of an unstopped run: {', '.join(changed)}"] if changed else []
