"""Files that are either not there or complete.

Law: who is killed while writing leaves the old file, or none; never half a new one.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from snap_jax.errors import UsageError

_FULL = {errno.ENOSPC: "no space left", errno.EDQUOT: "the quota is used up"}


def write_atomically(path: Path, content: str) -> None:
    """Writes a file that is either not there or complete, and on the disk when this returns."""
    partial = path.with_suffix(path.suffix + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(content)
        sync(file)
    os.replace(partial, path)


def sync(file: TextIO) -> None:
    """Returns when what was written is on the disk."""
    file.flush()
    os.fsync(file.fileno())


@contextlib.contextmanager
def full_disk_explained(out: Path, how_to_go_on: str) -> Iterator[None]:
    """Turns the error of a disk that is full, whoever met it, into one line that says so.

    Raises:
      UsageError: instead of that error.
    """
    try:
        yield
    except Exception as error:
        why = _why_full(error)
        if why is None:
            raise
        raise UsageError(
            f"train: cannot write to {out}: {why}; all checkpoints saved before are still there: "
            f"make room, then go on with: {how_to_go_on}"
        ) from error


def _why_full(error: BaseException | None) -> str | None:
    """TensorStore, below Orbax, reports the number of the operating system's error in its text only."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return _FULL[error.errno]
        for number, why in _FULL.items():
            if f"os_error_code='{number}'" in str(error) or os.strerror(number) in str(error):
                return why
        error = error.__cause__ or error.__context__
    return None
