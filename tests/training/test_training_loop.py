"""The loop on a job of two numbers: what a step does, what is kept, when it stops, what it says when it fails."""

import dataclasses
import json
import os
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from snap_jax.errors import UsageError
from snap_jax.training import checkpoints, lifecycle
from snap_jax.training.loop import BestInMemory
from snap_jax.training.loop import fit as fit_unsaved
from snap_jax.training.loop import fit_saved as fit
from snap_jax.training.metrics import lines
from snap_jax.training.optimizer import schedule
from snap_jax.training.train_step import averaged, batches_of
from tests.support.loop_runs import CONFIG, begun, changed, fitted, same


def test_accumulated_gradients_are_the_mean_of_the_batches(tmp_path):
    """Step 1 of 3 batches reads 3, 4, 5. Mean of (w - b)^2 over stages and batches; gradient (w - mean b) a stage."""
    config = changed(accumulate=3)
    run, programs, state = begun(config, tmp_path)
    assert batches_of(run.job, config, 1).tolist() == [3, 4, 5]
    w, numbers = np.array([3.0, -1.0]), np.array([3.0, 4.0, 5.0])
    loss = ((w - numbers[:, None]) ** 2).mean()
    gradient = (w - numbers.mean()) * 2 / 2
    _, measured = programs.step(state, batches_of(run.job, config, 1))
    assert float(measured.loss) == pytest.approx(loss)
    assert float(measured.gradient_norm) == pytest.approx(np.sqrt((gradient**2).sum()))
    assert measured.seen.elements.tolist() == [3, 3]


def test_the_mean_of_the_parameters_is_what_is_evaluated(tmp_path):
    """`ema = sum (1 - d) d^(n - i) w_i`, over `1 - d^n`: of weights that stand still, the weights."""
    run, programs, state = begun(changed(ema=0.5), tmp_path)
    same(averaged(state, 0.5), state.params)
    seen = []
    for index in range(3):
        state, _ = programs.step(state, batches_of(run.job, run.config, index))
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
    run, programs, _ = begun(changed(steps=100, patience=2), tmp_path / "again")
    assert fit(run, programs, state, 1.0).step == 30
    best, notes = lifecycle._best(tmp_path, state)
    assert (int(best.step), notes) == (10, [])
    truncate(max((tmp_path / "checkpoints" / "10").rglob("d/*"), key=lambda path: path.stat().st_size))
    last, notes = lifecycle._best(tmp_path, state)
    assert last is state
    assert notes[0].startswith("checkpoint 10, the best, is not used")
    assert notes[1] == "the result is that of the last step"


def test_small_state_of_others_is_saved_too(tmp_path):
    _, _, state = begun(CONFIG, tmp_path)
    state = dataclasses.replace(state, extra={"controller": {"multiplier": jnp.float32(0.25)}})
    with checkpoints.Checkpoints(tmp_path / "checkpoints") as saved:
        saved.save(1, state, 0.0)
        saved.wait()
    empty = jax.tree.map(jnp.zeros_like, state)
    same(checkpoints.restore(tmp_path / "checkpoints" / "1", empty), state)


@pytest.mark.parametrize(
    ("save_every", "keep", "kept"),
    [(None, 3, ["10", "20", "30", "40"]), (7, 3, ["10", "28", "35", "40"]), (None, 1, ["10", "40"])],
)
def test_the_newest_checkpoints_are_kept_and_the_best(tmp_path, save_every, keep, kept):
    """The held-out loss of this job grows, so the first evaluation, after step 10, is the best."""
    fitted(changed(save_every=save_every, keep=keep), tmp_path)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == kept
    assert checkpoints.best(tmp_path / "checkpoints") == (tmp_path / "checkpoints" / "10", [])


def test_the_best_checkpoint_is_the_state_after_its_step(tmp_path):
    """And it is known to a run that is resumed, and said to be damaged where it is."""
    folder = tmp_path / "run" / "checkpoints"
    last = fitted(changed(keep=1), tmp_path / "run")
    ten = fitted(changed(steps=10, schedule="constant"), tmp_path / "ten")
    assert int(checkpoints.restore(folder / "10", last).step) == int(ten.step) == 10
    with checkpoints.Checkpoints(folder, keep=1) as saved:
        saved.save(50, last, 1.0)
    assert sorted(path.name for path in folder.iterdir()) == ["10", "50"]
    truncate(max((folder / "10").rglob("d/*"), key=lambda path: path.stat().st_size))
    none, notes = checkpoints.best(folder)
    assert none is None
    assert re.fullmatch(r"checkpoint 10, the best, is not used: .* has \d+ bytes, not \d+", notes[0])


def test_a_run_with_patience_that_writes_nothing_keeps_its_best_state(tmp_path):
    run, programs, state = begun(changed(steps=100, patience=2), tmp_path)
    kept = BestInMemory()
    last = fit_unsaved(run, programs, state, 1.0, lambda _: None, kept)
    assert (int(kept.best.step), int(last.step)) == (10, 30)


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
    with pytest.raises(UsageError, match=r"40 does not hold the state of this run \(.*\): resume with the version"):
        checkpoints.restore(out / "checkpoints" / "40", other)


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
