"""What was asked comes first, prices are charts with parts, seeds are averaged, and folders of a user stay private."""

import math
import statistics

import pytest

from snap_jax.report.answers import priced_system
from snap_jax.report.load_run import read_runs
from snap_jax.report.rows import rows
from snap_jax.report.summary import changed
from snap_jax.report.uncertainty import half_width
from tests.support.report_pages import page
from tests.support.report_runs import ORDER, SPIKING, logs, make_run, some_spikes, two_runs

runs = pytest.fixture(two_runs)


def labels(html):
    return [attrs["aria-label"] for tag, attrs in html.seen if tag == "svg" and "aria-label" in attrs]


def test_the_four_answers_stand_before_everything_else(runs, tmp_path):
    words = [word for word in page(runs, tmp_path).words if word.strip()]
    first = words.index("bits per byte")
    energy = words.index("energy on links")
    assert words[first : first + 4] == ["bits per byte", "2.100", "on held-out data", "+5.0 % against bf16"]
    assert words[energy : energy + 4] == ["energy on links", "1–2 µJ", "per training step, ring", "100 % of bf16"]
    assert energy < words.index("Energy and time of the links")


def test_every_run_has_a_line_with_the_answers(runs, tmp_path):
    lines = page(runs, tmp_path).lines
    assert lines[0][1:] == [
        "bits per byte",
        "bits per element, sent forward",
        "energy on links, ring",
        "time on links, ring",
    ]
    assert lines[1] == ["bf16", "2.000", "16", "1–2 µJ", "3 ms"]
    assert lines[2] == ["count:3", "2.100", "2", "1–2 µJ", "3 ms"]


def test_a_price_is_taken_from_the_first_system_that_all_runs_have_it_on(runs):
    read = read_runs(runs)
    assert priced_system(read, "energy_j") == "ring"
    only_far = [make for make in read if make.costs["far"].latency_s]
    assert priced_system(only_far, "latency_s") == "ring"
    assert priced_system([], "energy_j") is None


PARTS = {
    "forward": {"energy_j_per_step": [1e-6, 1e-6], "latency_s_per_step": [1e-3, 1e-3]},
    "backward": {"energy_j_per_step": [2e-6, 6e-6], "latency_s_per_step": [1e-3, 1e-3]},
    "bookkeeping": {"energy_j_per_step": [1e-6, 1e-6], "latency_s_per_step": [2e-3, 2e-3]},
}
PRICED = {"energy_j_per_step": [4e-6, 8e-6], "latency_s_per_step": [4e-3, 4e-3], "parts": PARTS}


def test_bars_are_divided_into_parts_and_end_at_the_highest_price(tmp_path):
    html = page([make_run(tmp_path, "a", {("cost", "ring"): PRICED})], tmp_path)
    drawn = [attrs for tag, attrs in html.seen if tag == "rect" and attrs["class"].startswith("part-")]
    assert [attrs["class"] for attrs in drawn[:6]] == 2 * ["part-forward", "part-backward", "part-bookkeeping"]
    full, gap = 286.0, 0.6  # pixels of the longest bar, and between parts
    shares = [1 / 8, 6 / 8, 1 / 8, 1 / 4, 1 / 4, 2 / 4]  # of the energy at its highest, and of the time
    expected = [pytest.approx(full * share - gap, abs=0.06) for share in shares[:3]]
    assert [float(attrs["width"]) for attrs in drawn[:3]] == expected
    expected = [pytest.approx(full * share - gap, abs=0.06) for share in shares[3:]]
    assert [float(attrs["width"]) for attrs in drawn[3:6]] == expected
    assert "energy of the links per step. bf16 on ring: 4–8 µJ" in labels(html)
    assert "time of the links per step. bf16 on ring: 4 ms; bf16 on far: 1–2.5 s" in labels(html)
    whiskers = [attrs for tag, attrs in html.seen if tag == "line" and attrs["class"] == "whisker"]
    first = whiskers[0]
    assert (float(first["x1"]), float(first["x2"])) == (full / 2, full)  # from 4 to 8 of 8


def test_prices_without_a_source_are_left_out_and_explained_without_code(tmp_path):
    note = "no source for pj_per_bit of link 'x'; give one: dataclasses.replace(link, pj_per_bit=Range(low, high))"
    html = page([make_run(tmp_path, "a", {("cost", "far", "energy_note"): note})], tmp_path)
    words = " ".join(html.words)
    assert "far, energy: no source for the energy per bit of link 'x'" in words
    assert "dataclasses" not in words
    assert "unknown" not in words


def several(tmp_path, values=(2.0, 2.1, 2.3)):
    paths = []
    for seed, value in enumerate(values):
        changes = SPIKING | {
            ("quality", "value"): value,
            ("config", "seed"): seed,
            ("command",): f"snap-jax --seed {seed}",
        }
        paths.append(make_run(tmp_path, f"seed-{seed}", changes, logs=logs(), spikes=some_spikes()))
    return paths


def test_runs_that_differ_in_their_seed_are_averaged(tmp_path):
    values = (2.0, 2.1, 2.3)
    (run,) = read_runs(several(tmp_path, values))
    assert run.value == pytest.approx(sum(values) / 3)
    assert (run.seeds, half_width(run)) == (3, pytest.approx(statistics.stdev(values)))
    assert run.config["seed"] == "0, 1, 2"
    assert {row.name: row.cells for row in rows([run])}["bits per byte"] == ("2.13 ± 0.15",)
    html = page([*several_again(tmp_path), make_run(tmp_path, "dense", logs=logs())], tmp_path)
    assert "3 seeds" in html.words
    assert "± is the standard deviation over 3 seeds." in html.words
    assert sum(1 for tag, attrs in html.seen if tag == "line" and attrs["class"] == "error") == 3  # a bar and its ends
    commands = "".join(html.words)
    assert all(f"snap-jax --seed {seed}" in commands for seed in range(3))


def several_again(tmp_path):
    return [tmp_path / f"seed-{seed}" for seed in range(3)]


def test_the_same_seed_twice_is_no_second_seed(tmp_path):
    again = [make_run(tmp_path, name, {("config", "seed"): 0}) for name in ("a", "b")]
    assert [run.seeds for run in read_runs(again)] == [1, 1]


def test_a_share_of_images_has_an_interval(tmp_path):
    seen = {("quality", "metric"): "accuracy_percent", ("quality", "value"): 80.0, ("quality", "n"): 400}
    (run,) = read_runs([make_run(tmp_path, "a", seen)])
    assert half_width(run) == pytest.approx(100 * 1.96 * math.sqrt(0.8 * 0.2 / 400))  # 3.92 points
    assert "80.0 ± 3.9" in page([tmp_path / "a"], tmp_path).words


def test_settings_of_the_command_are_shown_and_the_rest_is_folded(tmp_path):
    told = {
        ("command",): "snap-jax train language --link bf16 --out /home/me/runs/a",
        ("config", "data"): "/home/me/texts",
    }
    path = make_run(tmp_path, "a", told)
    assert changed(read_runs([path])) == ["link"]
    html = page([path], tmp_path)
    words = html.words
    assert words.index("All other settings") > words.index("link")
    assert words.index("steps") > words.index("All other settings")
    assert "/home/me" not in "".join(words)
    assert "snap-jax train language --link bf16 --out a" in words
    assert any(tag == "details" for tag, _ in html.seen)


def test_date_commit_and_devices_are_there(tmp_path):
    made = {"date": "2026-11-28T20:04:57+00:00", "commit": "6e019a5003", "devices": "4 x cpu"}
    words = page([make_run(tmp_path, "a", {("made",): made})], tmp_path).words
    assert "snap_jax report · 2026-11-28" in words
    assert {"2026-11-28 20:04", "6e019a5003", "4 x cpu"} <= set(words)


def test_a_pipeline_step_is_drawn_to_scale(tmp_path):
    hop = {"path": "stage 0 to stage 1", "forward_bytes": 30, "backward_bytes": 30}
    changes = {("timeline",): ORDER, ("wire", "by_boundary"): [hop]}
    html = page([make_run(tmp_path, "a", changes)], tmp_path)
    (said,) = [label for label in labels(html) if label.startswith("One step of a pipeline on UCIe")]
    boxes = [attrs for tag, attrs in html.seen if tag == "rect" and attrs["class"] in ("part-forward", "part-backward")]
    boxes = boxes[-24:-12]  # those on UCIe: 2 devices x 3 microbatches, forward and backward
    forward, backward = (
        [float(box["width"]) for box in boxes if box["class"] == f"part-{way}"] for way in ("forward", "backward")
    )
    assert len(forward) == len(backward) == 6
    assert sum(backward) / sum(forward) == pytest.approx(2, rel=0.01)
    # (3 + 2 - 1) x (1 + 2) microseconds, and some nanoseconds of the link.
    assert "bf16: 12" in said
    assert "H100 SXM" in " ".join(html.words)


def test_links_have_lanes_on_a_chain_and_on_a_switch(tmp_path):
    """Three microbatches cross forward, and three backward, each in one box per system."""
    hop = {"path": "stage 0 to stage 1", "forward_bytes": 30, "backward_bytes": 30}
    html = page([make_run(tmp_path, "a", {("timeline",): ORDER, ("wire", "by_boundary"): [hop]})], tmp_path)
    kinds = [attrs["class"] for tag, attrs in html.seen if tag == "rect" and attrs["class"].startswith("link-")]
    assert kinds.count("link-forward") == kinds.count("link-backward") == 3 * 2
