"""Stopped and resumed: the very bits of a run that was not; and of no other run."""

import dataclasses
import json
import os
import shutil
import signal
from pathlib import Path

import jax
import numpy as np
import pytest

from snap_jax import cli, training
from snap_jax.errors import UsageError
from snap_jax.training import Stopped, checkpoints, run_dir, starting
from snap_jax.training.config import LanguageConfig
from tests.support.training_jobs import write_text


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return LanguageConfig(
        data=write_text(tmp_path_factory.mktemp("data")),
        model="transformer", link="count:2", layers=2, devices=2, width=8, heads=2, seq_len=8, batch=2, microbatches=2,
        steps=40, ema=0.9, accumulate=2, heldout_bytes=256,
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    """Never stopped; `--requeue` where there is nothing begins it."""
    out = tmp_path_factory.mktemp("whole") / "run"
    return out, training.train(config, out, requeue=True)


@pytest.fixture(scope="module")
def stopped(config, tmp_path_factory):
    """Stopped by SIGTERM after step 21, between two lines of the metrics; then killed while logging step 30."""
    out = tmp_path_factory.mktemp("stopped") / "run"

    def kill(progress):
        if progress.step == 20:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped, match="after step 21"):
        training.train(config, out, on_progress=kill)
    with (out / "metrics.jsonl").open("a") as metrics:
        metrics.write('{"step": 30, "loss_bits": 1.0, "seconds": 1.0}\n{"step": 31, "lo')
    return out


def logged(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def last_arrays(out):
    """All that changes: parameters, optimizer, mean, step, best."""
    good, _ = checkpoints.last_good(out / "checkpoints")
    assert good is not None
    return checkpoints.arrays(good)


def assert_same_run(out, other):
    jax.tree.map(np.testing.assert_array_equal, last_arrays(out), last_arrays(other))
    assert {"step", "best", "ema.boundary.log_threshold.value"} <= last_arrays(out).keys()
    assert logged(out) == logged(other)
    results = [run_dir.finished(folder) for folder in (out, other)]
    for name in ("quality", "wire", "cost", "baselines", "config"):
        assert results[0][name] == results[1][name]


def test_a_resumed_run_is_the_run(config, whole, stopped, tmp_path):
    out, notes = tmp_path / "run", []
    shutil.copytree(stopped, out)
    result = training.train(config, out, resume=True, on_note=notes.append)
    assert notes == ["resumed at step 21 of 40; 9 steps that were logged are done again"]
    assert result["training"] == {"steps": 40, "stopped_early": False, "resumed_at": [21], "notes": notes}
    assert [line["step"] for line in logged(out)] == [10, 20, 30, 40]
    assert_same_run(whole[0], out)


def test_with_its_last_checkpoint_damaged_it_goes_on_from_the_one_before(config, stopped, tmp_path):
    out, notes = tmp_path / "run", []
    shutil.copytree(stopped, out)
    largest = max((out / "checkpoints" / "21").rglob("d/*"), key=lambda path: path.stat().st_size)
    largest.write_bytes(bytes(largest.stat().st_size))
    run, state = starting.take_up(config, out, run_dir.record(out), lambda _: None, notes.append)
    assert int(state.step) == 20
    assert run.seconds > checkpoints.facts(out / "checkpoints" / "20")["seconds"]
    assert notes[0].startswith("checkpoint 21 is not used: ")
    assert notes[1:] == ["resumed at step 20 of 40; 10 steps that were logged are done again"]
    assert run_dir.record(out) == run.record
    assert (run.record.notes, run.record.resumed_at) == (tuple(notes), (20,))
    assert not (out / "checkpoints" / "21").exists()


def test_a_finished_run_is_not_resumed(config, whole, capsys):
    out, result = whole
    notes = []
    assert training.train(config, out, resume=True, on_note=notes.append) == json.loads(json.dumps(result))
    assert notes == [f"the run in {out} is finished: nothing to resume; give more --steps to train it on"]


def test_a_finished_run_is_trained_on_with_more_steps(config, whole, tmp_path):
    """The rate of step 41 is that of 50 steps, of which 2 are warm-up: 38 of 48 steps after the peak."""
    out, notes = tmp_path / "run", []
    shutil.copytree(whole[0], out)
    result = training.train(dataclasses.replace(config, steps=50), out, resume=True, on_note=notes.append)
    cosine = (1 + np.cos(np.pi * (40 - 2) / (50 - 2))) / 2
    rate = 0.008 * (0.05 + 0.95 * cosine)
    assert notes[0].startswith(f"--steps 40 is now 50: the learning rate of step 41 is {rate:.3g}, on the schedule of ")
    assert "50 steps, and not 0.0004; evaluations are 10 steps apart" in notes[0]
    assert notes[1:] == ["resumed at step 40 of 50"]
    assert result["training"]["steps"] == result["config"]["steps"] == run_dir.record(out).config["steps"] == 50
    assert logged(out)[:4] == logged(whole[0])
    assert logged(out)[4]["step"] == 50
    assert json.loads((out / "result-step-40.json").read_text()) == json.loads((whole[0] / "result.json").read_text())
    with pytest.raises(UsageError, match="has done 50 steps, not --steps 40: give more to train on"):
        training.train(config, out, resume=True)


def test_a_run_goes_on_where_it_and_its_data_were_moved_to(config, stopped, tmp_path):
    """Copied, then beside a text of another name; and no run goes on with another text in the place of its own."""
    out, moved = tmp_path / "copy", tmp_path / "moved.txt"
    shutil.copytree(stopped, out)
    moved.write_bytes(Path(config.data).read_bytes())
    there = dataclasses.replace(config, data=str(moved))
    run_dir.check_config(out, run_dir.record(out), there)
    run, state = starting.take_up(there, out, run_dir.record(out), lambda _: None, lambda _: None)
    assert int(state.step) == 21
    assert run.record.config["data"] == run_dir.record(out).config["data"] == str(moved)
    moved.write_bytes(Path(config.data).read_bytes()[:-1])
    with pytest.raises(
        UsageError, match=r"--data .*moved.txt has changed since the run in .*copy began: restore it, or"
    ):
        starting.take_up(there, out, run_dir.record(out), lambda _: None, lambda _: None)


def test_a_run_is_resumed_only_as_what_it_was(config, stopped, tmp_path):
    for changes, message in (
        ({"seed": 1}, r"has --seed 0, the command line --seed 1: give --seed 0, or start another run"),
        ({"steps": 20}, r"--resume: the run has done 21 steps, more than --steps 20: give 21 or more"),
        ({"link": "fp32"}, r"has --link count:2, the command line --link fp32: give --link count:2"),
        ({"learning_rate": 1.0}, r"has --learning-rate 0.008, .* give --learning-rate 0.008"),
    ):
        with pytest.raises(UsageError, match=message):
            training.train(dataclasses.replace(config, **changes), stopped, resume=True)
    longer = dataclasses.replace(config, save_every=7, keep=1, patience=2, steps=80)
    run_dir.check_config(stopped, run_dir.record(stopped), longer)
    with pytest.raises(UsageError, match=r"--data .* has changed since the run in .*/x began"):
        run_dir.check_sources(tmp_path / "x", run_dir.record(stopped), config, "other", "")


def test_a_stopped_run_is_not_lost_by_accident(config, stopped):
    with pytest.raises(UsageError, match="holds a stopped run: continue it with --resume, or replace it with"):
        training.train(config, stopped)
    with pytest.raises(UsageError, match=r"--resume continues a run, .*, --overwrite replaces it: give one of them"):
        training.train(config, stopped, resume=True, overwrite=True)


def test_what_is_not_there_is_not_resumed(config, tmp_path):
    """A mistyped `--out` starts nothing, and names the run that may have been meant."""
    (tmp_path / "runs" / "first").mkdir(parents=True)
    (tmp_path / "runs" / "first" / "run.json").write_text("{}")
    with pytest.raises(UsageError, match=r"--resume: there is no run in .*/frist \(did you mean .*/first\?\): check"):
        training.train(config, tmp_path / "runs" / "frist", resume=True)
    with pytest.raises(UsageError, match=r"--resume: there is no run in .*/other: check --out, or start .* --requeue"):
        training.train(config, tmp_path / "runs" / "other", resume=True)
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["first"]


def test_a_damaged_record_is_said_to_be(tmp_path):
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(UsageError, match=r"cannot read .*run.json .*: choose another --out"):
        run_dir.record(tmp_path)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_command_line_says_how_to_go_on(monkeypatch, capsys, number, code, tmp_path):
    def stop(*_, **__):
        raise Stopped("stopped; go on with: snap-jax train", number)

    monkeypatch.setattr(training, "train", stop)
    with pytest.raises(SystemExit) as exit:
        cli.main(["train", "language", "--out", str(tmp_path / "run")])
    assert exit.value.code == code
    assert capsys.readouterr().err == "snap-jax: stopped; go on with: snap-jax train\n"


def test_how_to_resume_is_the_command_line(config):
    line = run_dir.how_to_resume(dataclasses.replace(config, data="a text"), Path("my runs"))
    assert line.startswith("snap-jax train language --model transformer --data 'a text' --link count:2 --devices 2")
    assert line.endswith("--out 'my runs' --resume")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: path.write_text("[" * 100_000), "nested too deep"),
        (lambda path: path.write_bytes(b"\xff"), "can't decode"),
        (os.mkfifo, "no regular file"),
        (lambda path: path.touch() or os.truncate(path, 2**27), "134,217,728 bytes"),
    ],
)
def test_what_cannot_be_a_record_is_refused_and_not_waited_for(make, why, tmp_path):
    """Nor a result, whose message says what to do with it."""
    make(tmp_path / "run.json")
    with pytest.raises(UsageError, match=rf"cannot read .*run.json \(.*{why}.*\): choose another --out"):
        run_dir.record(tmp_path)
    (tmp_path / "run.json").rename(tmp_path / "result.json")
    with pytest.raises(UsageError, match=rf"cannot read .*result.json \(.*{why}.*\): delete it, and --resume writes"):
        run_dir.finished(tmp_path)
