"""Faults of places: disks that are full, directories that cannot be written, that are gone, or that others use."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from experiments.fault_runs import (
    GOES_ON,
    Case,
    Ended,
    Place,
    State,
    command,
    environment,
    finish,
    start,
    train,
    wait_for_step,
)

_READ_ONLY = (  # in a mount namespace of its own
    'exec unshare -m bash -c \'mount --bind {at} {at} && mount -o remount,ro,bind {at} && exec "$@"\' - "$@"'
)


def _tmpfs(size: str) -> Callable[[Place], Ended]:
    """Train on a file system of that size."""

    def act(place: Place) -> Ended:
        place.out.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", place.out], check=True)
        try:
            ended = train(place)
            shutil.copytree(place.out, there := place.out.with_name("saved"))
        finally:
            subprocess.run(["umount", place.out], check=True)
        return Ended(ended.code, ended.text, out=there)

    return act


def _read_only(name: str, *more: str) -> Callable[[Place], Ended]:
    def act(place: Place) -> Ended:
        place.out.mkdir(exist_ok=True)
        return train(place, *more, shell=_READ_ONLY.format(at=place.out / name))

    return act


def _limited(limit: str) -> Callable[[Place], Ended]:
    return lambda place: train(place, shell=f"ulimit {limit}")


def _removed(name: str) -> Callable[[Place], Ended]:
    """Delete it while the run trains."""

    def act(place: Place) -> Ended:
        process = start(command(place, "--steps", "100000"), environment(place))
        wait_for_step(place, 30)
        shutil.rmtree(place.out / name, ignore_errors=True)
        return finish(process)

    return act


def _in(change: Callable[[Path], object], *more: str) -> Callable[[Place], Ended]:
    """Make something in the place of a new run, and see that it is still there afterwards."""

    def act(place: Place) -> Ended:
        change(place.out)
        before = _contents(place.out.parent)
        ended = train(place, *more)
        harmed = [name for name, data in before.items() if _contents(place.out.parent).get(name) != data]
        return Ended(ended.code, ended.text, harmed=tuple(harmed))

    return act


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _file(name: str) -> Callable[[Path], None]:
    def act(out: Path) -> None:
        (out / name).parent.mkdir(parents=True)
        (out / name).write_text("mine")

    return act


def _named(name: str) -> Callable[[Place], Ended]:
    def act(place: Place) -> Ended:
        out = place.out.parent / name
        ended = train(Place(out, place.shared), stop_after="step 10 of")
        return Ended(ended.code, ended.text, out=out)

    return act


def _foreign_checkpoint(place: Place) -> Ended:
    (mine := place.out / "checkpoints" / "model.pt").write_text("mine")
    ended = train(place, "--overwrite")
    return Ended(ended.code, ended.text, harmed=() if mine.exists() else ("checkpoints/model.pt",))


NEW = State.NOTHING
_STOPPED = "stopped by SIGTERM"


def _new(name: str, fault: str, change: Callable[[Path], object], says: str, *flags: str) -> Case:
    return Case(name, fault, " ".join(flags), says, _in(change, *flags), NEW)


def _disk(size: str, where: str) -> Case:
    return Case(f"disk-{size}", f"disk full ({size}): {where}", "", "cannot write", _tmpfs(size), NEW, root=True)


PLACES = [
    _disk("4k", "at `run.json`"),
    _disk("8k", "at the metrics"),
    _disk("300k", "at the first checkpoint"),
    _disk("2m", "at a later checkpoint"),
    Case("ulimit-f", "files may have 4 KiB", "", "ulimit -f", _limited("-f 4"), NEW),
    Case("ulimit-n", "40 open files", "", "ulimit -n|.", _limited("-n 40"), NEW, (0, 2)),
    Case("read-only", "DIR is read-only", "", "read-only|Read-only", _read_only(""), NEW, root=True),
    Case("read-only-resume", "the same", "--resume", "read-only|Read-only", _read_only("", "--resume"), root=True),
    Case("read-only-saved", "`DIR/checkpoints` is read-only", "--resume", "read-only",
         _read_only("checkpoints", "--resume"), root=True),
    Case("removed", "DIR deleted while the run writes", "", "deleted or moved", _removed("."), NEW, lost="all steps"),
    Case("removed-saved", "`DIR/checkpoints` deleted while the run writes", "", "deleted or moved",
         _removed("checkpoints"), NEW, lost="all steps"),
    _new("proc", "DIR cannot be made", lambda _: None, "cannot write", "--out", "/proc/run"),
    _new("file", "DIR is a file", lambda o: o.write_text("mine"), "no directory"),
    _new("fifo", "DIR is a FIFO", os.mkfifo, "no directory"),
    _new("loop", "DIR is a symlink to itself", lambda o: o.symlink_to(o), "no directory"),
    Case("long", "the name of DIR has 300 letters", "", "too long", _named(300 * "a"), NEW, lost="nothing"),
    _new("bucket", "DIR is an object store", lambda _: None, "mounted file system", "--out", "gs://bucket/run"),
    _new("other-files", "DIR has files of another program", _file("thesis.tex"), "thesis.tex"),
    _new("stranger", "DIR has checkpoints of another program", _file("checkpoints/epoch12.pt"), "epoch12.pt"),
    _new("stranger-overwrite", "the same", _file("checkpoints/epoch12.pt"), "epoch12.pt", "--overwrite"),
    Case("stranger-inside", "file of another program between checkpoints of a run", "--overwrite", "model.pt",
         _foreign_checkpoint),
    Case("brackets", "name with markup", "--out '[/x]'", _STOPPED, _named("[/x]"), NEW, GOES_ON),
    Case("escapes", "name with terminal escapes", r"--out $'a\e[2J\n'", _STOPPED, _named("a\x1b[2J\n"), NEW, GOES_ON),
]  # fmt: skip
