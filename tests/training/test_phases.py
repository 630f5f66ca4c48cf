"""A budget from scratch: a dense phase, calibration and the budgeted phase in one command."""

import dataclasses
import json
from pathlib import Path

import pytest

from snap_jax import cli, training
from snap_jax.errors import UsageError
from snap_jax.training import lifecycle
from snap_jax.training.config import LanguageConfig, VisionConfig
from snap_jax.training.phases import dense_phase

SMALL = {"layers": 2, "width": 16, "heads": 2, "seq_len": 16, "batch": 4, "microbatches": 2, "heldout_bytes": 256}


@pytest.fixture
def config(tmp_path):
    (tmp_path / "text").write_bytes(bytes(range(32, 127)) * 40)
    return LanguageConfig(
        data=str(tmp_path / "text"),
        devices=4,
        layout="data:2+pipeline:2",
        budget=1.5,
        context_tokens=0,
        steps=3,
        **SMALL,
    )


def test_one_command_trains_both_phases_and_reports_them(config, tmp_path):
    """With replicas: both phases in two directories, the result with the quality and the bits of both."""
    notes, out = [], tmp_path / "one"
    result = training.train(dataclasses.replace(config, dense_steps=2), out, on_note=notes.append)
    assert [note.partition(":")[0] for note in notes] == ["phase 1 of 2", "phase 2 of 2"]
    dense = json.loads((tmp_path / "one-dense" / "result.json").read_text())
    assert json.loads((out / "result.json").read_text()) == result
    assert [(one["phase"], one["steps"], one["quality"]) for one in result["phases"]] == [
        ("dense", 2, dense["quality"]),
        ("budgeted", 3, result["quality"]),
    ]
    assert dense["config"]["link"] == "fp32"
    assert "--budget 1.5 --dense-steps 2 " in result["command"]
    assert "--init-from" not in result["command"]
    wire = result["wire"]
    assert wire["budget"] == 1.5
    assert 0 < wire["bits_per_element"] < wire["max_bits_per_element"]
    assert wire["budget_bits_per_element"] == wire["bits_per_element"]  # no tokens are needed
    assert wire["budget_met"] == (wire["bits_per_element"] <= 1.5)
    again = []
    assert training.train(dataclasses.replace(config, dense_steps=2), out, resume=True, on_note=again.append) == result
    assert sum("nothing to resume" in note for note in again) == 2


def test_a_directory_that_cannot_be_had_is_told_before_the_dense_phase(config, tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "report.html").write_text("of somebody else")
    with pytest.raises(UsageError, match=r"one holds report.html|one .*report.html"):
        training.train(config, tmp_path / "one")
    assert not (tmp_path / "one-dense").exists()


def test_the_dense_phase_has_what_both_phases_share():
    """All settings of the budget have their defaults, whatever they were; the others stay."""
    given = VisionConfig(
        budget=2.0, link="count:7+rans", grad_link="int8", rank=4, anneal=0.5, distill=0.5, width=8, steps=9, seed=3
    )
    assert dense_phase(given) == VisionConfig(mode="dense", width=8, steps=9, seed=3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dense_steps": 3}, "--dense-steps 3: only a budget without --init-from has a dense phase"),
        ({"dense_steps": 3, "budget": 1.0, "init_from": "runs/a"}, "--dense-steps 3: only a budget without"),
        ({"dense_steps": 0, "budget": 1.0}, "--dense-steps 0: use 1 or more"),
        ({"rank": 3}, "--rank 3: boundaries are calibrated on the activations of a trained model: train one with"),
    ],
)
def test_flags_that_mean_nothing(fields, message):
    with pytest.raises(UsageError, match=message):
        LanguageConfig(**fields)


def test_without_a_directory_a_budget_needs_a_run_to_start_from(config):
    for call in (lambda: training.measure(config), lambda: lifecycle.train(config, Path("x"))):
        with pytest.raises(UsageError, match=r"--budget 1.5 starts from a dense run: give init_from, or use"):
            call()


def test_a_dry_run_shows_both_phases(config, tmp_path, capsys):
    words = "--devices 2 --layers 2 --width 16 --heads 2 --seq-len 16 --batch 4 --microbatches 2 --budget 1.5"
    cli.main(["train", "language", "--data", config.data, *words.split(), "--distill", "0.5", "--dry-run"])
    shown = capsys.readouterr().out
    assert shown.count("memory of one device") == 2
    assert not (tmp_path / "runs").exists()
