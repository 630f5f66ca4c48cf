"""The run directory: claimed for a new run, or read by a run that is resumed.

All of it was made by the run that `run.json` describes: two runs never share a directory, and a run is only resumed
with the settings and data it began with.

It holds `run.json` (what the run is, written first), `metrics.jsonl` and TensorBoard's `events...` (written as it
goes), `checkpoints/STEP`, `checkpoints/final`, `traffic.json`, with local steps `exchange.json`, `spikes.npz` and,
written last, `result.json`: if that exists, the run is complete.
"""

import dataclasses
import difflib
import importlib.metadata
import json
import os
import platform
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import jax

from snap_jax.errors import UsageError
from snap_jax.training import metrics
from snap_jax.training.atomic_io import read_json, write_atomically
from snap_jax.training.config import LanguageConfig, Settings, command, written_settings
from snap_jax.training.config.settings import flag, typed

_FREE = {"save_every", "keep"}  # may change in a resumed run: no result depends on it
_FILES = ("result.json", metrics.NAME, "traffic.json", "exchange.json", "spikes.npz", "report.html")


@dataclasses.dataclass(frozen=True)
class Record:
    """What `run.json` says.

    Attributes:
      config: the task, and the fields of its `Settings`.
      data: fingerprint of the data.
      versions: of Python, the machine and the libraries.
      resumed_at: the steps at which the run was resumed.
      notes: what happened to it.
      origin: fingerprint of the weights it started from, where it needs them to resume; else "".
    """

    config: dict
    data: str
    versions: dict
    resumed_at: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    origin: str = ""


def how_to_resume(config: Settings, out: Path) -> str:
    """Return the command line that resumes the run.

    >>> from snap_jax.training.config import LanguageConfig
    >>> how_to_resume(LanguageConfig(steps=10), Path("runs/a"))
    'snap-jax train language --steps 10 --out runs/a --resume'
    """
    return f"{command(config)} --out {shlex.quote(str(out))} --resume"


def finished(out: Path) -> dict | None:
    """Return what `result.json` holds; None if the run is not complete.

    Raises:
      UsageError: if it cannot be read.
    """
    path = out / "result.json"
    try:
        return read_json(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path} ({error}): delete it, and --resume writes it again") from error


def record(out: Path) -> Record | None:
    """Return what `run.json` says; None if there is none.

    Raises:
      UsageError: if it cannot be read.
    """
    path = out / "run.json"
    try:
        return from_fields(read_json(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"cannot read {path} ({error}): choose another --out") from error


def refuse_to_resume(out: Path) -> NoReturn:
    """Say that there is no run in `out`, and which directory beside it has one.

    Raises:
      UsageError: always.
    """
    beside = [path.parent.name for path in out.parent.glob("*/run.json")]
    close = difflib.get_close_matches(out.name, beside, 1)
    hint = f" (did you mean {out.parent / close[0]}?)" if close else ""
    raise UsageError(f"--resume: there is no run in {out}{hint}: check --out, or start one there with --requeue")


def from_fields(fields: Any) -> Record:
    """Return the record whose `dataclasses.asdict` that is; lists stand for tuples."""
    return Record(**fields | {name: tuple(fields[name]) for name in ("resumed_at", "notes")})


def write_record(out: Path, what: Record) -> None:
    """Write `run.json`."""
    write_atomically(out / "run.json", json.dumps(dataclasses.asdict(what), indent=1))


def continued(what: Record, step: int, notes: Sequence[str]) -> Record:
    """Return the record of a run that is resumed at `step`."""
    return dataclasses.replace(what, resumed_at=(*what.resumed_at, step), notes=(*what.notes, *notes))


def check_config(out: Path, what: Record, config: Settings) -> None:
    """Check that the run in `out` is the one that `config` asks for.

    Raises:
      UsageError: names the field and both values.
    """
    if (task := what.config.get("task", LanguageConfig.task)) != config.task:
        raise UsageError(f"--resume: the run in {out} is `train {task}`, not {config.task}: give another --out")
    for field in dataclasses.fields(config):
        theirs, ours = what.config.get(field.name, field.default), getattr(config, field.name)
        if theirs != ours and field.name not in _FREE:
            name, value = flag(field.name), shlex.quote(str(theirs))
            raise UsageError(
                f"--resume: the run in {out} has {name} {value}, the command line {name} {shlex.quote(str(ours))}: "
                f"give {name} {value}, or start another run with another --out"
            )


def check_sources(out: Path, what: Record, config: Settings, data: str, origin: str) -> None:
    """Check that the data and the first weights are what the run in `out` began with.

    Raises:
      UsageError: if the fingerprint of one of them has changed.
    """
    for name, then, now in (("data", what.data, data), ("init_from", what.origin, origin)):
        if then != now:
            raise UsageError(
                f"--resume: {typed(config, [name])} has changed since the run in {out} began: "
                "restore it, or start another run with another --out"
            )


def claim(
    out: Path, config: Settings, data: str, overwrite: bool, origin: str = "", notes: Sequence[str] = ()
) -> Record:
    """Prepare `out` for a new run.

    Raises:
      UsageError: if it cannot be written, holds a run and `overwrite` is False, or holds files of these names that no
        run wrote.
    """
    _check_ours(out)
    if not overwrite:
        _check_free(out)
    new = Record(written_settings(config), data, environment(), notes=tuple(notes), origin=origin)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in _FILES:
            (out / name).unlink(missing_ok=True)
        if (out / "checkpoints").exists():
            shutil.rmtree(out / "checkpoints")
        write_record(out, new)  # until now the old one says whose files these are, should we be killed
    except OSError as error:
        raise UsageError(f"cannot write to {out} ({error.strerror}): choose another --out") from error
    return new


def _check_ours(out: Path) -> None:
    """Refuse a directory in which we would replace what no run of ours wrote, with or without `--overwrite`."""
    names = ("run.json", "checkpoints", *_FILES)
    found = [name for name in names if os.path.lexists(out / name)] + sorted(p.name for p in out.glob(metrics.EVENTS))
    if not found:
        return
    try:
        ours = record(out) is not None
    except UsageError:
        ours = False
    if not ours:
        raise UsageError(
            f"{out} holds {', '.join(found)}, but no run.json of a run that wrote them: choose another --out"
        )


def _check_free(out: Path) -> None:
    if (out / "result.json").exists():
        raise UsageError(f"{out} already holds a finished run: choose another --out, or pass --overwrite")
    if any(path.name.isdecimal() for path in (out / "checkpoints").glob("*")):
        raise UsageError(f"{out} holds a stopped run: continue it with --resume, or replace it with --overwrite")


def environment() -> dict[str, str]:
    """Return the versions of the libraries and of Python, and a description of the machine."""
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {jax.default_backend()}"
    return versions() | {"machine": machine}


def versions() -> dict[str, str]:
    """Return the versions of the libraries and of Python; does not start the devices."""
    names = ("snap-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    return {name: importlib.metadata.version(name) for name in names} | {"python": platform.python_version()}
