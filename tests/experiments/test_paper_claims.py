"""The tables on the paper's claim: ratios are those of the equations, and what is missing is said."""

import dataclasses
import json

import pytest

from experiments import ann_hybrid_snn, claim_tables, energy_saved, paper_claims
from experiments.sweep import reseeded
from snap_jax.traffic import Traffic, Transfer
from tests.support.experiment_lines import line, written

MOVE = Transfer("ppermute", ("stage",), 2, "uint8", 640, pairs=1, perm=((0, 1),))
MODELS = paper_claims.models(paper_claims.BASES["text"])
DENSE, HYBRID = MODELS[paper_claims.BASELINE], MODELS["hybrid, 1 bit"]


def priced(config, nbytes, macs=0, bits=2.0, inner_rate=None):
    """The line of a model that sends so many bytes and multiplies so often."""
    traffic = json.loads(Traffic((dataclasses.replace(MOVE, bytes=nbytes),)).to_json())
    operations = [["mac", "float32", macs], ["other", "float32", 7]]
    workloads = dict.fromkeys(("pass", "smallest", "step"), traffic)
    return line(config, bits, 1.0, traffic=workloads, operations=operations, inner_rate=inner_rate, seconds=3)


def test_ratios_are_those_of_the_equations():
    dense, ours = priced(DENSE, 640, 10**6), priced(HYBRID, 64, 10**6)
    # UCIe: 68 bytes on the wire for 64, 0.5 to 0.6 pJ per bit, 64 bytes per ns, 1 ns per hop.
    energy = lambda one: claim_tables.energy(claim_tables.links(one, "pass", "ucie-chain"))
    assert energy(dense).low == pytest.approx(680 * 8 * 0.5e-12)
    assert claim_tables.factor([dense], [ours], energy) == "10"
    time = lambda one: claim_tables.seconds(claim_tables.links(one, "pass", "ucie-chain"))
    assert claim_tables.factor([dense], [ours], time) == f"{(1 + 680 / 64) / (1 + 68 / 64):.3g}"
    whole = lambda one: claim_tables.energy(claim_tables.with_compute(one, "ucie-chain", 1.0))
    expected = (680 * 8 * 0.5 + 4.6e6) / (68 * 8 * 0.5 + 4.6e6)
    assert claim_tables.factor([dense], [ours], whole) == f"{expected:.3g}"
    ethernet = lambda one: claim_tables.energy(claim_tables.links(one, "pass", "ethernet-400g"))
    assert claim_tables.factor([dense], [ours], ethernet) == "n/a"
    assert claim_tables.factor([], [ours], energy) == "n/a"


def test_relative_energy_over_nodes_and_reaches():
    groups = {paper_claims.BASELINE: [priced(DENSE, 640, 10**6)], "hybrid, 1 bit": [priced(HYBRID, 64, 10**6)]}
    page = claim_tables.energy_table(groups, paper_claims.BASELINE)
    # UCIe: 680 and 68 bytes on the wire at 0.6 pJ per bit; 10^6 products of 4.6, 1.69, 0.59 and 0.1 pJ.
    macs = [each * 1e6 for each in (4.6, 1.69, 0.59, 0.1)]
    expected = [(68 * 8 * 0.6 + whole) / (680 * 8 * 0.6 + whole) for whole in macs]
    assert "| hybrid, 1 bit | die-to-die | " + " | ".join(f"{value:.3f}" for value in expected) + " |" in page
    # At most: beside sums in the dtype itself, 0.21 + 0.11 and 0.07 + 0.007 pJ.
    shares = [680 * 8 * 0.6 / (680 * 8 * 0.6 + each * 1e6) for each in (4.6, 1.69, 0.32, 0.077)]
    assert (
        "| share of the links, bf16, at most | die-to-die | " + " | ".join(f"{value:.2%}" for value in shares) + " |"
        in page
    )


def test_the_factor_is_drawn_for_every_reach(tmp_path):
    energy_saved.main(["--width", "64", "--out", str(tmp_path / "saved.svg")])
    assert "<svg" in (tmp_path / "saved.svg").read_text()


def test_a_spiking_model_accumulates_where_neurons_fire():
    counted = claim_tables.operations(priced(MODELS["SNN, 4 time steps"], 64, 100, inner_rate=0.25))
    assert (counted.times("accumulate"), counted.times("mac"), counted.times("other")) == (0.25 * 4 * 100, 0, 4 * 7)


def test_the_page_says_what_the_claim_would_need():
    groups = {paper_claims.BASELINE: [priced(DENSE, 6400, 10**6)], "hybrid, 1 bit": [priced(HYBRID, 64, 10**6)]}
    page = claim_tables.page(groups, paper_claims.BASELINE)
    # 100x on the links: (E - 5.3 e) / 4.3 is left for 10^6 multiply-accumulates, at 0.6 pJ per bit.
    left = (6800 - 5.3 * 68) * 8 * 0.6 / 4.3 / 1e6
    assert f"energy 100x on the links; 5.3x if a multiply-accumulate takes at most {left:.2g} pJ" in page
    speed = (10**6 + 7) / 4 * 14.2 / ((1 + 6800 / 64 - 15.2 * (1 + 68 / 64)) * 1e-9) / 1e12
    assert f"15.2x if each chip does {speed:.3g} tera-op/s" in page
    assert "15.2x is out of reach" in page  # on Ethernet, where latency rules
    assert page.endswith("2 runs of 6 s in all")


def test_one_vector_passes_every_boundary_in_every_slot():
    # Four stages, one microbatch: 1 + 3 slots, in each of which three devices send.
    assert paper_claims._smallest(10, 4).sent_bytes == 4 * 3 * 10


def test_mean_and_spread_over_seeds(tmp_path, capsys):
    again = reseeded(DENSE, 1)
    lines = [priced(DENSE, 64, bits=2.0), priced(again, 64, bits=2.2), priced(HYBRID, 64, bits=2.31)]
    file = written(tmp_path / "text", lines)
    ann_hybrid_snn.main(["--show", "--seeds", "2", "--file", str(file)])
    printed = capsys.readouterr().out
    assert "| ANN, bf16 links | 2 | 2.100 ± 0.141 | 0.0 % | 1.000 | – |" in printed
    assert "| hybrid, 1 bit | 1 | 2.310 | +10.0 % | 1.000 | – |" in printed
    images = ann_hybrid_snn.compared(paper_claims.BASES["digits"])["ANN, fp32 links"]
    file = written(tmp_path / "digits", [priced(images, 64, bits=98.5)])
    ann_hybrid_snn.main(["--show", "--task", "digits", "--file", str(file)])
    assert "| ANN, fp32 links | 1 | 98.50 % | 0.0 % |" in capsys.readouterr().out
    for experiment in (ann_hybrid_snn, paper_claims):
        experiment.main(["--show", "--file", str(tmp_path / "none")])
        assert "yet" in capsys.readouterr().out
