"""Checkpoints: the whole state of a run, saved in the background by Orbax, with a checksum of every file.

`restore` returns, bit for bit, what `save` was given; a checkpoint that changed since is not used. The manifest with
the checksums is written last, so a directory without one was not finished.
"""

import errno
import os
import shutil
import sys
import tempfile
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
from snap_jax.training import checkpoint_files
from snap_jax.training.checkpoint_files import best as best
from snap_jax.training.checkpoint_files import drop_newer as drop_newer
from snap_jax.training.checkpoint_files import facts as facts
from snap_jax.training.checkpoint_files import fault as fault
from snap_jax.training.checkpoint_files import last_good as last_good
from snap_jax.training.checkpoint_files import write_manifest
from snap_jax.training.train_step import TrainState

_BESIDE_ARRAYS = 2**20  # bytes; names, shapes and shardings of some hundred arrays take a tenth of it


class Checkpoints:
    """The checkpoints of one run, in `folder/STEP`; the newest are kept, and that of the best evaluation.

    Older ones are deleted here and not by Orbax, so that it happens after the newest has its manifest.

    Args:
      folder: of all checkpoints.
      keep: how many of the newest.
    """

    def __init__(self, folder: Path, keep: int = 3):
        together = ocp.options.AsyncOptions(barrier_sync_fn=_all_or_error()) if count() > 1 else None
        options = ocp.CheckpointManagerOptions(cleanup_tmp_directories=True, async_options=together)
        self._manager = ocp.CheckpointManager(folder.resolve(), options=options)
        self._keep, self._unsigned = keep, dict[int, dict]()
        self._best = checkpoint_files.best_step(folder)

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

    def save(self, step: int, state: TrainState, seconds: float, best: bool = False) -> None:
        """Copy the state now and write it in the background; wait for the checkpoint before, if it is not done.

        Args:
          step: of the state.
          state: to save.
          seconds: that the run has taken so far.
          best: whether no evaluation was better so far.

        Raises:
          OSError: if the disk is full.
        """
        self.wait()
        on_first(lambda: self._check_room(state))
        self._manager.save(step, args=ocp.args.StandardSave(state))  # pyright: ignore[reportCallIssue]
        self._best = step if best else self._best
        self._unsigned[step] = {"seconds": seconds, "best": self._best}

    def _check_room(self, state: TrainState) -> None:
        """Not all errors of the threads of Orbax can be caught, and after one of them others wait; so look before."""
        need = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + _BESIDE_ARRAYS
        with tempfile.TemporaryFile(dir=self._manager.directory):
            pass  # a directory that is read-only, or gone
        if shutil.disk_usage(self._manager.directory).free < need:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def sign(self) -> None:
        """Write the manifest of what has been saved since, if that is done."""
        if self._unsigned and not self._manager.is_saving_in_progress():
            self.wait()

    def wait(self) -> None:
        """Wait for what is being written, write its manifest, and delete what is no longer kept."""
        self._manager.wait_until_finished()
        folder = Path(self._manager.directory)
        for step, known in self._unsigned.items() if is_first() else ():
            write_manifest(folder / str(step), known)
            checkpoint_files.drop_older(folder, self._keep)
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
            f"{path} does not hold the state of this run ({first}): resume with the version of snap-jax that is in "
            "run.json, or start another run with another --out"
        ) from error


def save_weights(path: Path, params: PyTree) -> None:
    """Save parameters alone, with their manifest; replace what is there."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path.resolve(), params, force=True)
    on_first(lambda: write_manifest(path, {}))


def restore_weights(path: Path, like: PyTree) -> PyTree:
    """Return parameters that `save_weights` saved in `path`, or a part of a `TrainState`.

    They lie on one device; those that are like an array of several processes lie as it does, and each reads its part.
    """
    target = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), like)
    with ocp.PyTreeCheckpointer() as checkpointer:
        how = jax.tree.map(_how_to_read, like)
        part = ocp.args.PyTreeRestore(item=target, restore_args=how, partial_restore=True)  # pyright: ignore
        return jax.tree.map(_on_device, checkpointer.restore(path.resolve(), args=part))


def _how_to_read(like: Any) -> ocp.RestoreArgs:
    if isinstance(like, jax.Array) and not like.is_fully_addressable:
        return ocp.ArrayRestoreArgs(sharding=like.sharding, global_shape=like.shape, dtype=like.dtype)
    return ocp.RestoreArgs(restore_type=np.ndarray, dtype=like.dtype)


def _on_device(array: Any) -> jax.Array:
    return array if isinstance(array, jax.Array) else jnp.asarray(array)


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
