"""Training: a run directory that is complete, repeatable, and says what the compiled program moved."""

import dataclasses
import json
import math

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from snap_jax import training
from snap_jax.codecs.link_spec import as_codec
from snap_jax.data import text_loader
from snap_jax.errors import UsageError
from snap_jax.traffic import Traffic
from snap_jax.training.config import LanguageConfig
from snap_jax.training.result_json import spike_statistics
from tests.support.training_jobs import write_text


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_text(tmp_path_factory.mktemp("data"))


def tiny(data, **changes):
    small = LanguageConfig(
        data=str(data),
        model="transformer",
        link="count:2",
        layers=4,
        width=16,
        heads=2,
        seq_len=32,
        batch=4,
        microbatches=2,
        steps=30,
    )
    return dataclasses.replace(small, **changes)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "out"
    seen = []
    result = training.train(tiny(data), out, on_progress=seen.append)
    return out, result, seen


def test_it_learns_and_says_so_as_it_goes(run):
    out, result, seen = run
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [p.step for p in seen[2:]] == [10, 20, 30]
    assert seen[0] == training.Progress(0, 30)
    assert (seen[1].step, seen[1].seconds > 0) == (0, True)  # compiled
    assert lines[-1]["loss_bits"] < lines[0]["loss_bits"] - 0.5
    assert {"heldout_bits", "firing_rate", "entropy_bits_per_element", "threshold_mean"} <= lines[-1].keys()
    assert len(lines[-1]["threshold_mean"]) == 3
    assert result["quality"]["metric"] == "bits_per_byte"
    assert result["quality"]["value"] == pytest.approx(lines[-1]["heldout_bits"], rel=0.2)


def test_wire_bytes_are_those_of_the_program_and_of_the_codec(run, data):
    """4 stages, 2 microbatches of 2 windows of 32 bytes, 16 channels: 5 ticks, 3 links, 5 levels in 3 bits."""
    out, result, _ = run
    wire = result["wire"]
    elements = 3 * 5 * 2 * 32 * 16
    spikes = 3 * 5 * as_codec("count:2").payload_bytes((2, 32, 16))
    assert spikes == elements * 3 // 8 + 3 * 5
    assert wire["forward_bytes_per_step"] == spikes + 3 * 16 * 4
    assert wire["backward_bytes_per_step"] == elements * 2 + 3 * 5  # bf16 and a header
    assert wire["max_bits_per_element"] == 8 * wire["forward_bytes_per_step"] / elements
    saved = Traffic.from_json((out / "traffic.json").read_text())
    crossing = saved.where(lambda t: "boundary" in t.path)
    assert crossing.sent_bytes == wire["forward_bytes_per_step"] + wire["backward_bytes_per_step"]
    assert sum(b["forward_bytes"] for b in wire["by_boundary"]) == wire["forward_bytes_per_step"]


def test_spike_statistics_are_possible_numbers(run):
    _, result, _ = run
    wire = result["wire"]
    assert 0 < wire["firing_rate"] < 1
    assert 0 < wire["entropy_bits_per_element"] <= math.log2(5)
    rates = [b["firing_rate"] for b in wire["by_boundary"]]
    assert wire["firing_rate"] == pytest.approx(np.mean(rates))


def test_the_raster_shows_heldout_text(run, data):
    out, _, _ = run
    with np.load(out / "spikes.npz") as arrays:
        shown, spikes = arrays["text"], arrays["spikes"]
    assert shown.tobytes() in text_loader.load(str(data)).heldout.tobytes()
    assert spikes.shape == (3, 32, 16)
    assert set(np.unique(spikes)) <= set(range(-2, 3))


def test_prices_baselines_versions_and_command_are_there(run, data):
    _, result, _ = run
    assert set(result["cost"]) == {"UCIe standard package", "PCIe 5 x16", "400G Ethernet"}
    ucie, ethernet = result["cost"]["UCIe standard package"], result["cost"]["400G Ethernet"]
    assert 0 < ucie["energy_j_per_step"][0] <= ucie["energy_j_per_step"][1]
    assert ethernet["energy_j_per_step"] is None
    assert "no source" in ethernet["energy_note"]
    heldout = text_loader.load(str(data)).heldout
    assert result["baselines"]["gzip_bits_per_byte"] == text_loader.gzip_bits(heldout)
    assert result["versions"]["jax"]
    assert result["command"].startswith(
        f"snap-jax train language --model transformer --data {data} --link count:2 --width 16"
    )
    assert result["seconds"] > 0


def test_the_checkpoint_holds_the_final_parameters(run, data):
    out, result, _ = run
    prepared = training.prepare(tiny(data))
    with ocp.StandardCheckpointer() as checkpointer:
        params = checkpointer.restore(out / "checkpoints" / "final", prepared.params)
    bits, _ = training.evaluate(prepared, params, prepared.heldout)
    assert bits == pytest.approx(result["quality"]["value"], rel=1e-6)


def test_the_same_seed_gives_the_same_run(run, data):
    """The first step of two runs: loss and parameters, bit for bit."""
    first, second = training.prepare(tiny(data)), training.prepare(tiny(data))
    tokens = first.batch(0)
    np.testing.assert_array_equal(tokens, second.batch(0))
    step = jax.jit(first.task.loss_and_gradient)
    jax.tree.map(np.testing.assert_array_equal, step(first.params, tokens), step(second.params, tokens))


def test_a_link_without_thresholds_has_none_to_show(data):
    """At most a quarter of the elements fires."""
    prepared = training.prepare(tiny(data, link="topk:0.25", layers=2, devices=2))
    _, seen = training.evaluate(prepared, prepared.params, prepared.heldout[:2])
    assert 0 < spike_statistics(seen)["firing_rate"] <= 0.25
    assert "threshold_mean" not in prepared.evaluate_some(prepared.params)


def test_a_finished_run_is_not_overwritten_by_accident(run, data):
    out, _, _ = run
    before = (out / "result.json").read_text()
    with pytest.raises(UsageError, match="already holds a finished run: choose another --out, or pass --overwrite"):
        training.train(tiny(data), out)
    assert (out / "result.json").read_text() == before


def test_a_loss_that_is_not_finite_stops_the_run(data, tmp_path):
    with pytest.raises(UsageError, match=r"the loss is \w+ at step \d+: use a lower --learning-rate"):
        training.train(tiny(data, model="rwkv", learning_rate=1e6, link="fp32", devices=1, layers=1), tmp_path / "nan")
    assert not (tmp_path / "nan" / "result.json").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"devices": 3}, "--devices 3: 3 pipeline stages do not divide --layers 4: use 1, 2, 4"),
        ({"microbatches": 3}, "--microbatches 3 does not divide --batch 4"),
        ({"steps": 0}, "--steps 0: use 1 or more"),
        ({"link": "int44"}, "Int: bits=44"),
        (
            {"seq_len": 100_000},
            r"--seq-len 100000 needs a .* text of at least 100001 bytes, .*: use a longer text, or --seq-len \d+",
        ),
        ({"model": "transformer", "heads": 16}, "--heads 16 .* --width 16 into heads of an even size: use 1, 2, 4, 8$"),
        ({"model": "transformer", "width": 7, "heads": 1}, "--width 7 into heads of an even size: use an even width$"),
        ({"model": "rwkv", "heads": 3}, "--heads 3 does not divide --width 16: use 1, 2, 4, 8, 16$"),
    ],
)
def test_mistakes_are_found_before_anything_is_written(data, tmp_path, changes, message):
    with pytest.raises(UsageError, match=message):
        training.train(tiny(data, **changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()
