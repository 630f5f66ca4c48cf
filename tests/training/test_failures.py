"""What ends a run early: signals, losses that are not finite, full disks."""

import contextlib
import dataclasses
import errno
import os
import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from snap_jax import cli, training
from snap_jax.errors import UsageError
from snap_jax.training import Stopped, checkpoints, failures, loop
from snap_jax.training.failures import Signals, WriteError, lost_process_explained, write_errors_explained
from snap_jax.training.loop import fit_saved as fit
from tests.support.loop_runs import CONFIG, begun, changed, fitted, same
from tests.support.training_jobs import Parabola


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_after_the_step_and_saves_it(tmp_path, number):
    before = signal.getsignal(number)

    def kill(progress):
        if progress.step == 20:
            os.kill(os.getpid(), number)

    with pytest.raises(Stopped, match=rf"stopped by {number.name} after step 21, which is saved; .* --resume$") as stop:
        fitted(CONFIG, tmp_path, on_progress=kill)
    assert stop.value.signal == number
    assert signal.getsignal(number) == before
    good, notes = checkpoints.last_good(tmp_path / "checkpoints")
    assert good is not None
    assert (good.name, notes) == ("21", [])


def test_a_hang_up_that_is_ignored_stays_ignored():
    """As under `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Signals() as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signals.received is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_second_signal_acts_as_ever():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets background jobs ignore it
    try:
        with Signals() as signals:
            os.kill(os.getpid(), signal.SIGINT)
            assert signals.received == signal.SIGINT
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_loss_that_is_not_finite_names_step_boundary_and_batch(tmp_path):
    """(0 - 1e20)^2 is over 3.4e38: batch 0 is 0, batch 1 is too large. Step 2 fails, and only step 10 looks."""
    with pytest.raises(UsageError) as failed:
        fitted(CONFIG, tmp_path, Parabola(scale=1e20))
    message = str(failed.value)
    assert message.startswith("train: the loss is inf at step 2: use a lower --learning-rate")
    assert message.endswith("first not finite: what stage 0 sends to stage 1; number 1")
    assert "\n" not in message


def test_of_accumulated_batches_the_bad_one_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"at step 1: .* stage 0 sends to stage 1; number 1$"):
        fitted(changed(accumulate=3), tmp_path, Parabola(scale=1e20))


def test_a_parameter_that_is_not_finite_is_named(tmp_path):
    run, programs, state = begun(CONFIG, tmp_path)
    broken = {"w": jax.device_put(jnp.array([1.0, jnp.nan]), state.params["w"].sharding)}
    with pytest.raises(UsageError, match=r"the loss is nan at step 1: .* a parameter of stage 1, w; number 0"):
        fit(run, programs, dataclasses.replace(state, params=broken), 1.0)


def test_a_step_that_fails_changes_nothing_and_none_after_it(tmp_path):
    _, programs, state = begun(CONFIG, tmp_path)
    before = jax.tree.map(np.array, state)
    state, measured = programs.step(state, jnp.float32(jnp.inf))
    assert not np.isfinite(float(measured.loss))
    state, measured = programs.step(state, jnp.float32(1.0))
    assert np.isfinite(float(measured.loss))
    assert not bool(state.finite)
    same(dataclasses.replace(state, finite=before.finite), before)


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(ocp.CheckpointManager, "save", full)
    message = r"^train: cannot write to .*: no space left: free .* \(there is no checkpoint yet\), then resume with: X$"
    with pytest.raises(UsageError, match=message), write_errors_explained(tmp_path, "X"):
        fitted(CONFIG, tmp_path / "other")
    with pytest.raises(UsageError, match=message), write_errors_explained(tmp_path, "X"):
        raise ValueError("RESOURCE_EXHAUSTED: Error writing ... [os_error_code='28']")  # as TensorStore says it
    with pytest.raises(OSError, match="Permission"), write_errors_explained(tmp_path, "X"):
        raise OSError(errno.EACCES, "Permission denied", "/elsewhere")
    with pytest.raises(UsageError, match="permission denied: change its"), write_errors_explained(tmp_path, "X"):
        raise OSError(errno.EACCES, "Permission denied", str(tmp_path / "checkpoints" / "10"))


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if os.getuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_really_full_loses_nothing(small_disk):
    """Three checkpoints of a few numbers fit; then something else fills the disk."""

    signed = []

    def fill(progress):
        if progress.step == 30:
            while list(
                (small_disk / "run" / "checkpoints").glob("*tmp*")
            ):  # threads of Orbax cannot be stopped cleanly
                time.sleep(0.01)
            signed.append(checkpoints.last_good(small_disk / "run" / "checkpoints")[0])
            (small_disk / "other").write_bytes(bytes(shutil.disk_usage(small_disk).free))

    with pytest.raises(UsageError, match="no space left"), write_errors_explained(small_disk, "X"):
        fitted(changed(steps=100), small_disk / "run", on_progress=fill)
    good, _ = checkpoints.last_good(small_disk / "run" / "checkpoints")
    assert good is not None
    assert int(good.name) >= int(signed[0].name) >= 10  # 20 may still have been on its way to the disk at step 30


def test_what_is_being_saved_is_finished_when_an_error_ends_the_run(tmp_path):
    """Its manifest is written, so a resumed run uses it; the error is that of the run."""
    _, _, state = begun(CONFIG, tmp_path / "run")
    with contextlib.suppress(ZeroDivisionError), checkpoints.Checkpoints(tmp_path / "saved") as saved:
        saved.save(7, state, 1.0)
        raise ZeroDivisionError
    assert checkpoints.last_good(tmp_path / "saved") == (tmp_path / "saved" / "7", [])


@pytest.fixture(scope="module")
def saved_once(tmp_path_factory):
    """A checkpoint of step 7, and its state."""
    folder = tmp_path_factory.mktemp("once")
    _, _, state = begun(CONFIG, folder / "run")
    with checkpoints.Checkpoints(folder / "saved", keep=1) as saved:
        saved.save(7, state, 1.0)
    return folder / "saved", state


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), MemoryError(), OSError(errno.ENOSPC, "full")])
@pytest.mark.parametrize(
    "where",
    [(ocp.CheckpointManager, "save"), (ocp.CheckpointManager, "wait_until_finished"), (checkpoints, "write_manifest"),
     (os, "fsync"), (checkpoints.checkpoint_files, "drop_older"), (shutil, "rmtree")],
)  # fmt: skip
def test_whatever_comes_while_saving_the_checkpoint_before_stays(saved_once, tmp_path, monkeypatch, where, fault):
    """The error is raised; the checkpoint before is whole, or the one that was being saved is; and saving goes on."""

    def fail(*_, **__):
        raise fault

    folder, state = shutil.copytree(saved_once[0], tmp_path / "saved"), saved_once[1]
    raised = pytest.raises(type(fault))
    with monkeypatch.context() as broken, raised, checkpoints.Checkpoints(folder, keep=1) as saved:
        broken.setattr(*where, fail)
        saved.save(8, state, 1.0)
        saved.wait()
    good, _ = checkpoints.last_good(folder)
    assert good is not None
    assert good.name in ("7", "8")
    checkpoints.drop_newer(folder, good)
    with checkpoints.Checkpoints(folder, keep=1) as saved:
        saved.save(9, state, 1.0)
    assert checkpoints.last_good(folder) == (folder / "9", [])


def test_a_directory_that_cannot_be_written_is_found_before_threads_are(tmp_path):
    """The threads of Orbax would wait for each other."""
    _, _, state = begun(CONFIG, tmp_path / "run")
    with contextlib.ExitStack() as stack:
        stack.enter_context(pytest.raises(WriteError, match="it was deleted or moved"))
        stack.enter_context(write_errors_explained(tmp_path, "X"))
        saved = stack.enter_context(checkpoints.Checkpoints(tmp_path / "saved"))
        shutil.rmtree(tmp_path / "saved")
        saved.save(7, state, 1.0)


def test_a_directory_that_is_deleted_while_it_is_written_is_one_line(tmp_path):
    """TensorStore may be the one that notices, whose errors have no number."""
    place = tmp_path / "checkpoints" / "10.orbax-checkpoint-tmp"
    explained = pytest.raises(WriteError, match=r"deleted or moved .* restore it \(there is no checkpoint yet\)")
    with explained, write_errors_explained(tmp_path, "X"):
        raise ValueError(f'NOT_FOUND: Error opening "zarr" driver: Error writing "a" in OCDBT database at "{place}"')


def test_the_command_line_ends_at_once_though_threads_still_wait(monkeypatch, capsys, tmp_path):
    def full(*_, **__):
        raise WriteError("no space left")

    monkeypatch.setattr(training, "train", full)
    monkeypatch.setattr(os, "_exit", sys.exit)
    with pytest.raises(SystemExit) as exit:
        cli.main(["train", "language", "--out", str(tmp_path / "run")])
    assert exit.value.code == 2
    assert capsys.readouterr().err.endswith("snap-jax: no space left\n")


def test_an_error_of_the_run_comes_before_that_of_its_last_checkpoint(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints.Checkpoints, "wait", full)
    with pytest.raises(ZeroDivisionError) as raised, checkpoints.Checkpoints(tmp_path / "checkpoints"):
        raise ZeroDivisionError
    assert "No space left" in raised.value.__notes__[0]


def test_a_lost_process_is_one_line_on_the_others(monkeypatch):
    """And only that: other errors, and those of a single process, stay what they are."""
    gone = RuntimeError("Gloo all-reduce failed: Connection closed by peer [127.0.0.1]:1")
    with pytest.raises(RuntimeError, match="Gloo"), lost_process_explained("X"):
        raise gone
    monkeypatch.setattr(failures, "count", lambda: 2)
    explained = pytest.raises(UsageError, match=r"another process ended .*Gloo.* resume on all processes with: X$")
    with explained, lost_process_explained("X"):
        raise gone
    with pytest.raises(RuntimeError, match="shapes"), lost_process_explained("X"):
        raise RuntimeError("shapes differ")


def test_devices_that_are_not_there_are_one_line():
    said = "Unable to initialize backend 'cuda': no GPU.\nmore lines"
    explained = pytest.raises(
        UsageError, match=r"^train: Unable .* no GPU: set JAX_PLATFORMS to .*cpu, or leave it out$"
    )
    with explained, failures.missing_backend_explained():
        raise RuntimeError(said)
    with pytest.raises(RuntimeError, match="other"), failures.missing_backend_explained():
        raise RuntimeError("other")


def test_several_processes_stop_at_the_same_step(tmp_path, monkeypatch):
    """The other process has the signal: this one stops too, at the next step at which all ask each other."""
    monkeypatch.setattr(loop, "count", lambda: 2)
    monkeypatch.setattr(loop, "from_each", lambda own: [own, signal.SIGTERM])
    with pytest.raises(Stopped, match="stopped by SIGTERM after step 10, which is saved"):
        fitted(changed(steps=100), tmp_path / "run")


def test_a_save_that_failed_waits_for_no_other_process(monkeypatch):
    """It enters the barrier of Orbax while its error is under way; one that has succeeded waits there."""
    waited = []
    monkeypatch.setattr(checkpoints.ocp.multihost, "get_barrier_sync_fn", lambda: lambda **at: waited.append(at))
    at_barrier = checkpoints._all_or_error()
    at_barrier(key="end", timeout_ms=1)
    with pytest.raises(OSError, match="full"):  # noqa: PT012 - as Orbax does it
        try:
            raise OSError("full")
        finally:
            at_barrier(key="end", timeout_ms=1)
    assert waited == [{"key": "end", "timeout_ms": 1}]
