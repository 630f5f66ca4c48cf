"""The training loop: steps, and between them what is logged and saved.

What is logged and saved at a step is a function of the state after it, so it does not depend on earlier stops.
"""

import dataclasses
import math
import signal
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from snap_jax.parallel.processes import count, from_each, on_host
from snap_jax.training.checkpoints import Checkpoints
from snap_jax.training.config import Settings
from snap_jax.training.failures import Signals, Stopped, not_finite
from snap_jax.training.metrics import Metrics, NoMetrics, metrics_writer
from snap_jax.training.result_json import spike_statistics
from snap_jax.training.run import Progress, Run
from snap_jax.training.run_dir import how_to_resume
from snap_jax.training.train_step import Measured, TrainState, averaged, batches_of, steps_done

_ASKED_EVERY = 10  # steps after which several processes ask each other for signals


class Programs(NamedTuple):
    """The compiled programs of a run.

    Attributes:
      step: of every step.
      exchange: at the end of a round of local steps; None without them.
    """

    step: jax.stages.Compiled
    exchange: jax.stages.Compiled | None = None


def fit_saved(run: Run, programs: Programs, state: TrainState, max_bits: float) -> TrainState:
    """Train as `fit` does, with metrics and checkpoints in the run directory; the returned state is saved.

    Raises:
      Stopped: after SIGTERM or SIGINT, when the current step is done and saved.
      UsageError: when a loss or gradient is not finite.
    """
    assert run.out is not None
    with (
        Checkpoints(run.out / "checkpoints", run.config.keep) as checkpoints,
        metrics_writer(run.out, steps_done(state), run.seconds) as metrics,
        Signals() as signals,
    ):
        saver = _Saver(run, checkpoints, metrics, signals)
        state = fit(run, programs, state, max_bits, metrics.write, saver)
        checkpoints.wait()
    return state


def fit(
    run: Run,
    programs: Programs,
    state: TrainState,
    max_bits: float,
    write: Callable[[dict], None],
    saver: "_Saver | BestInMemory | None" = None,
) -> TrainState:
    """Train to the last step, or until patience ends.

    Args:
      run: what stays the same from step to step.
      programs: compiled for it.
      state: to start from.
      max_bits: bits per element of the compiled program, for the metrics.
      write: receives the metrics of every logged step.
      saver: saves the state at some steps, and the best one; None saves nothing.

    Raises:
      UsageError: when a loss or gradient is not finite.
    """
    log, config = _Log(run, max_bits, write), run.config
    first = config.steps + 1 if _out_of_patience(config, state) else steps_done(state) + 1
    for done in range(first, config.steps + 1):
        state, measured = programs.step(state, batches_of(run.job, config, done - 1))
        if programs.exchange is not None and (done % (config.local_steps or 1) == 0 or done == config.steps):
            state = programs.exchange(state)
        due = saver is not None and saver.is_due(done)
        state = log.enter(done, state, measured, check=due)
        evaluated = _is_evaluated(config, done)
        ended, best = evaluated and _out_of_patience(config, state), evaluated and not int(state.stale)
        if saver is not None:
            saver.after(done, state, save=due or ended, best=best)
        if ended:
            break
    return state


@dataclasses.dataclass
class _Saver:
    """Saves the state at some steps, and stops the run after a signal."""

    run: Run
    checkpoints: Checkpoints
    metrics: Metrics | NoMetrics
    signals: Signals

    def is_due(self, done: int) -> bool:
        """Whether to save step `done`; a signal that comes later counts for the next step."""
        config = self.run.config
        self.stop = self._stop(done)
        return self.stop is not None or done % (config.save_every or config.evaluate_every) == 0 or done == config.steps

    def _stop(self, done: int) -> signal.Signals | None:
        """A signal that any process received; several processes ask each other now and then only."""
        if count() > 1 and done % _ASKED_EVERY:
            return None
        return next((signal.Signals(number) for number in from_each(self.signals.received) if number), None)

    def after(self, done: int, state: TrainState, save: bool, best: bool) -> None:
        """Save, also the best so far; sign what has been written; and stop if told to."""
        if save or best:
            self.metrics.sync()
            self.checkpoints.save(done, state, self.run.seconds, best)
        self.checkpoints.sign()
        if self.stop is not None:
            self.checkpoints.wait()
            resume = how_to_resume(self.run.config, self.metrics.out)
            raise Stopped(
                f"stopped by {self.stop.name} after step {done}, which is saved; resume with: {resume}", self.stop
            )


@dataclasses.dataclass
class BestInMemory:
    """Keeps a copy of the best state, for a run with patience that writes nothing.

    Attributes:
      best: the state of the best evaluation; None before the first.
    """

    best: TrainState | None = None

    def is_due(self, done: int) -> bool:
        """No step is saved."""
        return False

    def after(self, done: int, state: TrainState, save: bool, best: bool) -> None:
        """Copy the state if it is the best."""
        if best:
            self.best = jax.tree.map(jnp.copy, state)


@dataclasses.dataclass(frozen=True)
class _Log:
    """Checks and logs steps.

    Reading a number of the state waits for it. So only steps that are logged or saved are read, and those between are
    dispatched one after the other.
    """

    run: Run
    max_bits: float
    write: Callable[[dict], None]
    unchecked: list[Measured] = dataclasses.field(default_factory=list)

    def enter(self, done: int, state: TrainState, measured: Measured, check: bool) -> TrainState:
        """Check and log step `done` if it is time to."""
        logged = done % self.run.config.log_every == 0 or _is_evaluated(self.run.config, done)
        self.unchecked.append(measured)
        if logged or check:
            self._check(done, state)
        return self._log(done, state, measured) if logged else state

    def _check(self, done: int, state: TrainState) -> None:
        if not on_host(state.finite).all():  # then `state.step` is still the one before the first step that failed
            failed = steps_done(state) - (done - len(self.unchecked))
            raise not_finite(self.run.job, self.run.config, state, self.unchecked[failed].on_host())
        self.unchecked.clear()

    def _log(self, done: int, state: TrainState, measured: Measured) -> TrainState:
        run, config, measured = self.run, self.run.config, measured.on_host()
        bits = {"bits_per_element": self.max_bits, "max_bits_per_element": self.max_bits}
        line = {
            "step": done,
            "loss_bits": float(measured.loss) / math.log(2),
            "seconds": run.seconds,
            "gradient_norm": float(measured.gradient_norm),
        } | bits | spike_statistics(measured.seen, run.job.shares)  # fmt: skip
        if _is_evaluated(config, done):
            line |= run.job.evaluate_some(averaged(state, config.ema))
            state = _scored(state, line["heldout_bits"])
        self.write(line)
        run.on_metrics(line)
        numbers = line["loss_bits"], line["bits_per_element"], line["seconds"], run.elements
        run.on_progress(Progress(done, config.steps, *numbers))
        return state


def _scored(state: TrainState, heldout_bits: float) -> TrainState:
    """The state after one more evaluation; a NaN is no improvement."""
    now, best = np.float32(heldout_bits), np.float32(state.best)
    after = (now, np.int32(0)) if now < best else (best, np.int32(state.stale + 1))
    best, stale = jax.device_put(after, (state.best.sharding, state.stale.sharding))
    return dataclasses.replace(state, best=best, stale=stale)


def _is_evaluated(config: Settings, step: int) -> bool:
    return step % config.evaluate_every == 0 or step == config.steps


def _out_of_patience(config: Settings, state: TrainState) -> bool:
    return config.patience is not None and int(state.stale) >= config.patience
