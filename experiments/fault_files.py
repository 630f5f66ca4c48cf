"""Faults of files and directories: damaged, missing, hostile, moved, or not ours."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from experiments.fault_runs import Case, Ended, Place, State, train

_NEVER = "nothing: no step was done"
_NOTHING = "nothing"
_TEN = "10 steps, to the checkpoint before"
_RESUMED = r"resumed at step (20|21)"


def _after(change: Callable[[Path], object], *more: str) -> Callable[[Place], Ended]:
    """Change something in the run directory, then train with these flags."""

    def act(place: Place) -> Ended:
        change(place.out)
        return train(place, *more)

    return act


def _newest(out: Path) -> Path:
    return max((p for p in (out / "checkpoints").iterdir() if p.name.isdecimal()), key=lambda p: int(p.name))


def _largest(folder: Path) -> Path:
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _all_damaged(out: Path) -> None:
    for path in (out / "checkpoints").iterdir():
        _flip(_largest(path))


def _strange(out: Path) -> None:
    (out / "checkpoints").mkdir(parents=True)
    (out / "checkpoints" / "epoch12.pt").write_text("mine")


def _other_files(out: Path) -> None:
    out.mkdir()
    (out / "thesis.tex").write_text("mine")


def _fields(change: Callable[[dict], None]) -> Callable[[Path], None]:
    def act(out: Path) -> None:
        fields = json.loads((out / "run.json").read_text())
        change(fields)
        (out / "run.json").write_text(json.dumps(fields))

    return act


def _fifo(name: str) -> Callable[[Path], None]:
    def act(out: Path) -> None:
        (out / name).unlink(missing_ok=True)
        os.mkfifo(out / name)

    return act


def _moved(place: Place) -> Ended:
    other = place.out.with_name("renamed")
    place.out.rename(other)
    return train(Place(other, place.shared), "--resume")


def _linked(place: Place) -> Ended:
    other = place.out.with_name("link")
    other.symlink_to(place.out)
    return train(Place(other, place.shared), "--resume")


def _non_utf8(place: Place) -> Ended:
    other = Path(os.fsdecode(os.fsencode(place.out.parent) + b"/\xff\xfe"))
    shutil.move(place.out, other)
    return train(Place(other, place.shared), "--resume")


def _old_times(out: Path) -> None:
    for path in [out, *out.rglob("*")]:
        os.utime(path, (4e9, 4e9))


def _resume(name: str, fault: str, change: Callable[[Path], object], says: str, lost: str, *codes: int) -> Case:
    return Case(name, fault, "--resume", says, lost, _after(change, "--resume"), codes=codes or (2,))


def _in_new(name: str, fault: str, change: Callable[[Path], object], says: str, *flags: str) -> Case:
    return Case(name, fault, " ".join(("--out DIR", *flags)), says, _NEVER, _after(change, *flags), State.NOTHING)


FILES = [
    _resume("truncated", "newest checkpoint cut short", lambda o: _halve(_largest(_newest(o))), "is not used", _TEN, 0),
    _resume("flipped", "a bit of it flipped", lambda o: _flip(_largest(_newest(o))), "other bytes than", _TEN, 0),
    _resume("missing", "a file of it deleted", lambda o: _largest(_newest(o)).unlink(), "is missing", _TEN, 0),
    _resume("manifest", "its manifest damaged", lambda o: _halve(_newest(o) / "manifest.json"), "is damaged", _TEN, 0),
    _resume(
        "unsigned", "its manifest deleted", lambda o: (_newest(o) / "manifest.json").unlink(), "no manifest", _TEN, 0
    ),
    _resume("all-damaged", "all checkpoints damaged", _all_damaged, "no checkpoint is intact", "all steps"),
    _resume("record-cut", "`run.json` cut short", lambda o: _halve(o / "run.json"), "cannot read", _NOTHING),
    _resume(
        "record-list", "`run.json` is a list", lambda o: (o / "run.json").write_text("[]"), "cannot read", _NOTHING
    ),
    _resume(
        "record-deep",
        "`run.json` is 100,000 brackets",
        lambda o: (o / "run.json").write_text("[" * 100_000),
        "cannot read",
        _NOTHING,
    ),
    _resume("record-fifo", "`run.json` is a FIFO", _fifo("run.json"), "cannot read", _NOTHING),
    _resume(
        "record-bytes",
        "`run.json` is not UTF-8",
        lambda o: (o / "run.json").write_bytes(b"\xff"),
        "cannot read",
        _NOTHING,
    ),
    _resume("old", "run of an older version", _fields(lambda f: f.pop("origin")), _RESUMED, _NOTHING, 0),
    _resume("new", "run of a newer version", _fields(lambda f: f.update(future=1)), "future", _NOTHING),
    _resume(
        "result-cut", "`result.json` cut short", lambda o: (o / "result.json").write_text("{"), "result.json", _NOTHING
    ),
    _resume(
        "metrics-tail",
        "last line of `metrics.jsonl` torn",
        lambda o: (o / "metrics.jsonl").open("a").write('{"step": 3'),
        _RESUMED,
        _NOTHING,
        0,
    ),
    _resume(
        "metrics-gone", "`metrics.jsonl` deleted", lambda o: (o / "metrics.jsonl").unlink(), _RESUMED, "its lines", 0
    ),
    _resume("future", "all files dated 2096, so the clock went back", _old_times, _RESUMED, _NOTHING, 0),
    Case("moved", "run directory renamed", "--out NEW --resume", _RESUMED, _NOTHING, _moved, codes=(0,)),
    Case("linked", "run directory behind a symlink", "--out LINK --resume", _RESUMED, _NOTHING, _linked, codes=(0,)),
    Case("bytes", "its name is not UTF-8", r"--out $'\xff\xfe' --resume", _RESUMED, _NOTHING, _non_utf8, codes=(0,)),
    _in_new("stranger", "directory has `checkpoints/` of another program", _strange, "no run.json"),
    _in_new("stranger-overwrite", "the same", _strange, "no run.json", "--overwrite"),
    _in_new("other-files", "directory holds other files", _other_files, "thesis.tex"),
    _in_new("file", "DIR is a file", lambda o: o.write_text(""), "cannot write"),
    _in_new("fifo", "DIR is a FIFO", os.mkfifo, "cannot write"),
    _in_new("loop", "DIR is a symlink to itself", lambda o: o.symlink_to(o), "cannot write"),
    _in_new("proc", "DIR cannot be written", lambda _: None, "cannot write", "--out", "/proc/run"),
    _in_new("data-gone", "no such text", lambda _: None, "neither a dataset", "--data", "/no/such/text"),
    _in_new("data-device", "text is a device", lambda _: None, "neither a regular", "--data", "/dev/null"),
    _in_new("data-binary", "text is binary", lambda _: None, "is binary", "--data", "/bin/true"),
]
