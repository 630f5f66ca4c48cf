"""The run directory: claimed for a new run, or taken up again where it was left.

Law: what is there was made by the run that `run.json` describes, and by no other: a directory is never shared, and a
run is only ever resumed as what it was.

It holds `run.json` (what the run is, written first), `metrics.jsonl` and TensorBoard's `events...` (as it goes),
`checkpoints/STEP`, `checkpoints/final`, `traffic.json`, `spikes.npz` and, last of all, `result.json`: if that is there,
the run is complete.
"""

import dataclasses
import json
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from snap_jax.errors import UsageError
from snap_jax.training import metrics
from snap_jax.training.atomic_io import write_atomically
from snap_jax.training.config import LanguageConfig, Settings, command, written_settings
from snap_jax.training.result_json import environment

_FREE = {"save_every"}  # may differ in a resumed run: no number depends on it


@dataclasses.dataclass(frozen=True)
class Record:
    """What `run.json` says.

    Attributes:
      config: the task, and the fields of its `Settings`.
      data: fingerprint of the data.
      origin: that of the weights it started from, where it needs them to go on; else "".
      versions: of what computes.
      resumed_at: the steps at which the run was taken up again.
      notes: what happened to it on the way.
    """

    config: dict
    data: str
    versions: dict
    resumed_at: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    origin: str = ""


def how_to_resume(config: Settings, out: Path) -> str:
    """The command line that goes on.

    >>> from snap_jax.training.config import LanguageConfig
    >>> how_to_resume(LanguageConfig(steps=10), Path("runs/a"))
    'snap-jax train language --steps 10 --out runs/a --resume'
    """
    return f"{command(config)} --out {shlex.quote(str(out))} --resume"


def finished(out: Path) -> dict | None:
    """What `result.json` holds; `None` if the run is not complete."""
    path = out / "result.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def record(out: Path) -> Record | None:
    """What `run.json` says; `None` if there is none.

    Raises:
      UsageError: if it cannot be read.
    """
    path = out / "run.json"
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        return Record(**fields | {name: tuple(fields[name]) for name in ("resumed_at", "notes")})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"cannot read {path} ({error}): start again with --overwrite") from error


def write_record(out: Path, what: Record) -> None:
    """Writes `run.json`."""
    write_atomically(out / "run.json", json.dumps(dataclasses.asdict(what), indent=1))


def continued(what: Record, step: int, notes: Sequence[str]) -> Record:
    """The record of a run that is taken up at `step`."""
    return dataclasses.replace(what, resumed_at=(*what.resumed_at, step), notes=(*what.notes, *notes))


def check_config(out: Path, what: Record, config: Settings) -> None:
    """Raises unless the run in `out` is the one that `config` asks for.

    Raises:
      UsageError: names the field and both values.
    """
    if (task := what.config.get("task", LanguageConfig.task)) != config.task:
        raise UsageError(f"--resume: the run in {out} is `train {task}`, not {config.task}: give another --out")
    for field in dataclasses.fields(config):
        theirs, ours = what.config.get(field.name, field.default), getattr(config, field.name)
        if theirs != ours and field.name not in _FREE:
            flag = f"--{field.name.replace('_', '-')} {shlex.quote(str(theirs))}"
            raise UsageError(
                f"--resume: the run in {out} has {field.name}={theirs!r}, the command line {field.name}={ours!r}: "
                f"give {flag}, or begin another run with another --out"
            )


def check_sources(out: Path, what: Record, config: Settings, data: str, origin: str) -> None:
    """Raises unless data and first weights are what the run in `out` began with.

    Raises:
      UsageError: if the fingerprint of one of them is another.
    """
    for name, then, now in (("data", what.data, data), ("init_from", what.origin, origin)):
        if then != now:
            raise UsageError(
                f"--resume: {name}={getattr(config, name)!r} has changed since the run in {out} began: "
                "put back what it was, or begin another run with another --out"
            )


def claim(out: Path, config: Settings, data: str, overwrite: bool, origin: str = "") -> Record:
    """Makes `out` ready for a new run.

    Raises:
      UsageError: if it cannot be written, or holds a run and `overwrite` is off.
    """
    if not overwrite:
        _check_free(out)
    new = Record(written_settings(config), data, environment(), origin=origin)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in ("result.json", "run.json", metrics.NAME, "traffic.json", "spikes.npz", "report.html"):
            (out / name).unlink(missing_ok=True)
        if (out / "checkpoints").exists():
            shutil.rmtree(out / "checkpoints")
        write_record(out, new)
    except OSError as error:
        raise UsageError(f"cannot write to {out} ({error.strerror}): choose another --out") from error
    return new


def _check_free(out: Path) -> None:
    if (out / "result.json").exists():
        raise UsageError(f"{out} already holds a finished run: choose another --out, or pass --overwrite")
    if any(path.name.isdecimal() for path in (out / "checkpoints").glob("*")):
        raise UsageError(f"{out} holds a run that was stopped: go on with --resume, or start again with --overwrite")
