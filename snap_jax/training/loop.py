"""The loop: steps, and between them what is logged and saved.

Law: what is logged and saved at a step is a function of the state after it, so it is the same whether or not the run
was stopped before.
"""

import dataclasses
import math

import jax
import numpy as np

from snap_jax.training.checkpoints import Checkpoints
from snap_jax.training.config import Settings
from snap_jax.training.lifecycle import Progress, Run
from snap_jax.training.metrics import Metrics
from snap_jax.training.nonfinite import failure
from snap_jax.training.result_json import spike_statistics
from snap_jax.training.run_dir import how_to_resume
from snap_jax.training.signals import Signals, Stopped
from snap_jax.training.state import Measured, TrainState, averaged, batches_of

_LOGGED_EVERY = 10  # steps


def fit(run: Run, compiled: jax.stages.Compiled, state: TrainState, bits_per_element: float) -> TrainState:
    """Steps until the last, or until patience ends; the state it returns is saved.

    Raises:
      Stopped: after SIGTERM or SIGINT, when the step under way is done and saved.
      UsageError: when a loss or gradient is not finite.
    """
    with (
        Checkpoints(run.out / "checkpoints") as saved,
        Metrics(run.out, int(state.step), run.seconds) as metrics,
        Signals() as signals,
    ):
        book = _Book(run, metrics, saved, bits_per_element)
        first = int(state.step) + 1
        for done in () if _out_of_patience(run.config, state) else range(first, run.config.steps + 1):
            state, measured = compiled(state, batches_of(run.job, run.config, done - 1))
            stop = signals.received
            state = book.enter(done, state, measured, stop is not None)
            if stop is not None:
                saved.wait()
                go_on = how_to_resume(run.config, run.out)
                raise Stopped(f"stopped by {stop.name} after step {done}, which is saved; go on with: {go_on}", stop)
            if _is_evaluated(run.config, done) and _out_of_patience(run.config, state):
                break
        saved.wait()
    return state


@dataclasses.dataclass(frozen=True)
class _Book:
    """What is kept of a run as it goes.

    Reading a number of the state waits for it; so only steps that are logged or saved are looked at, and those between
    go out one behind the other.
    """

    run: Run
    metrics: Metrics
    saved: Checkpoints
    bits_per_element: float
    unchecked: list[Measured] = dataclasses.field(default_factory=list)

    def enter(self, done: int, state: TrainState, measured: Measured, stop: bool) -> TrainState:
        """Checks, logs and saves step `done` if it is time to, or if the run is to stop."""
        config = self.run.config
        logged = done % _LOGGED_EVERY == 0 or done == config.steps
        saved = stop or done % (config.save_every or config.evaluate_every) == 0 or done == config.steps
        self.unchecked.append(measured)
        if logged or saved:
            self._check(done, state)
        if logged:
            state = self._log(done, state, measured)
        if saved or (_is_evaluated(config, done) and _out_of_patience(config, state)):
            self.metrics.sync()
            self.saved.save(done, state, self.run.seconds)
        self.saved.sign()
        return state

    def _check(self, done: int, state: TrainState) -> None:
        if not bool(state.finite):  # and `state.step` is still the one before the first step that failed
            failed = int(state.step) - (done - len(self.unchecked))
            raise failure(self.run.job, self.run.config, state, self.unchecked[failed])
        self.unchecked.clear()

    def _log(self, done: int, state: TrainState, measured: Measured) -> TrainState:
        run, config = self.run, self.run.config
        line = {
            "step": done,
            "loss_bits": float(measured.loss) / math.log(2),
            "seconds": run.seconds,
            "gradient_norm": float(measured.gradient_norm),
        } | spike_statistics(measured.seen, run.job.shares)
        if _is_evaluated(config, done):
            line |= run.job.watch(averaged(state, config.ema))
            state = _scored(state, line["heldout_bits"])
        self.metrics.write(line | {"bits_per_element": self.bits_per_element})
        run.on_progress(Progress(done, config.steps, line["loss_bits"], self.bits_per_element, line["seconds"]))
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
    return bool(config.patience) and int(state.stale) >= config.patience
