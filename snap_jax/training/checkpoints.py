"""Checkpoints: the whole state of a run, saved as it goes by Orbax, in the background.

Law: what `restore` gives is, bit for bit, what `save` was given; if a disk or a hand changed it since, it is not used.
"""

import errno
import os
import shutil
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from snap_jax.errors import UsageError
from snap_jax.training import checksums
from snap_jax.training.state import TrainState

_KEPT = 3
_BESIDE_ARRAYS = 2**20  # bytes; names, shapes and shardings of some hundred arrays take a tenth of it


class Checkpoints:
    """The checkpoints of one run, `folder/STEP`; the last three are kept."""

    def __init__(self, folder: Path):
        options = ocp.CheckpointManagerOptions(max_to_keep=_KEPT, cleanup_tmp_directories=True)
        self._manager = ocp.CheckpointManager(folder.resolve(), options=options)
        self._unsigned: dict[int, dict] = {}
        self.latest = self._manager.latest_step()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def save(self, step: int, state: TrainState, seconds: float) -> None:
        """Copies the state now and writes it in the background; waits for the one before, if it is not done.

        Raises:
          OSError: if the disk is full.
        """
        self.wait()
        self._check_room(state)
        self._manager.save(step, args=ocp.args.StandardSave(state))  # pyright: ignore[reportCallIssue]
        self._unsigned[step] = {"seconds": seconds}
        self.latest = step

    def _check_room(self, state: TrainState) -> None:
        """Before Orbax begins: what its threads report of a full disk cannot all be caught."""
        need = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + _BESIDE_ARRAYS
        if shutil.disk_usage(self._manager.directory).free < need:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def sign(self) -> None:
        """Writes the manifest of what has been saved since, if that is done."""
        if self._unsigned and not self._manager.is_saving_in_progress():
            self.wait()

    def wait(self) -> None:
        """Waits for what is being written, and writes its manifest."""
        self._manager.wait_until_finished()
        for step, facts in self._unsigned.items():
            checksums.write(Path(self._manager.directory) / str(step), facts)
        self._unsigned.clear()


def last_good(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint that is as it was saved, `None` if none was ever finished; and what is wrong with newer.

    Raises:
      UsageError: if there were some, and none is good.
    """
    faults: dict[Path, str] = {}
    for path in _all(folder):
        faults[path] = checksums.fault(path)
        if not faults[path]:
            return path, _notes(faults)
    if faults and list(faults.values()) != [checksums.CUT_SHORT]:  # the very first may be cut short
        raise UsageError(
            f"{folder}: no checkpoint is whole ({'; '.join(_notes(faults))}): start again with --overwrite"
        )
    return None, _notes(faults)


def _notes(faults: dict[Path, str]) -> list[str]:
    return [f"checkpoint {path.name} is not used: {fault}" for path, fault in faults.items() if fault]


def drop_newer(folder: Path, good: Path | None) -> None:
    """Deletes checkpoints of later steps than `good`, or all: the run makes them again."""
    for path in _all(folder):
        if good is None or int(path.name) > int(good.name):
            shutil.rmtree(path)


def restore(path: Path, like: TrainState) -> TrainState:
    """The state saved in `path`, placed as `like`.

    Raises:
      UsageError: if a state of another structure or other shapes was saved.
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
    """Saves parameters alone, with their manifest; replaces what is there."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path.resolve(), params, force=True)
    checksums.write(path, {})


def restore_weights(path: Path, like: PyTree) -> PyTree:
    """Parameters from `path` as `save_weights` left them, or a part of a `TrainState`; on one device."""
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    target = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=one), like)
    how = ocp.checkpoint_utils.construct_restore_args(target)
    with ocp.PyTreeCheckpointer() as checkpointer:
        part = ocp.args.PyTreeRestore(item=target, restore_args=how, partial_restore=True)  # pyright: ignore
        return checkpointer.restore(path.resolve(), args=part)


def shapes(path: Path) -> list[tuple[int, ...]]:
    """Of all arrays that `restore_weights` could read there; reads none of them."""
    with ocp.PyTreeCheckpointer() as checkpointer:
        tree = checkpointer.metadata(path.resolve()).item_metadata.tree
    return [tuple(leaf.shape) for leaf in jax.tree.leaves(tree)]


def arrays(path: Path) -> dict[str, np.ndarray]:
    """Every array of a checkpoint, by its path in the `TrainState`, on the host."""
    with ocp.PyTreeCheckpointer() as checkpointer:
        tree = checkpointer.metadata(path.resolve() / "default").item_metadata.tree
        how = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        found = checkpointer.restore(path.resolve() / "default", args=ocp.args.PyTreeRestore(restore_args=how))  # pyright: ignore
    return {jax.tree_util.keystr(k, simple=True, separator="."): a for k, a in jax.tree.leaves_with_path(found)}


def _all(folder: Path) -> list[Path]:
    """Newest first."""
    paths = [path for path in folder.glob("*") if path.name.isdecimal()] if folder.is_dir() else []
    return sorted(paths, key=lambda path: -int(path.name))
