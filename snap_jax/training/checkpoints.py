"""Checkpoints: the whole state of a run, saved in the background by Orbax, with a checksum of every file.

`restore` returns, bit for bit, what `save` was given; a checkpoint that changed since is not used. The manifest with
the checksums is written last, so a directory without one was not finished.
"""

import errno
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from snap_jax.errors import UsageError
from snap_jax.parallel.processes import count, is_first, on_first
from snap_jax.training.atomic_io import read_json, write_atomically
from snap_jax.training.train_step import TrainState

MANIFEST = "manifest.json"
_CUT_SHORT = "it has no manifest: saving was cut short"
_KEPT = 3
_BESIDE_ARRAYS = 2**20  # bytes; names, shapes and shardings of some hundred arrays take a tenth of it


class Checkpoints:
    """The checkpoints of one run, in `folder/STEP`; the last three are kept."""

    def __init__(self, folder: Path):
        together = ocp.options.AsyncOptions(barrier_sync_fn=_all_or_error()) if count() > 1 else None
        options = ocp.CheckpointManagerOptions(max_to_keep=_KEPT, cleanup_tmp_directories=True, async_options=together)
        self._manager = ocp.CheckpointManager(folder.resolve(), options=options)
        self._unsigned: dict[int, dict] = {}
        self.latest = self._manager.latest_step()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """Finish what is being saved, whatever ended the run; its own error comes first.

        After an error of one of several processes, the others would not come to the end of a save.
        """
        try:
            if error is None or count() == 1:
                self.wait()
        except Exception as second:
            if error is None:
                raise
            error.add_note(f"the last checkpoint could not be finished either: {second}")
        finally:
            if error is None or count() == 1:
                self._manager.close()

    def save(self, step: int, state: TrainState, seconds: float) -> None:
        """Copy the state now and write it in the background; wait for the checkpoint before, if it is not done.

        Raises:
          OSError: if the disk is full.
        """
        self.wait()
        on_first(lambda: self._check_room(state))
        self._manager.save(step, args=ocp.args.StandardSave(state))  # pyright: ignore[reportCallIssue]
        self._unsigned[step] = {"seconds": seconds}
        self.latest = step

    def _check_room(self, state: TrainState) -> None:
        """Not all errors that the threads of Orbax report of a full disk can be caught, so look before."""
        need = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + _BESIDE_ARRAYS
        if shutil.disk_usage(self._manager.directory).free < need:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def sign(self) -> None:
        """Write the manifest of what has been saved since, if that is done."""
        if self._unsigned and not self._manager.is_saving_in_progress():
            self.wait()

    def wait(self) -> None:
        """Wait for what is being written, and write its manifest."""
        self._manager.wait_until_finished()
        for step, facts in self._unsigned.items() if is_first() else ():
            _write_manifest(Path(self._manager.directory) / str(step), facts)
        self._unsigned.clear()


def _all_or_error() -> Callable[..., None]:
    """How threads of Orbax wait for those of other processes: a save that failed here is not waited for.

    Orbax would do so for 20 minutes, before it told anyone, while the others wait for the save to end.
    """
    wait = ocp.multihost.get_barrier_sync_fn()

    def at_barrier(*, key: str, timeout_ms: int) -> None:
        if (error := sys.exc_info()[1]) is not None:
            raise error
        wait(key=key, timeout_ms=timeout_ms)

    return at_barrier


def last_good(folder: Path) -> tuple[Path | None, list[str]]:
    """Return the newest intact checkpoint, None if none was ever finished; and what is wrong with newer ones.

    Raises:
      UsageError: if there are some, and none is intact.
    """
    faults: dict[Path, str] = {}
    for path in _all(folder):
        faults[path] = fault(path)
        if not faults[path]:
            return path, _notes(faults)
    if faults and list(faults.values()) != [_CUT_SHORT]:  # the very first may be cut short
        raise UsageError(
            f"{folder}: no checkpoint is intact ({'; '.join(_notes(faults))}): start again with --overwrite"
        )
    return None, _notes(faults)


def _notes(faults: dict[Path, str]) -> list[str]:
    return [f"checkpoint {path.name} is not used: {fault}" for path, fault in faults.items() if fault]


def drop_newer(folder: Path, good: Path | None) -> None:
    """Delete checkpoints of later steps than `good`, or all of them: the run makes them again."""
    for path in _all(folder):
        if good is None or int(path.name) > int(good.name):
            shutil.rmtree(path)


def restore(path: Path, like: TrainState) -> TrainState:
    """Return the state saved in `path`, placed as `like`.

    Raises:
      UsageError: if the saved state has another structure or other shapes.
    """
    target = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    try:
        with ocp.CheckpointManager(path.parent.resolve()) as manager:
            return manager.restore(int(path.name), args=ocp.args.StandardRestore(target))  # pyright: ignore
    except (ValueError, KeyError) as error:
        first = str(error).splitlines()[0]
        raise UsageError(
            f"{path} does not hold the state of this run ({first}): start again with --overwrite"
        ) from error


def save_weights(path: Path, params: PyTree) -> None:
    """Save parameters alone, with their manifest; replace what is there."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path.resolve(), params, force=True)
    on_first(lambda: _write_manifest(path, {}))


def restore_weights(path: Path, like: PyTree) -> PyTree:
    """Return parameters that `save_weights` saved in `path`, or a part of a `TrainState`; on one device."""
    target = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), like)
    how = jax.tree.map(lambda a: ocp.RestoreArgs(restore_type=np.ndarray, dtype=a.dtype), target)
    with ocp.PyTreeCheckpointer() as checkpointer:
        part = ocp.args.PyTreeRestore(item=target, restore_args=how, partial_restore=True)  # pyright: ignore
        return jax.tree.map(jnp.asarray, checkpointer.restore(path.resolve(), args=part))


def shapes(path: Path) -> list[tuple[int, ...]]:
    """Return the shapes of all arrays that `restore_weights` could read there, without reading them."""
    with ocp.PyTreeCheckpointer() as checkpointer:
        tree = checkpointer.metadata(path.resolve()).item_metadata.tree
    return [tuple(leaf.shape) for leaf in jax.tree.leaves(tree)]


def arrays(path: Path) -> dict[str, np.ndarray]:
    """Return every array of a checkpoint, by its path in the `TrainState`, on the host."""
    with ocp.PyTreeCheckpointer() as checkpointer:
        tree = checkpointer.metadata(path.resolve() / "default").item_metadata.tree
        how = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        found = checkpointer.restore(path.resolve() / "default", args=ocp.args.PyTreeRestore(restore_args=how))  # pyright: ignore
    return {jax.tree_util.keystr(k, simple=True, separator="."): a for k, a in jax.tree.leaves_with_path(found)}


def _all(folder: Path) -> list[Path]:
    """Newest first."""
    paths = [path for path in folder.glob("*") if path.name.isdecimal()] if folder.is_dir() else []
    return sorted(paths, key=lambda path: -int(path.name))


def facts(folder: Path) -> dict:
    """Return the facts in the manifest of a checkpoint."""
    return read_json(folder / MANIFEST)["facts"]


def fault(folder: Path) -> str:
    """Return what is wrong with a checkpoint, in words; "" if it is what was saved."""
    try:
        files = read_json(folder / MANIFEST)["files"]
    except FileNotFoundError:
        return _CUT_SHORT
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


def _write_manifest(folder: Path, facts: dict) -> None:
    """Size and SHA-256 of every file, and `facts`."""
    files = {path: [(folder / path).stat().st_size, _digest(folder / path)] for path in _files(folder)}
    write_atomically(folder / MANIFEST, json.dumps({"facts": facts, "files": files}))


def _files(folder: Path) -> list[str]:
    paths = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(MANIFEST))
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
