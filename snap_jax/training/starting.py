"""Begin a run, or take up one that was stopped: its job, its record, and the state to train from."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

from snap_jax.errors import UsageError
from snap_jax.parallel.processes import on_first, require_same
from snap_jax.policy import choices_table
from snap_jax.training import checkpoints, language, more_steps, run_dir, vision
from snap_jax.training.config import LanguageConfig, Settings, VisionConfig
from snap_jax.training.link_setup import links_of
from snap_jax.training.metrics import lines
from snap_jax.training.optimizer import optimizer
from snap_jax.training.parallel_job import MakeLinks, ParallelJob
from snap_jax.training.run import Progress, Run
from snap_jax.training.run_dir import environment
from snap_jax.training.train_step import TrainState, start, steps_done


def prepare(config: Settings, make_links: MakeLinks = links_of) -> ParallelJob:
    """Load the data and divide the model; every mistake of the user is found here.

    Args:
      config: of the run.
      make_links: a config, and the bits per element of the tokens that its boundaries need -> what crosses there.

    Raises:
      UsageError: for data, links, devices or sizes that cannot work; the message names the fix.
    """
    if isinstance(config, VisionConfig):
        return vision.prepare(config, make_links)
    assert isinstance(config, LanguageConfig)
    return language.prepare(config, make_links)


def begin(
    config: Settings,
    out: Path,
    overwrite: bool,
    on_progress: Callable[[Progress], None],
    on_note: Callable[[str], None] = lambda _: None,
) -> tuple[Run, TrainState]:
    """Return a new run, and its state before the first step.

    Raises:
      UsageError: as `prepare` and `run_dir.claim`.
    """
    on_first(lambda: run_dir.check_free(out, overwrite))  # before data is read
    began, job = time.monotonic(), prepare(config)
    rule = job.optimizer(optimizer(config, job.decayed))
    require_same("data", data := job.fingerprint())
    for note in (notes := [*job.data_notes, *_chosen(job)]):
        on_note(note)
    record = known_record(lambda: run_dir.claim(out, config, data, overwrite, job.origin, notes))
    return Run(config, out, job, rule, record, began, on_progress), start(job, config, rule)


def take_up(
    config: Settings,
    out: Path,
    known: run_dir.Record,
    on_progress: Callable[[Progress], None],
    on_note: Callable[[str], None],
) -> tuple[Run, TrainState]:
    """Return the run that `known` describes, and the state of its last intact checkpoint, or its first state.

    Raises:
      UsageError: as `prepare`; if the data has changed; if there are checkpoints, and none is intact.
    """
    began = time.monotonic()
    good, notes = _last_good(out)
    # The checkpoint holds the weights. So if nothing else comes from the run it started from, that may be gone.
    moved = config.init_from != known.config.get("init_from")
    gone = good is not None and not config.needs_origin and not moved
    job = prepare(dataclasses.replace(config, init_from=None) if gone else config)
    require_same("data", data := job.fingerprint())
    run_dir.check_sources(out, known, config, data, job.origin)
    if not set(_chosen(job)) <= set(known.notes):
        raise UsageError(
            f"--resume: --link-speed {config.link_speed} has changed since the run in {out} began, and with it what is "
            "coded: restore it, or start another run with another --out"
        )
    rule = job.optimizer(optimizer(config, job.decayed))
    state = start(job, config, rule)
    if good is not None:
        state = checkpoints.restore(good, state)
        began -= on_first(lambda: checkpoints.facts(good).get("seconds", 0.0))
    notes += [*_differences(known.versions), *more_steps.changes(known.config, config, steps_done(state))]
    notes += [f"resumed at step {steps_done(state)} of {config.steps}{_again(out, steps_done(state))}"]
    on_first(lambda: checkpoints.drop_newer(out / "checkpoints", good))
    for note in notes:
        on_note(note)
    record = run_dir.continued(known, config, steps_done(state), notes)
    on_first(lambda: run_dir.reopen(out, record))
    return Run(config, out, job, rule, record, began, on_progress), state


def _again(out: Path, step: int) -> str:
    """What to say of steps that were logged, and whose checkpoint is not there."""
    logged = on_first(lambda: max((line["step"] for line in lines(out / "metrics.jsonl")), default=0))
    return f"; {logged - step} steps that were logged are done again" if logged > step else ""


def _chosen(job: ParallelJob) -> list[str]:
    """The lines of the table that says how each message is sent, the same on all processes."""
    lines = choices_table(job.choices).splitlines() if job.choices else []
    require_same("choice of links", "\n".join(lines))
    return lines


def known_record(read: Callable[[], run_dir.Record | None]) -> run_dir.Record | None:
    """What the first process reads, or writes, about the run."""

    def fields() -> dict | None:
        found = read()
        return None if found is None else dataclasses.asdict(found)

    known = on_first(fields)
    return None if known is None else run_dir.from_fields(known)


def _last_good(out: Path) -> tuple[Path | None, list[str]]:
    """The newest intact checkpoint as the first process finds it, and what is wrong with newer ones."""

    def names() -> tuple[str | None, list[str]]:
        good, notes = checkpoints.last_good(out / "checkpoints")
        return (None if good is None else good.name), notes

    good, notes = on_first(names)
    return (None if good is None else out / "checkpoints" / good), notes


def _differences(then: dict) -> list[str]:
    """A note if versions changed: other versions may round otherwise."""
    now = environment()
    changed = [f"{name} {then[name]} is now {now[name]}" for name in now if then.get(name, now[name]) != now[name]]
    return [f"numbers may differ from those of an unstopped run: {', '.join(changed)}"] if changed else []
