"""Texts by name or path: `stdlib` (needs no download), `enwik8` (a local copy), or any text of your own.

The same name on the same machine gives the same bytes in the same order, training and held-out apart.
"""

import difflib
import os
from pathlib import Path

from snap_jax.data.corpus import Corpus as Corpus
from snap_jax.data.corpus import Text as Text
from snap_jax.data.corpus import gzip_bits as gzip_bits
from snap_jax.data.corpus import order0_bits as order0_bits
from snap_jax.data.enwik8 import load_enwik8
from snap_jax.data.python_stdlib import load_stdlib
from snap_jax.data.text_tree import divide, divide_text, map_text, read_tree
from snap_jax.data.windows import batch as batch
from snap_jax.data.windows import starts as starts
from snap_jax.data.windows import windows as windows
from snap_jax.errors import UsageError

NAMES = ("stdlib", "enwik8")


def load(name_or_path: str, *, data_dir: Path | None = None) -> Corpus:
    """Load the corpus of that name, else the text at that path.

    Of a single file the last 10 % are held out. A directory gives all its text files (no NUL byte) except
    hidden ones, sorted by relative path, and is split by file, or like a single file where that would be uneven.

    Args:
      name_or_path: `stdlib`, `enwik8`, or a path. A name takes precedence over a path: write `./stdlib` for a folder.
      data_dir: where to look first for a local copy of a dataset.

    Raises:
      UsageError: no such name or path, or no text in it.

    >>> corpus = load("stdlib")
    >>> corpus.train.dtype, corpus.train.size > 10 * corpus.heldout.size
    (dtype('uint8'), True)
    """
    if name_or_path == "stdlib":
        return load_stdlib()
    if name_or_path == "enwik8":
        return load_enwik8(data_dir)
    return load_path(name_or_path)


def load_path(name: str) -> Corpus:
    """Load the text of one file, or of all text files under a directory."""
    path = Path(os.path.expanduser(name))
    if not name.strip() or not os.path.exists(path):
        raise UsageError(_unknown(name))
    if not path.is_dir():
        return _load_file(name, path)
    # Hidden files belong to tools (.git, .venv); they are not the text.
    files, notes = read_tree(
        path, lambda folder: not folder.startswith("."), lambda name: not name.startswith("."), once=True
    )
    if not any(map(len, files.values())):
        raise _empty(name, "; ".join(notes))
    return divide(name, files, notes)


def _load_file(name: str, path: Path) -> Corpus:
    if not path.is_file():
        raise UsageError(f"--data {name!r} is neither a regular file nor a directory: give a file of text")
    text, why = map_text(path)
    if not text.size:
        raise _empty(name, f"the file is {why}" if why else "")
    return divide_text(name, text)


def _empty(name: str, why: str) -> UsageError:
    return UsageError(f"--data {name!r} holds no text: {why or 'it is empty'}: give plain text files")


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), NAMES, n=1)
    fix = f"did you mean {near[0]!r}?" if near else "give one of these names or a path to text"
    return f"--data {name!r} is neither a dataset ({', '.join(NAMES)}) nor an existing path: {fix}"
