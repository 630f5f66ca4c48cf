"""Run: what stays the same from step to step of a run; Progress: where it stands."""

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path

import optax

from snap_jax.training.config import Settings
from snap_jax.training.job import Job
from snap_jax.training.run_dir import Record


@dataclasses.dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Attributes:
      step: steps done.
      steps: steps in all.
      loss_bits: training loss, bits per byte or image; NaN before the first step.
      bits_per_element: on the wire, measured; NaN before the first step.
      seconds: taken so far.
      elements: that cross all boundaries in one step, forward.
    """

    step: int
    steps: int
    loss_bits: float = math.nan
    bits_per_element: float = math.nan
    seconds: float = 0.0
    elements: int = 0


@dataclasses.dataclass(frozen=True)
class Run:
    """A run in progress.

    Attributes:
      config: its settings.
      out: the run directory; None for a run that writes nothing.
      job: the task and its data.
      optimizer: of all parameters.
      record: what `run.json` says; None without a directory.
      began: on the monotonic clock, as if the run had never been stopped.
      on_progress: receives where the run stands.
      on_metrics: receives the line of `metrics.jsonl` of each logged step.
    """

    config: Settings
    out: Path | None
    job: Job
    optimizer: optax.GradientTransformation
    record: Record | None
    began: float
    on_progress: Callable[[Progress], None]
    on_metrics: Callable[[dict], None] = lambda _: None

    @property
    def elements(self) -> int:
        """Number of elements that cross all boundaries in one step, forward."""
        return self.config.accumulate * self.job.crossing_elements

    @property
    def seconds(self) -> float:
        """Seconds taken so far, those before a stop included."""
        return time.monotonic() - self.began
