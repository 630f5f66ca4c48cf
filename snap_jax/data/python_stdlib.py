"""The source text of the running Python's own standard library, so it needs no download."""

import sysconfig
from pathlib import Path

from snap_jax.data.corpus import Corpus
from snap_jax.data.text_tree import divide, read_tree
from snap_jax.errors import UsageError

# Left out, so that one version of Python gives one text wherever it was installed from:
_ELSEWHERE = {"site-packages", "dist-packages", "__pycache__"}  # not the standard library's own
_TESTS = {"test", "tests", "idle_test"}  # most Linux distributions ship no tests
# Some distributions package these separately; the last two are gone since 3.13 and 3.12.
_PACKAGED_APART = {"idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "distutils"}
_GENERATED = {"encodings", "pydoc_data"}  # tables and documentation, a tenth of the bytes, not source text
_MACHINE = ("_sysconfigdata", "sitecustomize", "usercustomize")  # differ from machine to machine
_FEWEST_FILES = 100  # every CPython since 3.11 has over 350; results on a stripped one could not be compared


def load_stdlib(root: Path | None = None) -> Corpus:
    """Read the library's `*.py`, sorted by path, split by file: about 7.4 MB and, held out, 0.4 MB.

    Left out are tests, site-packages, what some distributions package separately (idlelib, tkinter,
    ...), generated tables (encodings, pydoc_data) and what differs from machine to machine (`_sysconfigdata*`).

    Raises:
      UsageError: this Python has its library in a zip file or without sources.

    >>> corpus = load_stdlib()
    >>> b"class JSONDecoder" in corpus.train.tobytes() + corpus.heldout.tobytes()
    True
    """
    root = root or Path(sysconfig.get_paths()["stdlib"])
    files, notes = read_tree(root, _enter, _take)
    if len(files) < _FEWEST_FILES:
        raise UsageError(
            f"--data stdlib: {root} holds {len(files)} source files, not over {_FEWEST_FILES} (zipped?): "
            "use a Python installed with its sources, or give a path to some text"
        )
    # Hashed as "stdlib/json/decoder.py": with this prefix, the held-out text is like the rest (tested: gzip bits).
    return divide("stdlib", files, notes, salt="stdlib/")


def _enter(folder: str) -> bool:
    return not folder.startswith("config-") and folder not in _ELSEWHERE | _TESTS | _PACKAGED_APART | _GENERATED


def _take(name: str) -> bool:
    return name.endswith(".py") and not name.startswith(_MACHINE)
