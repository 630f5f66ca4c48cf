"""Faults of files: damaged, missing, hostile or moved, of a run and of its data."""

import gzip
import json
import os
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path

from experiments.fault_runs import (
    GOES_ON,
    RESUMED,
    Case,
    Ended,
    Place,
    State,
    environment,
    finish,
    resume,
    start,
    train,
)

_TWENTY = r"resumed at step 20"


def _after(change: Callable[[Path], object], *more: str) -> Callable[[Place], Ended]:
    """Change something in the run directory, then resume, up to its first step."""

    def act(place: Place) -> Ended:
        change(place.out)
        return resume(place, *more)

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


def _fields(change: Callable[[dict], None]) -> Callable[[Path], None]:
    def act(out: Path) -> None:
        fields = json.loads((out / "run.json").read_text())
        change(fields)
        (out / "run.json").write_text(json.dumps(fields))

    return act


def _becomes(name: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Replace a file or directory of the run."""

    def act(out: Path) -> None:
        if (out / name).is_dir():
            shutil.rmtree(out / name)
        (out / name).unlink(missing_ok=True)
        make(out / name)

    return act


def _at(name: str, move: Callable[[Path, Path], object]) -> Callable[[Place], Ended]:
    def act(place: Place) -> Ended:
        other = Path(os.fsdecode(os.fsencode(place.out.parent) + os.fsencode(f"/{name}")))
        move(place.out, other)
        ended = resume(Place(other, place.shared))
        return Ended(ended.code, ended.text, out=other)

    return act


def _huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 2**40)


def _old_times(out: Path) -> None:
    for path in [out, *out.rglob("*")]:
        os.utime(path, (4e9, 4e9))


def _data(make: Callable[[Path], object], *more: str) -> Callable[[Place], Ended]:
    """Train on what is made beside the run."""

    def act(place: Place) -> Ended:
        make(text := place.out.with_name("data"))
        return train(place, "--data", str(text), *more, stop_after="step 10 of")

    return act


def _moved_data(place: Place) -> Ended:
    shutil.copy(place.text, moved := place.out.with_name("moved.txt"))
    return resume(place, "--data", str(moved))


def _mixed(folder: Path) -> None:
    folder.mkdir()
    (folder / "a.txt").write_text("a line of text\n" * 999)
    (folder / "b.bin").write_bytes(b"\0" * 99)


def _bomb(place: Place) -> Ended:
    """Images whose compressed file holds 256 MiB more than its header says."""
    folder = place.out.with_name("images")
    folder.mkdir()
    for part in ("train", "t10k"):
        with gzip.open(folder / f"{part}-images-idx3-ubyte.gz", "wb", compresslevel=1) as file:
            file.write(struct.pack(">4I", 0x803, 9, 8, 8))
            for _ in range(256):
                file.write(bytes(2**20))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, 9) + bytes(9))
    words = [sys.executable, "-m", "snap_jax", "train", "vision", "--data", str(folder), "--out", str(place.out)]
    return finish(start(words, environment(place)))


def _resume(name: str, fault: str, change: Callable[[Path], object], says: str, *codes: int) -> Case:
    return Case(name, fault, "--resume", says, _after(change), codes=codes or (2,))


def _saved(name: str, fault: str, change: Callable[[Path], object], says: str) -> Case:
    return Case(name, fault, "--resume", says, _after(lambda out: change(_newest(out))), codes=GOES_ON)


def _record(name: str, fault: str, make: Callable[[Path], object]) -> Case:
    return _resume(name, f"`run.json` {fault}", _becomes("run.json", make), "cannot read")


def _moved(name: str, fault: str, called: str, to: str, move: Callable[[Path, Path], object]) -> Case:
    return Case(name, fault, f"--out {called} --resume", RESUMED, _at(to, move), codes=GOES_ON)


def _text(name: str, fault: str, make: Callable[[Path], object], says: str, *codes: int) -> Case:
    return Case(name, fault, "--data PATH", says, _data(make), State.NOTHING, codes or (2,))


FILES = [
    _saved("truncated", "newest checkpoint cut short", lambda c: _halve(_largest(c)), "is not used"),
    _saved("flipped", "a bit of it flipped", lambda c: _flip(_largest(c)), "other bytes than"),
    _saved("missing", "a file of it deleted", lambda c: _largest(c).unlink(), "is missing"),
    _saved("manifest", "its manifest cut short", lambda c: _halve(c / "manifest.json"), "is damaged"),
    _saved("manifest-type", "its manifest is a list", lambda c: (c / "manifest.json").write_text("[]"), "is damaged"),
    _saved("unsigned", "its manifest deleted", lambda c: (c / "manifest.json").unlink(), "no manifest"),
    _resume("all-damaged", "all checkpoints damaged", _all_damaged, "no checkpoint is intact"),
    _resume("saved-file", "`checkpoints` is a file", _becomes("checkpoints", Path.touch), "file is where"),
    _resume("number", "a file called `99` in `checkpoints`",
            lambda o: (o / "checkpoints/99").touch(), RESUMED, *GOES_ON),
    _record("record-cut", "cut short", lambda p: p.write_text('{"config": {"data"')),
    _record("record-list", "is a list", lambda p: p.write_text("[]")),
    _record("record-deep", "is 100,000 brackets", lambda p: p.write_text("[" * 100_000)),
    _record("record-fifo", "is a FIFO", os.mkfifo),
    _record("record-folder", "is a directory", Path.mkdir),
    _record("record-loop", "is a symlink to itself", lambda p: p.symlink_to(p)),
    _record("record-bytes", "is not UTF-8", lambda p: p.write_bytes(b"\xff")),
    _record("record-huge", "has 1 TiB", _huge),
    _resume("old", "run of an older version", _fields(lambda f: f.pop("origin")), RESUMED, *GOES_ON),
    _resume("new", "run of a newer version", _fields(lambda f: f["config"].update(sky=1)), "sky"),
    _resume("result-cut", "`result.json` cut short", lambda o: (o / "result.json").write_text("{"), "result.json"),
    _resume("metrics-tail", "last line of `metrics.jsonl` torn",
            lambda o: (o / "metrics.jsonl").open("a").write('{"step": 3'), RESUMED, *GOES_ON),
    _resume("metrics-type", "its lines hold infinite and huge numbers",
            lambda o: (o / "metrics.jsonl").write_text(f'{{"step": Infinity, "x": {10**400}}}\n'), RESUMED, *GOES_ON),
    _resume("metrics-gone", "`metrics.jsonl` deleted", lambda o: (o / "metrics.jsonl").unlink(), RESUMED, *GOES_ON),
    _resume("metrics-folder", "`metrics.jsonl` is a directory", _becomes("metrics.jsonl", Path.mkdir), "cannot write"),
    _resume("future", "all files dated 2096", _old_times, RESUMED, *GOES_ON),
    _moved("moved", "run directory renamed", "NEW", "renamed", shutil.move),
    _moved("copied", "run directory copied", "COPY", "copy", shutil.copytree),
    _moved("linked", "run directory that is a symlink", "LINK", "link", lambda out, link: link.symlink_to(out)),
    Case("bytes", "its name is not UTF-8", r"--out $'\xff\xfe' --resume", "not UTF-8",
         _at("\udcff\udcfe", shutil.move)),
    Case("data-moved", "text moved", "--data NEW --resume", RESUMED, _moved_data, codes=GOES_ON),
    Case("data-gone", "text deleted", "--data GONE --resume", "neither a dataset",
         lambda place: train(place, "--data", "/no/such/text", "--resume")),
    _text("data-cut", "text of 9 bytes", lambda p: p.write_bytes(b"too short"), "give a longer text"),
    _text("data-device", "text is a device", lambda p: p.symlink_to("/dev/null"), "neither a regular"),
    _text("data-fifo", "text is a FIFO", os.mkfifo, "neither a regular"),
    _text("data-loop", "text is a symlink to itself", lambda p: p.symlink_to(p), "neither a dataset"),
    _text("data-binary", "text is binary", lambda p: p.write_bytes(b"\0" * 999), "is binary"),
    _text("data-mixed", "a directory of which one file is binary", _mixed, "left out", *GOES_ON),
    Case("bomb", "gzip of images holds more than it says", "train vision", "is too long", _bomb, State.NOTHING),
]  # fmt: skip
