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
import os
import platform
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import jax

from snap_jax.errors import UsageError
from snap_jax.training import run_files
from snap_jax.training.atomic_io import read_json, to_json, write_atomically
from snap_jax.training.config import LanguageConfig, Settings, VisionConfig, command, written_settings
from snap_jax.training.config.settings import flag, typed

_FREE = {"save_every", "keep", "log_every", "patience", "steps"}  # may change on --resume: how long it is, what is kept


@dataclasses.dataclass(frozen=True)
class Record:
    """What `run.json` says.

    Attributes:
      config: the task, and the fields of its `Settings`.
      data: fingerprint of the data.
      versions: of Python, the machine and the libraries.
      resumed_at: the steps at which the run was resumed.
      notes: what happened to it.
      origin: fingerprint of the weights it started from, and of those of another teacher; "" without any.
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
        match found := read_json(path):
            case {"training": {"steps": int()}}:
                return found
        raise ValueError("it is no result of a run")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path} ({error}): delete it, and --resume writes it again") from error


def record(out: Path, fix: str = "choose another --out") -> Record | None:
    """Return what `run.json` says; None if there is none.

    Raises:
      UsageError: if it cannot be read, or another version wrote what this one does not know; it ends with `fix`.
    """
    path = out / "run.json"
    try:
        return _known(path, read_json(path), fix)
    except FileNotFoundError:
        return None
    except UsageError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"cannot read {path} ({error}): {fix}") from error


def _known(path: Path, fields: Any, fix: str) -> Record:
    """The record, if this version of snap-jax knows all that is in it."""
    match fields:
        case {"config": dict(config), "data": str(), "versions": {"snap-jax": str(version)}}:
            kind = VisionConfig if config.get("task") == VisionConfig.task else LanguageConfig
            ours = {field.name for field in dataclasses.fields(Record)}
            unknown = sorted(set(fields) - ours) + sorted(set(config) - set(written_settings(kind())))
            if not unknown:
                return from_fields(fields)
            raise UsageError(
                f"{path} was written by snap-jax {version}, and has {_some(unknown)}, which this version "
                f"({importlib.metadata.version('snap-jax')}) does not know: use the version that wrote it, or {fix}"
            )
    raise ValueError("it is no record of a run")


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
    lists = {name: tuple(fields.get(name, ())) for name in ("resumed_at", "notes")}
    if not all(isinstance(item, kind) for kind, name in ((int, "resumed_at"), (str, "notes")) for item in lists[name]):
        raise ValueError("resumed_at holds no steps, or notes no lines")
    return Record(**fields | lists)


def write_record(out: Path, what: Record) -> None:
    """Write `run.json`."""
    write_atomically(out / "run.json", to_json(dataclasses.asdict(what), indent=1))


def reopen(out: Path, what: Record) -> None:
    """Write `run.json` of a run that is resumed; a result of fewer steps stays as `result-step-STEPS.json`."""
    if done := finished(out):
        os.replace(out / "result.json", out / run_files.EARLIER.replace("*", str(int(done["training"]["steps"]))))
    write_record(out, what)


def continued(what: Record, config: Settings, step: int, notes: Sequence[str]) -> Record:
    """Return the record of a run that is resumed at `step`, with the paths and the length it has now."""
    resumed = (*what.resumed_at, step)
    return dataclasses.replace(what, config=written_settings(config), resumed_at=resumed, notes=(*what.notes, *notes))


def check_config(out: Path, what: Record, config: Settings) -> None:
    """Check that the run in `out` is the one that `config` asks for, but for its length and where its sources are.

    Raises:
      UsageError: names the field and both values.
    """
    if (task := what.config.get("task", LanguageConfig.task)) != config.task:
        raise UsageError(f"--resume: the run in {out} is `train {task}`, not {config.task}: give another --out")
    for field in dataclasses.fields(config):
        theirs, ours = what.config.get(field.name, field.default), getattr(config, field.name)
        by_content = None not in (theirs, ours) and _is_compared(field.name, what)
        if theirs != ours and field.name not in _FREE and not by_content:
            name, value = flag(field.name), shlex.quote(str(theirs))
            raise UsageError(
                f"--resume: the run in {out} has {name} {value}, the command line {name} {shlex.quote(str(ours))}: "
                f"give {name} {value}, or start another run with another --out"
            )


def _is_compared(name: str, what: Record) -> bool:
    """Whether what lies at that path is compared, so that it may have been moved."""
    compared = {"data": True, "init_from": bool(what.origin), "teacher": " " in what.origin}
    return compared.get(name, False)


def check_sources(out: Path, what: Record, config: Settings, data: str, origin: str) -> None:
    """Check that the data and the first weights are what the run in `out` began with.

    Raises:
      UsageError: if the fingerprint of one of them has changed.
    """
    now = origin if " " in what.origin else origin.partition(" ")[0]  # older versions wrote none of a teacher
    pairs = [("data", what.data, data)] + ([("init_from", what.origin, now)] if what.origin and now else [])
    for name, then, now in pairs:
        if then != now:
            was = what.config.get(name)
            same = was == getattr(config, name)
            differs = "has changed since" if same else f"does not hold what {flag(name)} {was} held when"
            fix = "restore it" if same else "give that"
            raise UsageError(
                f"--resume: {typed(config, [name])} {differs} the run in {out} began: {fix}, or start another run with "
                "another --out"
            )


def check_place(out: Path) -> None:
    """Check that `out` is a path, and the working directory is there.

    Raises:
      UsageError: if it is the address of an object store, which would become a folder of that name, or is not UTF-8;
        if the working directory was deleted.
    """
    scheme = out.parts[0] if out.parts else ""
    if scheme in ("gs:", "s3:", "hdfs:", "http:", "https:", "file:", "az:", "abfs:"):
        raise UsageError(f"--out {out}: a run is written to a mounted file system, not to {scheme}//: give a directory")
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise UsageError("train: the working directory was deleted: go to another one (cd), then try again") from error
    if any("\ud800" <= sign <= "\udfff" for sign in str(out.absolute())):  # how Python writes bytes that are no UTF-8
        raise UsageError(
            f"--out {str(out)!a}: the name is not UTF-8, and TensorStore writes no other: rename the directory, or "
            "choose another --out"
        )


def claim(
    out: Path, config: Settings, data: str, overwrite: bool, origin: str = "", notes: Sequence[str] = ()
) -> Record:
    """Prepare `out` for a new run: delete the files of the one before, and only those.

    Raises:
      UsageError: as `check_free`; if it cannot be written.
    """
    check_free(out, overwrite)
    new = Record(written_settings(config), data, environment(), notes=tuple(notes), origin=origin)
    try:
        out.mkdir(parents=True, exist_ok=True)
        run_files.delete(out, [path for path in run_files.of_run(out) if path.name != "run.json"])
        write_record(out, new)  # until now the old one says whose files these are, should we be killed
    except OSError as error:
        raise UsageError(f"cannot write to {out} ({error.strerror}): choose another --out") from error
    return new


def check_free(out: Path, overwrite: bool) -> None:
    """Check that a new run may be written to `out`.

    Raises:
      UsageError: if it holds anything but a run; with or without `overwrite`, if there is something between the files
        of a run that no run wrote; without it, if there is a run that was finished or stopped.
    """
    try:
        foreign, inside = run_files.others(out), run_files.in_checkpoints(out / "checkpoints")
    except OSError as error:
        raise UsageError(f"cannot read {error.filename} ({error.strerror}): choose another --out") from error
    if (out / "run.json").exists() or run_files.of_run(out) or foreign:
        _check_ours(out, foreign)
    if inside:
        raise UsageError(f"{out} holds {_some(inside)}, which no run wrote: move it away, or choose another --out")
    if not overwrite and (out / "result.json").exists():
        raise UsageError(f"{out} already holds a finished run: choose another --out, or pass --overwrite")
    if not overwrite and any(path.name.isdecimal() for path in (out / "checkpoints").glob("*")):
        raise UsageError(f"{out} holds a stopped run: continue it with --resume, or replace it with --overwrite")


def _check_ours(out: Path, foreign: list[str]) -> None:
    """Refuse a directory in which no run of ours was written, with or without `--overwrite`."""
    if record(out) is None:
        found = _some(foreign or [path.name for path in run_files.of_run(out)])
        raise UsageError(
            f"{out} holds {found}, but no run.json of a run that wrote them: choose another --out, or an empty "
            "directory"
        )


def _some(names: list[str]) -> str:
    """The first three names, in printable signs."""
    shown = ", ".join("".join(sign if sign.isprintable() else "?" for sign in name) for name in names[:3])
    return shown + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def environment() -> dict[str, str]:
    """Return the versions of the libraries and of Python, and a description of the machine."""
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {jax.default_backend()}"
    return versions() | {"machine": machine}


def versions() -> dict[str, str]:
    """Return the versions of the libraries and of Python; does not start the devices."""
    names = ("snap-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    return {name: importlib.metadata.version(name) for name in names} | {"python": platform.python_version()}
