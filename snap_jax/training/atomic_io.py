"""Files that are either absent or complete: a process killed while writing leaves the old file or none."""

import os
from pathlib import Path
from typing import TextIO


def write_atomically(path: Path, content: str) -> None:
    """Write a file that is either absent or complete, and on the disk when this returns."""
    partial = path.with_suffix(path.suffix + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(content)
        sync(file)
    os.replace(partial, path)


def sync(file: TextIO) -> None:
    """Return when what was written is on the disk."""
    file.flush()
    os.fsync(file.fileno())
