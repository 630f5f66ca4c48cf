"""Which files of a run directory a run wrote, and which are not its own: only the first are ever deleted.

Files of a run have fixed names. Those of a checkpoint are in its manifest; of one that was cut short, the names that
Orbax gives are its own.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from snap_jax.training import checkpoint_files, metrics
from snap_jax.training.run_lock import NAME as LOCK

NAMES = ("run.json", "result.json", metrics.NAME, "traffic.json", "exchange.json", "spikes.npz", "report.html")
EARLIER = "result-step-*.json"  # results of a run that was trained on with more --steps
_PARTIAL = ".partial"
_OF_ORBAX = {"_CHECKPOINT_METADATA", "default"}  # at the top of a state that was cut short
_UNDER_WAY = ".orbax-checkpoint-tmp"


def of_run(out: Path) -> list[Path]:
    """Return the files beside the checkpoints that have the names of a run's, `run.json` last."""
    found = [out / name for name in NAMES if os.path.lexists(out / name)]
    partial = [out / f"{name}{_PARTIAL}" for name in NAMES if os.path.lexists(out / f"{name}{_PARTIAL}")]
    return [*partial, *out.glob(EARLIER), *out.glob(metrics.EVENTS), *reversed(found)]


def others(out: Path) -> list[str]:
    """Return the names of what is in a directory and no run wrote; empty if there is no directory."""
    if not out.is_dir():
        return []
    ours = {path.name for path in of_run(out)} | {LOCK, "checkpoints"}
    return sorted(name for name in os.listdir(out) if name not in ours) + in_checkpoints(out / "checkpoints")


def in_checkpoints(folder: Path) -> list[str]:
    """Return the paths, as `checkpoints/...`, of what is there and no run wrote."""
    if not os.path.lexists(folder):
        return []
    if not folder.is_dir():
        return [folder.name]
    return [f"{folder.name}/{name}" for path in sorted(folder.iterdir()) for name in _foreign(path)]


def _foreign(path: Path) -> list[str]:
    """What a checkpoint did not save there, or the whole if it is none."""
    is_checkpoint = path.is_dir() and not path.is_symlink()
    if is_checkpoint and _UNDER_WAY in path.name:
        return []
    if not is_checkpoint or not (path.name.isdecimal() or path.name == "final"):
        return [path.name]
    known = checkpoint_files.named(path)
    if known is None:
        return [f"{path.name}/{name}" for name in sorted(os.listdir(path)) if not _of_orbax(name)]
    return [f"{path.name}/{name}" for name in checkpoint_files.files_of(path) if name not in known]


def _of_orbax(name: str) -> bool:
    return name in _OF_ORBAX or name.startswith((checkpoint_files.MANIFEST, "_", "manifest.ocdbt", "ocdbt", "array_"))


def delete(out: Path, names: Sequence[Path]) -> None:
    """Delete the checkpoints and then these files; call it where `in_checkpoints` finds nothing."""
    folder = out / "checkpoints"
    for path in folder.iterdir() if folder.is_dir() else ():
        (path / checkpoint_files.MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(path)
    for path in names:
        path.unlink()
