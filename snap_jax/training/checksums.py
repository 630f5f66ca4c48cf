"""Manifests: which files a checkpoint consists of, and what is in them.

Law: a directory whose manifest fits it holds, byte for byte, what was saved. The manifest is written last, so a
directory that has none was not finished.
"""

import hashlib
import json
from pathlib import Path

from snap_jax.training.atomic_io import write_atomically

NAME = "manifest.json"
CUT_SHORT = "it has no manifest: saving was cut short"


def write(folder: Path, facts: dict) -> None:
    """Writes down size and SHA-256 of every file under `folder`, and `facts`."""
    files = {path: [(folder / path).stat().st_size, _digest(folder / path)] for path in _files(folder)}
    write_atomically(folder / NAME, json.dumps({"facts": facts, "files": files}))


def facts(folder: Path) -> dict:
    """The facts written with it."""
    return json.loads((folder / NAME).read_text(encoding="utf-8"))["facts"]


def fault(folder: Path) -> str:
    """What is wrong with `folder`, in words; "" if it is what was saved."""
    try:
        files = json.loads((folder / NAME).read_text(encoding="utf-8"))["files"]
    except FileNotFoundError:
        return CUT_SHORT
    except (ValueError, KeyError, TypeError) as error:
        return f"its manifest is damaged ({error})"
    if missing := sorted(set(files) - set(_files(folder))):
        return f"{missing[0]} is missing"
    for path, (size, digest) in files.items():
        if (found := (folder / path).stat().st_size) != size:
            return f"{path} has {found} bytes, not {size}"
        if _digest(folder / path) != digest:
            return f"{path} has other bytes than were saved"
    return ""


def _files(folder: Path) -> list[str]:
    paths = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(NAME))
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
