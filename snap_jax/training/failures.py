"""What ends a run early, and what it says then: a signal, a full disk, or a loss that is not finite."""

import contextlib
import errno
import math
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, PyTree

from snap_jax.errors import UsageError
from snap_jax.parallel import failure_notice
from snap_jax.parallel.mesh import STAGE
from snap_jax.parallel.processes import count, on_host
from snap_jax.training import checkpoint_files
from snap_jax.training.config import Settings
from snap_jax.training.job import Job
from snap_jax.training.train_step import Measured, TrainState, batch_indices, steps_done

_LOST = ("Gloo", "Connection closed by peer", "Connection reset", "DEADLINE_EXCEEDED", "UNAVAILABLE")
_CAUSE_SECONDS = 3.0  # in which a process that ended may have said why
_FULL = {
    errno.ENOSPC: "no space left: free some space",
    errno.EDQUOT: "the quota is used up: free some space",
    errno.EFBIG: "a file is larger than this process may write (ulimit -f): raise the limit",
    errno.EMFILE: "this process may not open more files (ulimit -n): raise the limit",
}
_BARRED = {  # only of a path in the run directory
    errno.EROFS: "it is read-only: mount it for writing",
    errno.EACCES: "permission denied: change its permissions",
    errno.EPERM: "operation not permitted: change its permissions or attributes",
    errno.EIO: "input/output error: look at the disk",
    errno.ESTALE: "the network file system has lost it: mount it again",
    errno.ENOENT: "it was deleted or moved while the run wrote to it: restore it",
    errno.ENOTDIR: "a file is where a directory was: restore it",
    errno.EEXIST: "a file is where a directory belongs: move it away",
    errno.EISDIR: "a directory is where a file belongs: move it away",
    errno.ENAMETOOLONG: "the name is too long: choose a shorter --out",
}


class WriteError(UsageError):
    """The run directory cannot be written. Threads of Orbax may wait for minutes for a save that failed."""


class Stopped(Exception):  # noqa: N818 - this is no error
    """The run received a signal to stop, and has saved its state.

    Attributes:
      signal: the signal; the process exits with `128 + signal`.
    """

    def __init__(self, message: str, signal: signal.Signals):
        super().__init__(message)
        self.signal = signal


class Signals:
    """Context manager that notes the first SIGTERM, SIGINT or SIGHUP in `received`; a second one acts as usual.

    A SIGHUP that is ignored, as under `nohup`, stays ignored. Only the main thread can receive signals; in any other
    thread this does nothing.
    """

    def __init__(self):
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():
            hang_up = () if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else (signal.SIGHUP,)
            for number in (signal.SIGTERM, signal.SIGINT, *hang_up):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _note(self, number: int, _: object) -> None:
        self.received = signal.Signals(number)
        self.__exit__()


@contextlib.contextmanager
def write_errors_explained(out: Path, how_to_resume: str) -> Iterator[None]:
    """Replace the error of a place that cannot be written, wherever it was raised, by one line that says so.

    Raises:
      WriteError: instead of that error.
    """
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        why = _why_not_written(error, out)
        if why is None:
            raise
        raise WriteError(
            f"train: cannot write to {out}: {why} ({_kept(out)}), then resume with: {how_to_resume}"
        ) from error


@contextlib.contextmanager
def missing_backend_explained() -> Iterator[None]:
    """Replace the error of devices that are not there, or that this JAX was not built for, by one line.

    Raises:
      UsageError: instead of that error.
    """
    try:
        yield
    except RuntimeError as error:
        if not any(sign in str(error) for sign in ("Unable to initialize backend", "Unknown backend")):
            raise
        first = str(error).splitlines()[0].rstrip(".")
        raise UsageError(
            f"train: {first}: set JAX_PLATFORMS to devices that are there, such as JAX_PLATFORMS=cpu, or leave it out"
        ) from error


@contextlib.contextmanager
def lost_process_explained(how_to_resume: str) -> Iterator[None]:
    """Replace the errors of a process whose partners are gone by one line that says so.

    Raises:
      UsageError: instead of those errors.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, RuntimeError) as error:
        if count() == 1 or not any(sign in str(error) for sign in _LOST):
            raise
        first = str(error).splitlines()[0][:200]
        said = f"another process ended or cannot be reached ({first}): its own message says why"
        with contextlib.suppress(Exception):  # the coordinator may be gone
            said = (failure_notice.told(_CAUSE_SECONDS) or (said, 0))[0]
        raise UsageError(
            f"train: {said}; all checkpoints saved before are still there: resume on all processes with: "
            f"{how_to_resume}"
        ) from error


def _why_not_written(error: BaseException | None, out: Path) -> str | None:
    """TensorStore, which Orbax uses, gives the number of the operating system's error only in its text."""
    places = {str(out), str(out.absolute()), os.path.realpath(out)}
    while error is not None:
        text = f"{error} {getattr(error, 'filename', None) or ''}"
        for number, why in (_FULL | _BARRED if any(place in text for place in places) else _FULL).items():
            said = f"os_error_code='{number}'" in text or os.strerror(number) in text
            if said or (isinstance(error, OSError) and error.errno == number):
                return why
        if any(place in text for place in places) and not (out / "checkpoints").is_dir():
            return _BARRED[errno.ENOENT]  # as TensorStore does not say it
        error = error.__cause__ or error.__context__
    return None


def _kept(out: Path) -> str:
    """What is left to resume from."""
    with contextlib.suppress(OSError):
        for path in checkpoint_files.saved(out / "checkpoints"):
            if checkpoint_files.named(path) is not None:
                return f"the checkpoint of step {path.name} is there"
    return "there is no checkpoint yet"


def not_finite(job: Job, config: Settings, state: TrainState, measured: Measured) -> UsageError:
    """Return the error to raise when `state.finite` is false.

    It names the step, the first boundary that a NaN or infinity crossed, and the batch. The state is the one before the
    step that failed, so all of it is computed from that step's own numbers.

    Args:
      job: of the run.
      config: of the run.
      state: after the failure.
      measured: by the step that failed.
    """
    step, bits = steps_done(state), float(measured.loss) / math.log(2)
    what = f"loss is {bits}" if not math.isfinite(bits) else f"gradient norm is {float(measured.gradient_norm)}"
    where, index = _first(job, config, _failed(state), step)
    return UsageError(
        f"train: the {what} at step {step + 1}: use a lower --learning-rate, or look at the batch; "
        f"first not finite: {where}; {job.batch_name(index)}"
    )


def _failed(state: TrainState) -> PyTree:
    """The parameters that the step failed with: of one replica, where each has its own."""
    if state.replicas is None:
        return state.params
    row = int(np.argmin(on_host(state.step)))
    places = jax.tree.map(lambda p: p.sharding, state.params)
    return jax.jit(lambda params: jax.tree.map(lambda p: p[row], params), out_shardings=places)(state.replicas.params)


def _first(job: Job, config: Settings, params: PyTree, step: int) -> tuple[str, int]:
    """Where, and in which batch of the step. Parameters come first: they are older than any activation."""
    indices = batch_indices(config, step)
    if broken := _parameter(params):
        return broken, indices[0]
    not_finite = jax.jit(job.not_finite)
    for index in indices:
        stages = np.flatnonzero(on_host(not_finite(params, job.batch(index))))
        if stages.size:
            return _name(int(stages[0]), job.mesh.shape[STAGE]), index
    return "nothing that crosses forward, so the loss itself or the backward pass", indices[0]


def _name(stage: int, stages: int) -> str:
    if stage + 1 < stages:
        return f"what stage {stage} sends to stage {stage + 1}"
    return f"what the last stage, {stage}, computes"


def _parameter(params: PyTree) -> str:
    """The first parameter that is not finite, by stage; "" if there is none."""
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    found = [(i, jax.tree_util.keystr(path, simple=True, separator=".")) for path, a in leaves for i in _stages(a)]
    return f"a parameter of stage {min(found)[0]}, {min(found)[1]}" if found else ""


def _stages(leaf: Array) -> list[int]:
    """The stages whose part of a parameter is not finite."""
    array = on_host(leaf)
    return np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(1)).tolist()
