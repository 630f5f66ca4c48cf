"""Read text files in a fixed order, and split them into training and held-out text.

In a split by file, only its relative path decides where a file goes, so no file is in the training part of one version
of a tree and held out in the next.
"""

import dataclasses
import hashlib
import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from snap_jax.data.corpus import Corpus, Text, as_text
from snap_jax.data.mapped import mapped
from snap_jax.errors import UsageError

HELDOUT = 0.1
_PART = 2**24  # bytes looked through at a time
_FEWEST, _MOST = 0.02, 0.25  # shares of held-out bytes between which a split by file is used


def is_heldout(path: str) -> bool:
    """Return whether the file at this relative POSIX path is held out: one path in ten is, by its SHA-256.

    >>> [name for name in ("a.txt", "b.txt", "c.txt", "d.txt", "e.txt") if is_heldout(name)]
    ['a.txt']
    """
    return int.from_bytes(hashlib.sha256(os.fsencode(path)).digest()[:8]) < HELDOUT * 2**64


def divide(name: str, files: Mapping[str, bytes | Text], notes: tuple[str, ...] = (), salt: str = "") -> Corpus:
    """Split by file if that holds out 2 to 25 % of the bytes, or else hold out the last 10 % of the text.

    Args:
      name: of the corpus.
      files: their bytes by relative path, in the order in which they are joined.
      notes: to keep with the corpus.
      salt: prefix of the path that is hashed.

    Raises:
      UsageError: fewer than 10 bytes.

    >>> divide("one", {"a.txt": b"0123456789"}).heldout.tobytes()
    b'9'
    """
    total = sum(len(data) for data in files.values())
    held = {path: data for path, data in files.items() if is_heldout(salt + path)}
    size = sum(len(data) for data in held.values())
    how = f"held out {len(held)} of {len(files)} files, chosen by the SHA-256 of their path"
    if total < 1 / HELDOUT or not _FEWEST <= size / total <= _MOST:
        whole = divide_text(name, mapped(files.values()))
        return dataclasses.replace(whole, notes=(*whole.notes, *notes))
    train = mapped(data for path, data in files.items() if path not in held)
    return Corpus(name, train, mapped(held.values()), notes=(how, *notes))


def read_tree(
    root: Path, enter: Callable[[str], bool], take: Callable[[str], bool], *, once: bool = False
) -> tuple[dict[str, Text], tuple[str, ...]]:
    """Read text files under `root`, by relative POSIX path, sorted; and notes on what was left out and why.

    If they are large together, one file at a time is in memory, and what is read of them later.

    Args:
      root: a directory; links to directories in it are not followed.
      enter: whether to enter the directory of this name.
      take: whether to read the file of this name.
      once: leave out files that are links to one that was read: their text could be trained on and held out.
    """
    sizes: dict[str, int] = {}
    seen = set[tuple[int, int]]()
    skipped: dict[str, list[str]] = {}

    def texts() -> Iterator[bytes]:
        for path in sorted(_walk(root, enter, take, skipped), key=lambda p: p.relative_to(root).as_posix()):
            key = path.relative_to(root).as_posix()
            data, why = read_text(path)
            if once and not why:
                where = os.stat(path)
                why = "repeated" if (where.st_dev, where.st_ino) in seen else ""
                seen.add((where.st_dev, where.st_ino))
            if why:
                skipped.setdefault(why, []).append(key)
            else:
                sizes[key] = len(data)
                yield data

    whole = mapped(texts())
    ends = itertools.accumulate(sizes.values())
    files = {key: whole[end - size : end] for (key, size), end in zip(sizes.items(), ends, strict=True)}
    return files, tuple(_note(why, paths) for why, paths in sorted(skipped.items()))


def _walk(
    root: Path, enter: Callable[[str], bool], take: Callable[[str], bool], skipped: dict[str, list[str]]
) -> list[Path]:
    def unreadable(error: OSError) -> None:
        skipped.setdefault("unreadable", []).append(f"{error.filename}/")

    found: list[Path] = []
    for folder, subfolders, names in os.walk(root, onerror=unreadable):
        subfolders[:] = [name for name in subfolders if enter(name)]
        found += [Path(folder, name) for name in names if take(name)]
    # Pipes and devices would block; a dangling link is kept, to be reported as unreadable.
    return [path for path in found if os.path.isfile(path) or not os.path.exists(path)]


def read_text(path: Path) -> tuple[bytes, str]:
    """Read a file; the second value is "", or why it is not text: "unreadable" or "binary"."""
    try:
        with path.open("rb") as file:
            data = file.read(8192)  # a video need not be read whole to know that it is one
            if b"\0" not in data:
                data += file.read()
    except OSError:
        return b"", "unreadable"
    return (b"", "binary") if b"\0" in data else (data, "")


def map_text(path: Path) -> tuple[Text, str]:
    """Map a file into memory, so that only what is read of it is held; the second value is as for `read_text`."""
    try:
        if not path.stat().st_size:
            return as_text(b""), ""
        text = np.asarray(np.memmap(path, np.uint8, "r"))
    except OSError:
        return as_text(b""), "unreadable"
    binary = any((text[at : at + _PART] == 0).any() for at in range(0, len(text), _PART))
    return (as_text(b""), "binary") if binary else (text, "")


def divide_text(name: str, text: Text) -> Corpus:
    """Hold out the last 10 % of a text, of which nothing is copied.

    Raises:
      UsageError: fewer than 10 bytes.

    >>> divide_text("one", as_text(b"0123456789")).heldout.tobytes()
    b'9'
    """
    size = int(len(text) * HELDOUT)
    if not size:
        raise UsageError(f"--data {name!r} has {len(text)} bytes: give a longer text, so that a tenth can be held out")
    return Corpus(name, text[:-size], text[-size:], notes=(f"held out the last {HELDOUT:.0%} of the text",))


def _note(why: str, paths: list[str]) -> str:
    shown = [os.fsencode(path).decode("utf-8", "replace") for path in paths[:5]] + ["..."] * (len(paths) > 5)
    return f"left out {len(paths)} {why} file{'s' * (len(paths) > 1)}: {', '.join(shown)}"
