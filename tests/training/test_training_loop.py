"""The loop on a job of two numbers: what a step does, what is kept, when it stops, what it says when it fails."""

import dataclasses
import errno
import json
import os
import shutil
import signal
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from tensorboardX.proto.event_pb2 import Event

from snap_jax.errors import UsageError
from snap_jax.training import Stopped, checkpoints
from snap_jax.training.config import LanguageConfig
from snap_jax.training.failures import Signals, full_disk_explained
from snap_jax.training.loop import fit_saved as fit
from snap_jax.training.metrics import lines
from snap_jax.training.optimizer import schedule
from snap_jax.training.train_step import averaged, batches_of, compile_step, start
from tests.support.training_jobs import Parabola, run_of

CONFIG = LanguageConfig(steps=40, learning_rate=0.1, layers=2, devices=2)


def changed(**changes):
    return dataclasses.replace(CONFIG, **changes)


def begun(config, out, job=None, on_progress=lambda _: None):
    run = run_of(config, out, job, on_progress)
    state = start(run.job, config, run.optimizer)
    return run, compile_step(run.job, config, run.optimizer, state), state


def fitted(config, out, job=None, on_progress=lambda _: None):
    run, step, state = begun(config, out, job, on_progress)
    return fit(run, step, state, 1.0)


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_accumulated_gradients_are_the_mean_of_the_batches(tmp_path):
    """Step 1 of 3 batches reads 3, 4, 5. Mean of (w - b)^2 over stages and batches; gradient (w - mean b) a stage."""
    config = changed(accumulate=3)
    run, step, state = begun(config, tmp_path)
    assert batches_of(run.job, config, 1).tolist() == [3, 4, 5]
    w, numbers = np.array([3.0, -1.0]), np.array([3.0, 4.0, 5.0])
    loss = ((w - numbers[:, None]) ** 2).mean()
    gradient = (w - numbers.mean()) * 2 / 2
    _, measured = step(state, batches_of(run.job, config, 1))
    assert float(measured.loss) == pytest.approx(loss)
    assert float(measured.gradient_norm) == pytest.approx(np.sqrt((gradient**2).sum()))
    assert measured.seen.elements.tolist() == [3, 3]


def test_the_mean_of_the_parameters_is_what_is_evaluated(tmp_path):
    """`ema = sum (1 - d) d^(n - i) w_i`, over `1 - d^n`: of weights that stand still, the weights."""
    run, step, state = begun(changed(ema=0.5), tmp_path)
    same(averaged(state, 0.5), state.params)
    seen = []
    for index in range(3):
        state, _ = step(state, batches_of(run.job, run.config, index))
        seen.append(np.asarray(state.params["w"]))
    expected = (seen[0] / 8 + seen[1] / 4 + seen[2] / 2) / (1 - 1 / 8)
    np.testing.assert_allclose(averaged(state, 0.5)["w"], expected, rtol=1e-6)
    assert averaged(dataclasses.replace(state, ema=None), 0.5) is state.params


def test_schedules():
    """Warm-up over 2 of 40 steps; 19 steps later, half way from 1 to 0.05."""
    at = lambda kind: [float(schedule(changed(schedule=kind, learning_rate=1.0))(s)) for s in (0, 1, 2, 21, 40)]
    np.testing.assert_allclose(at("cosine"), [0, 0.5, 1, 0.525, 0.05], rtol=1e-6)
    np.testing.assert_allclose(at("linear"), [0, 0.5, 1, 0.525, 0.05], rtol=1e-6)
    np.testing.assert_allclose(at("constant"), [0, 0.5, 1, 1, 1], rtol=1e-6)


def test_patience_ends_a_run_and_its_last_state_is_saved(tmp_path):
    """The sum of the weights climbs towards the growing numbers, so the first evaluation stays the best."""
    state = fitted(changed(steps=100, patience=2, save_every=1000), tmp_path)
    logged = lines(tmp_path / "metrics.jsonl")
    evaluated = [line["heldout_bits"] for line in logged if "heldout_bits" in line]
    assert evaluated == sorted(evaluated)
    assert (int(state.step), int(state.stale), float(state.best)) == (30, 2, np.float32(evaluated[0]))
    good, _ = checkpoints.last_good(tmp_path / "checkpoints")
    assert good is not None
    same(checkpoints.restore(good, state), state)
    run, step, _ = begun(changed(steps=100, patience=2), tmp_path / "again")
    assert fit(run, step, state, 1.0).step == 30


def test_small_state_of_others_is_saved_too(tmp_path):
    _, _, state = begun(CONFIG, tmp_path)
    state = dataclasses.replace(state, extra={"controller": {"multiplier": jnp.float32(0.25)}})
    with checkpoints.Checkpoints(tmp_path / "checkpoints") as saved:
        saved.save(1, state, 0.0)
        saved.wait()
    empty = jax.tree.map(jnp.zeros_like, state)
    same(checkpoints.restore(tmp_path / "checkpoints" / "1", empty), state)


@pytest.mark.parametrize(("save_every", "kept"), [(None, ["20", "30", "40"]), (7, ["28", "35", "40"])])
def test_the_last_three_checkpoints_are_kept(tmp_path, save_every, kept):
    fitted(changed(save_every=save_every), tmp_path)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == kept


@pytest.fixture(scope="module")
def run_of_40(tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    return out, fitted(CONFIG, out)


def truncate(path):
    os.truncate(path, path.stat().st_size - 1)


def zero(path):
    path.write_bytes(bytes(path.stat().st_size))


def delete(path):
    path.unlink()


def unsign(path):
    next(parent for parent in path.parents if parent.name == "40").joinpath("manifest.json").unlink()


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (truncate, r"has \d+ bytes, not \d+"),
        (zero, "has other bytes than were saved"),
        (delete, "is missing"),
        (unsign, "no manifest: saving was cut short"),
    ],
)
def test_a_damaged_checkpoint_is_not_used(run_of_40, tmp_path, damage, why):
    whole, state = run_of_40
    folder = tmp_path / "checkpoints"
    shutil.copytree(whole / "checkpoints", folder)
    damage(max((folder / "40").rglob("d/*"), key=lambda path: path.stat().st_size))
    good, notes = checkpoints.last_good(folder)
    assert good == folder / "30"
    assert len(notes) == 1
    with pytest.raises(AssertionError, match=why):
        assert notes[0] == ""
    checkpoints.drop_newer(folder, good)
    assert int(checkpoints.restore(good, state).step) == 30
    assert checkpoints.last_good(folder) == (good, [])


def test_no_good_checkpoint_at_all(tmp_path):
    """None; the first cut short, from which a run begins again; and two that were once good."""
    assert checkpoints.last_good(tmp_path / "checkpoints") == (None, [])
    (tmp_path / "10").mkdir()
    none, notes = checkpoints.last_good(tmp_path)
    assert none is None
    assert notes == ["checkpoint 10 is not used: it has no manifest: saving was cut short"]
    checkpoints.drop_newer(tmp_path, None)
    assert list(tmp_path.iterdir()) == []
    for step in ("10", "20"):
        (tmp_path / step).mkdir()
        (tmp_path / step / "manifest.json").write_text("{")
    with pytest.raises(UsageError, match=r"no checkpoint is intact \(checkpoint 20 is not used: .*--overwrite"):
        checkpoints.last_good(tmp_path)


def test_a_checkpoint_of_another_state_is_refused(run_of_40):
    out, state = run_of_40
    other = dataclasses.replace(state, params={"v": jnp.zeros(2)})
    with pytest.raises(UsageError, match=r"40 does not hold the state of this run \(.*\): start again with"):
        checkpoints.restore(out / "checkpoints" / "40", other)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
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
    run, step, state = begun(CONFIG, tmp_path)
    broken = {"w": jax.device_put(jnp.array([1.0, jnp.nan]), state.params["w"].sharding)}
    with pytest.raises(UsageError, match=r"the loss is nan at step 1: .* a parameter of stage 1, w; number 0"):
        fit(run, step, dataclasses.replace(state, params=broken), 1.0)


def test_a_step_that_fails_changes_nothing_and_none_after_it(tmp_path):
    _, step, state = begun(CONFIG, tmp_path)
    before = jax.tree.map(np.array, state)
    state, measured = step(state, jnp.float32(jnp.inf))
    assert not np.isfinite(float(measured.loss))
    state, measured = step(state, jnp.float32(1.0))
    assert np.isfinite(float(measured.loss))
    assert not bool(state.finite)
    same(dataclasses.replace(state, finite=before.finite), before)


def events(out):
    """What TensorBoard reads: records of a length (8 bytes), its checksum (4), the event, its checksum (4)."""
    (path,) = out.glob("events.out.tfevents.*")
    data, found = path.read_bytes(), []
    while data:
        size = int.from_bytes(data[:8], "little")
        found.append(Event.FromString(data[12 : 12 + size]))
        data = data[16 + size :]
    return [(event.step, {v.tag: v.simple_value for v in event.summary.value}) for event in found[1:]]


def test_tensorboard_is_told_what_the_metrics_say(run_of_40):
    out, _ = run_of_40
    logged = lines(out / "metrics.jsonl")
    assert [step for step, _ in events(out)] == [line["step"] for line in logged] == [10, 20, 30, 40]
    for (_, told), line in zip(events(out), logged, strict=True):
        assert told["loss_bits"] == np.float32(line["loss_bits"])
        assert {"heldout_bits", "gradient_norm", "firing_rate", "bits_per_element"} <= told.keys()


def test_metrics_end_at_the_first_line_that_is_not_whole(tmp_path):
    path = tmp_path / "metrics.jsonl"
    whole = [json.dumps({"step": step, "seconds": 1.0}) + "\n" for step in (10, 20)]
    path.write_text("".join(whole) + '{"step": 30, "sec')
    assert [line["step"] for line in lines(path)] == [10, 20]
    path.write_text(whole[0] + "\0\0\0\n" + whole[1])
    assert [line["step"] for line in lines(path)] == [10]


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(ocp.CheckpointManager, "save", full)
    message = r"^train: cannot write to .*: no space left; all .* still there: free some space, then resume with: X$"
    with pytest.raises(UsageError, match=message), full_disk_explained(tmp_path, "X"):
        fitted(CONFIG, tmp_path / "other")
    with pytest.raises(UsageError, match=message), full_disk_explained(tmp_path, "X"):
        raise ValueError("RESOURCE_EXHAUSTED: Error writing ... [os_error_code='28']")  # as TensorStore says it
    with pytest.raises(OSError, match="Permission"), full_disk_explained(tmp_path, "X"):
        raise OSError(errno.EACCES, "Permission denied")


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
            signed.append(checkpoints.last_good(small_disk / "run" / "checkpoints")[0])
            (small_disk / "other").write_bytes(bytes(shutil.disk_usage(small_disk).free))

    with pytest.raises(UsageError, match="no space left"), full_disk_explained(small_disk, "X"):
        fitted(changed(steps=100), small_disk / "run", on_progress=fill)
    good, _ = checkpoints.last_good(small_disk / "run" / "checkpoints")
    assert good is not None
    assert int(good.name) >= int(signed[0].name) >= 10  # 20 may still have been on its way to the disk at step 30
