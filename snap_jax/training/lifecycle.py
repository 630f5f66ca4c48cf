"""The life of a run: prepared, started or resumed, trained, evaluated, and written to its directory.

The bytes in the result are those of the compiled program of the step that ran. A run that was stopped and resumed ends
with the same bits as one that was not.
"""

import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path

from jaxtyping import PyTree

from snap_jax.errors import UsageError
from snap_jax.parallel.processes import is_first, on_first, require_same
from snap_jax.policy import choices_section
from snap_jax.traffic import Traffic
from snap_jax.traffic.hlo import compiled_traffic
from snap_jax.traffic.program_text import names_in_cache_key
from snap_jax.training import checkpoints, more_steps, run_dir
from snap_jax.training.atomic_io import to_json, write_atomically
from snap_jax.training.config import Settings, command
from snap_jax.training.config.settings import from_scratch
from snap_jax.training.exchange_sections import sections_with_exchange
from snap_jax.training.failures import lost_process_explained, missing_backend_explained, write_errors_explained
from snap_jax.training.link_setup import links_of
from snap_jax.training.loop import BestInMemory, Programs, fit, fit_saved
from snap_jax.training.optimizer import optimizer
from snap_jax.training.parallel_job import MakeLinks, ParallelJob
from snap_jax.training.result_extras import made_section, timeline_section
from snap_jax.training.result_json import run_sections, wire_section
from snap_jax.training.run import Progress, Run
from snap_jax.training.run_lock import locked
from snap_jax.training.starting import begin, known_record, prepare, take_up
from snap_jax.training.train_step import (
    TrainState,
    averaged,
    compile_exchange,
    compile_traced,
    start,
    steps_done,
    trace_step,
)


@dataclasses.dataclass(frozen=True)
class Trained:
    """A finished run.

    Attributes:
      job: the task, its data and its divided model.
      params: the trained parameters, of which the result tells.
      result: what `result.json` holds.
      traffic: of one step of the compiled program.
      log: what `metrics.jsonl` holds; empty for a run with a directory.
    """

    job: ParallelJob
    params: PyTree
    result: dict
    traffic: Traffic
    log: tuple[dict, ...] = ()


def measure(
    config: Settings,
    make_links: MakeLinks = links_of,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    on_metrics: Callable[[dict], None] | None = None,
) -> Trained:
    """Train and evaluate without a run directory: for experiments, whose links may be any codecs and transforms.

    Args:
      config: of the run.
      make_links: as for `prepare`; most change some fields of `links_of(config, context_bits)`.
      on_progress: receives where the run stands, every few steps.
      on_metrics: receives the metrics of every logged step.

    Raises:
      UsageError: as `prepare`; if the loss or its gradient is not finite.
    """
    _refuse_from_scratch(config, "measure")
    began, job = time.monotonic(), prepare(config, make_links)
    run = Run(
        config, None, job, job.optimizer(optimizer(config, job.decayed)), None, began, on_progress or (lambda _: None)
    )
    run, lines = _observed(run, on_metrics), []
    params, traffic, result = _trained(run, start(job, config, run.optimizer), lines)
    return Trained(job, params, result, traffic, tuple(lines))


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
    """Train one phase; arguments, result and errors are those of `phases.train`, which adds the dense phase."""
    _refuse_from_scratch(config, "train")
    on_progress = on_progress if on_progress and is_first() else lambda _: None
    on_note = on_note if on_note and is_first() else lambda _: None
    if resume + requeue + overwrite > 1:
        raise UsageError(
            "train: --resume continues a run, --requeue continues or starts one, --overwrite replaces it: "
            "give one of them"
        )
    run_dir.check_place(out)
    how_to_resume = run_dir.how_to_resume(config, out)
    with (
        missing_backend_explained(),
        lost_process_explained(how_to_resume),
        write_errors_explained(out, how_to_resume),
        locked(out),
    ):
        require_same("command", how_to_resume)
        _require_same_versions()
        known = known_record(lambda: run_dir.record(out)) if resume or requeue else None
        if known is None:
            if resume:
                run_dir.refuse_to_resume(out)
            run, state = begin(config, out, overwrite, on_progress, on_note)
            return _complete(_observed(run, on_metrics), state)
        run_dir.check_config(out, known, config)
        done = on_first(lambda: run_dir.finished(out))
        if done and not more_steps.goes_on(out, done["training"], known.config, config):
            on_note(f"the run in {out} is finished: nothing to resume; give more --steps to train it on")
            return done
        run, state = take_up(config, out, known, on_progress, on_note)
        return _complete(_observed(run, on_metrics), state)


def _refuse_from_scratch(config: Settings, user: str) -> None:
    """Only `snap_jax.training.train` has a dense phase."""
    if from_scratch(config):
        raise UsageError(
            f"{user}: --budget {config.budget:g} starts from a dense run: give init_from, or use training.train"
        )


def _observed(run: Run, on_metrics: Callable[[dict], None] | None) -> Run:
    return dataclasses.replace(run, on_metrics=on_metrics) if on_metrics and is_first() else run


def _require_same_versions() -> None:
    """Machines may differ, what computes may not."""
    for name, value in (run_dir.versions() | {"XLA_FLAGS": os.environ.get("XLA_FLAGS", "")}).items():
        require_same(name, value, f"make {name} the same on all hosts")


def _complete(run: Run, state: TrainState) -> dict:
    assert run.out is not None
    path = run.out / "result.json"
    params, _, result = _trained(run, state, [])
    checkpoints.save_weights(run.out / "checkpoints" / "final", params)
    result |= {"command": f"{command(run.config)} --out {run.out}", "seconds": run.seconds}
    on_first(lambda: write_atomically(path, to_json(result, indent=1)))
    return result


@names_in_cache_key()
def _trained(run: Run, state: TrainState, lines: list[dict]) -> tuple[PyTree, Traffic, dict]:
    """The trained parameters, the traffic of a step, and what `result.json` holds."""
    run.on_progress(Progress(steps_done(state), run.config.steps))
    traced = trace_step(run.job, run.config, run.optimizer, state)
    step = compile_traced(traced)
    programs = Programs(step, compile_exchange(run.job, state))
    traffic = compiled_traffic(step, run.job.mesh, schedule=run.job.schedule)
    exchange = programs.exchange and compiled_traffic(programs.exchange, run.job.mesh)
    run.on_progress(Progress(steps_done(state), run.config.steps, seconds=run.seconds))  # compiled
    max_bits = wire_section(traffic, run.job.mesh.shape, run.elements)["max_bits_per_element"]
    if run.out is None:
        kept = BestInMemory() if run.config.patience is not None else None
        last = fit(run, programs, state, max_bits, lines.append, kept)
        state, notes = (kept and kept.best) or last, []
    else:
        last = fit_saved(run, programs, state, max_bits)
        state, notes = (last, []) if run.config.patience is None else _best(run.out, last)
        for name, moved in (("traffic.json", traffic), ("exchange.json", exchange)):
            if moved is not None:
                on_first(lambda path=run.out / name, moved=moved: write_atomically(path, moved.to_json()))
    params, pruned = averaged(state, run.config.ema), {}
    if run.config.prune_below is not None:
        params, pruned = run.job.prune(params, run.config.prune_below)
    sections = run_sections(run, params, traffic) | made_section()
    sections |= timeline_section(traced, run.job.schedule, run.job.mesh, run.config)
    if run.job.choices:
        sections["messages"] = choices_section(run.job.choices)
    if exchange is not None:
        sections |= sections_with_exchange(sections, exchange, run.job.mesh.shape, run.config)
    return params, traffic, sections | pruned | _history(run, steps_done(last), steps_done(state), notes)


def _best(out: Path, last: TrainState) -> tuple[TrainState, list[str]]:
    """The state of the best evaluation, else the last one and a note that says why."""

    def name() -> tuple[str | None, list[str]]:
        found, notes = checkpoints.best(out / "checkpoints")
        return (None if found is None else found.name), notes

    found, notes = on_first(name)
    if found is None:
        return last, [*notes, "the result is that of the last step"]
    return checkpoints.restore(out / "checkpoints" / found, last), []


def _history(run: Run, steps: int, weights_of_step: int, notes: list[str]) -> dict:
    training = {"steps": steps, "stopped_early": steps < run.config.steps, "resumed_at": [], "notes": notes}
    if run.config.patience is not None:
        training["weights_of_step"] = weights_of_step
    if run.record is not None:
        training |= {"resumed_at": list(run.record.resumed_at), "notes": [*run.record.notes, *notes]}
    return {"training": training, "seconds": run.seconds}
