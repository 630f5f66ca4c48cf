"""Files that are either absent or complete: a process killed while writing leaves the old file or none."""

import json
import math
import os
from pathlib import Path
from typing import Any, TextIO

_LARGEST = 2**26  # bytes of a file that is read; the manifest of a checkpoint of 100,000 files has a tenth of it


def write_atomically(path: Path, content: str) -> None:
    """Write a file that is either absent or complete, and on the disk when this returns."""
    partial = path.with_suffix(path.suffix + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(content)
        sync(file)
    os.replace(partial, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name, too
    finally:
        os.close(folder)


def to_json(value: Any, indent: int | None = None) -> str:
    """Return valid JSON: numbers that are NaN or infinite become null.

    >>> to_json({"loss": float("nan"), "bits": [1.5, float("inf")]})
    '{"loss": null, "bits": [1.5, null]}'
    """
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
      FileNotFoundError: if there is none.
      ValueError: if it is no regular file, too large or nested too deep, or no JSON; a FIFO is not waited for.
    """
    size = path.stat().st_size
    if not path.is_file():
        raise ValueError("it is no regular file")
    if size > _LARGEST:
        raise ValueError(f"it has {size:,} bytes")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def sync(file: TextIO) -> None:
    """Return when what was written is on the disk."""
    file.flush()
    os.fsync(file.fileno())
