"""What a checkpoint is on disk: files, and a manifest of their checksums that is written last.

A checkpoint whose files changed since is not used. A directory without a manifest was not finished.
"""

import hashlib
import shutil
from pathlib import Path

from snap_jax.errors import UsageError
from snap_jax.training.atomic_io import read_json, to_json, write_atomically

MANIFEST = "manifest.json"
_CUT_SHORT = "it has no manifest: saving was cut short"


def last_good(folder: Path) -> tuple[Path | None, list[str]]:
    """Return the newest intact checkpoint, None if none was ever finished; and what is wrong with newer ones.

    Raises:
      UsageError: if there are some, and none is intact.
    """
    faults: dict[Path, str] = {}
    for path in saved(folder):
        faults[path] = fault(path)
        if not faults[path]:
            return path, _notes(faults)
    if faults and list(faults.values()) != [_CUT_SHORT]:  # the very first may be cut short
        raise UsageError(
            f"{folder}: no checkpoint is intact ({'; '.join(_notes(faults))}): mend that or restore one from a copy, "
            "else start again with --overwrite"
        )
    return None, _notes(faults)


def best(folder: Path) -> tuple[Path | None, list[str]]:
    """Return the checkpoint of the best evaluation, None if there is none that is intact; and what is wrong with it."""
    newest = next((path for path in saved(folder) if not fault(path)), None)
    step = None if newest is None else facts(newest).get("best")
    if step is None:
        return None, ["no checkpoint of the best evaluation was kept"] if newest else []
    found = folder / str(step)
    why = fault(found)
    return (None, [f"checkpoint {step}, the best, is not used: {why}"]) if why else (found, [])


def best_step(folder: Path) -> int | None:
    """Return the step of the best evaluation, as the newest checkpoint that has a manifest knows it."""
    newest = next((path for path in saved(folder) if named(path) is not None), None)
    return None if newest is None else facts(newest).get("best")


def _notes(faults: dict[Path, str]) -> list[str]:
    return [f"checkpoint {path.name} is not used: {fault}" for path, fault in faults.items() if fault]


def drop_newer(folder: Path, good: Path | None) -> None:
    """Delete checkpoints of later steps than `good`, or all of them: the run makes them again."""
    for path in saved(folder):
        if good is None or int(path.name) > int(good.name):
            delete(path)


def drop_older(folder: Path, keep: int) -> None:
    """Delete all checkpoints but the `keep` newest and the best: call it when the newest is signed."""
    newest, *_ = kept = saved(folder)[:keep]
    best = facts(newest).get("best")
    for path in saved(folder)[len(kept) :]:
        if path.name != str(best):
            delete(path)


def delete(path: Path) -> None:
    """Delete a checkpoint, its manifest first: of what is left by a kill, none is taken for a whole one."""
    (path / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(path)


def saved(folder: Path) -> list[Path]:
    """Return the directories of checkpoints, newest first, intact or not."""
    paths = [path for path in folder.iterdir() if path.name.isdecimal() and path.is_dir()] if folder.is_dir() else []
    return sorted(paths, key=lambda path: -int(path.name))


def facts(folder: Path) -> dict:
    """Return the facts in the manifest: `seconds` that the run took, `best`, the step of its best evaluation."""
    return _manifest(folder)["facts"]


def named(folder: Path) -> set[str] | None:
    """Return the files that the manifest of a checkpoint names; None if it has none that can be read."""
    try:
        return set(_manifest(folder)["files"])
    except (OSError, ValueError):
        return None


def _manifest(folder: Path) -> dict:
    found = read_json(folder / MANIFEST)
    match found:
        case {"facts": dict(known), "files": dict(files)}:
            pairs = all(isinstance(pair, list) and len(pair) == 2 for pair in files.values())
            if pairs and isinstance(known.get("seconds", 0), int | float):
                return found
    raise ValueError("it is not one of ours")


def fault(folder: Path) -> str:
    """Return what is wrong with a checkpoint, in words; "" if it is what was saved."""
    try:
        files = _manifest(folder)["files"]
    except FileNotFoundError:
        return _CUT_SHORT
    except (OSError, ValueError) as error:
        return f"its manifest is damaged ({error})"
    if missing := sorted(set(files) - set(files_of(folder))):
        return f"{missing[0]} is missing"
    return next((why for path, (size, digest) in files.items() if (why := _changed(folder, path, size, digest))), "")


def _changed(folder: Path, path: str, size: int, digest: str) -> str:
    try:
        if (found := (folder / path).stat().st_size) != size:
            return f"{path} has {found} bytes, not {size}"
        return "" if _digest(folder / path) == digest else f"{path} has other bytes than were saved"
    except OSError as error:
        return f"{path} cannot be read ({error.strerror})"


def write_manifest(folder: Path, facts: dict) -> None:
    """Size and SHA-256 of every file, and `facts`."""
    files = {path: [(folder / path).stat().st_size, _digest(folder / path)] for path in files_of(folder)}
    write_atomically(folder / MANIFEST, to_json({"facts": facts, "files": files}))


def files_of(folder: Path) -> list[str]:
    """Return the relative paths of its files, but for the manifest."""
    paths = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(MANIFEST))
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
