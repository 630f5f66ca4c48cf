"""Tiny experiments from end to end, all from one dense run; and how often neurons fire."""

from pathlib import Path

import jax.numpy as jnp
import pytest
from flax import nnx

from experiments import paper_claims, pareto, side_info_savings, sweep
from experiments.one_device import firing_rate
from snap_jax import training
from snap_jax.models.neurons import RateNeurons, TickNeurons
from snap_jax.traffic import Traffic

FILE = Path("runs/lines.jsonl")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the runs go."""
    return tmp_path_factory.mktemp("experiments")


@pytest.fixture
def quick(folder, monkeypatch):
    """Command-line arguments of a tiny experiment in that folder."""
    monkeypatch.chdir(folder)
    return ["--quick", "--file", str(FILE)]


def test_a_tiny_frontier_is_trained_once_and_found_again(quick, capsys, monkeypatch):
    pareto.main(["--task", "text", *quick])
    lines = sweep.load(FILE)
    assert [line["config"]["mode"] for line in lines] == ["dense", "hybrid"]
    assert lines[0]["wire"]["max_bits_per_element"] == 32
    assert lines[1]["commands"][0].startswith("snap-jax train language --mode dense")
    assert "--init-from runs/dense/" in lines[1]["commands"][1]
    assert "| 0.5 | spikes | 1 |" in capsys.readouterr().out
    monkeypatch.setattr(sweep, "run", lambda *_: pytest.fail("it was there"))
    pareto.main(["--task", "text", *quick])


def test_a_tiny_table_of_savings(quick, capsys, monkeypatch):
    """Of a model as it is before the first step."""

    def untrained(config):
        job = training.prepare(config)
        return training.Trained(job, job.params, {}, Traffic(()))

    monkeypatch.setattr(training, "measure", untrained)
    side_info_savings.main(quick)
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 1  # one boundary between two devices
    assert len(rows[0].split("|")) == len(head.split("|"))


def test_tiny_models_are_priced(quick, capsys, monkeypatch):
    one, models = paper_claims.BASELINE, paper_claims.models
    monkeypatch.setattr(paper_claims, "models", lambda base: {one: models(base)[one]})
    paper_claims.main(quick)
    lines = [line for line in sweep.load(FILE) if "traffic" in line]
    # Two microbatches of 1 x 16 tokens of width 32 over two devices: 3 slots; 2 bytes, and a header per message.
    sent = [message["bytes"] * message["times"] for message in lines[0]["traffic"]["pass"]["transfers"]]
    assert sum(sent) == 3 * (16 * 32 * 2 + 1)
    assert lines[0]["operations"]
    assert "1 runs of" in capsys.readouterr().out


class OneLayer(nnx.Module):
    def __init__(self, neurons):
        self.neurons = neurons

    def __call__(self, x):
        return self.neurons(x)


def test_firing_rates_are_spikes_per_neuron_and_time_step():
    # Currents of 0.5 for three steps reach the threshold of 1 once; currents of 0 never.
    steps = TickNeurons(time_steps=3, leak=1.0)
    assert firing_rate(OneLayer(steps), jnp.array([[0.5, 0.0]] * 3)) == pytest.approx(1 / 6)
    # In thresholds these fire at 1, 0.5 and 0 of their steps.
    rate = RateNeurons(3, 4, signed=False)
    assert firing_rate(OneLayer(rate), jnp.array([2.0, 1.2, -2.0])) == pytest.approx(0.5)
