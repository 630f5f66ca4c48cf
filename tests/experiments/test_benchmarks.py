"""Benchmarks: their data and their arithmetic; nothing is timed."""

import dataclasses
import json

import numpy as np
import pytest
from jax import lax
from rich.table import Table

from benchmarks import image_training_speed, results, scaling_bytes, unequal_parts, wire_sizes
from benchmarks.results import Result
from benchmarks.timing import Times
from snap_jax.collectives.parts import flattened, mixed
from snap_jax.wires import Ladder, Rans


def test_images_are_read_back_and_a_bubble_is_the_idle_share(tmp_path):
    # Two microbatches over two devices: each works in two of three slots.
    assert image_training_speed.bubble(2, 2) == pytest.approx(1 / 3)
    data = image_training_speed.written(tmp_path, 60)
    assert data.train_images.shape == (60, 28, 28, 1)
    assert len(data.heldout_images) == 10


def test_ratios_are_medians_with_quartiles():
    assert Times((2.0, 4.0, 6.0)).over(Times((1.0, 2.0, 2.0))) == "2.00 (2.00–3.00)"


def test_payloads_are_close_to_the_entropy():
    spikes = wire_sizes.ternary(2**14, 0.05)
    assert 1 < wire_sizes.overhead(Ladder(), spikes, range(-1, 2)) <= wire_sizes.WORST


def test_bits_of_a_sum_on_meshes_that_need_not_exist():
    """A ring of 64 sends `64 * 63 / 64` bits in f32; pods of 8 send inside as 8 devices do, an eighth between pods."""
    elements = 2**14
    of = lambda function, axes: scaling_bytes.traced_bits(function, axes, elements=elements)
    assert of(lambda x: lax.psum(x, "x"), {"x": 64})("x") == pytest.approx(63)
    floats = of(scaling_bytes._floats, {"pod": 4, "device": 8})
    assert (floats("device"), floats("pod")) == (pytest.approx(56), pytest.approx(64 * 3 / 4 / 8))


def test_drawn_spikes_take_about_their_entropy():
    sent, ideal = scaling_bytes.coded_bits(Rans(ratio=1.3), 64, 0.1, 2**16)
    assert 1 < sent / ideal < 1.3


def test_mixed_parts_of_clustered_spikes_are_as_those_of_uniform_ones():
    rates = scaling_bytes.clustered("rows", size=256)
    blocks, alike = (scaling_bytes.above_mean(16, rates, cut) for cut in (flattened, mixed))
    uniform = scaling_bytes.above_mean(16, scaling_bytes.clustered("uniform", size=256), mixed)
    assert alike < 1.2 * uniform < blocks


def test_parts_of_a_grid_of_devices_meet_in_two_stages():
    """Four devices; device 0 has a spike for each other, and 3 has four for 0, by way of 2, its neighbor in the row."""
    parts = np.asarray([[0, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0], [4, 0, 0, 0]])
    first, second = unequal_parts.stages(parts)
    assert first.tolist() == [[1, 2], [0, 0], [0, 0], [4, 0]]  # of each sender, to both columns
    assert second.tolist() == [[0, 1], [1, 1], [4, 0], [0, 0]]  # of each device between, to both rows
    equal = unequal_parts.bytes_per_device(np.full((4, 4), 10), 1000)
    assert equal["direct"] == equal["mean"] == 3 * unequal_parts.message(10, 1000)
    assert equal["two stages"] == 2 * unequal_parts.message(20, 2000)


def test_numbers_of_a_table_become_results():
    table = Table("encode", "time / copy", "target", "GB/s", title="Codecs (some machine)")
    table.add_row("packed", "1.50 (1.25–2.00)", "1.00", "12.0")
    table.add_row("packed", "n/a", "1.00", "1,024")
    assert list(results.numbers("codec_speed", table)) == [
        Result("codec_speed: Codecs: packed", "time / copy", 1.5, 1.25, 2.0),
        Result("codec_speed: Codecs: packed", "GB/s", 12.0, 12.0, 12.0),
        Result("codec_speed: Codecs: packed #2", "GB/s", 1024.0, 1024.0, 1024.0),
    ]


def test_a_change_is_one_beyond_the_quartiles_of_both_runs_on_one_machine():
    old = Result("a", "s", 2.0, 1.5, 2.5, "here", "v1")
    inside, outside = (dataclasses.replace(old, value=3.0, low=low, high=3.5) for low in (2.5, 2.6))
    assert results.changes([old], [inside]) == []
    assert results.changes([old], [outside]) == ["a, s: 2 (1.5–2.5) at v1 -> 3 (2.6–3.5)"]
    assert results.changes([dataclasses.replace(old, machine="elsewhere")], [outside]) == []
    assert results.changes([outside, old], [old]) == [], "the last run counts"


def test_the_best_of_several_rounds_may_vary_by_a_tenth():
    def fastest(rate):
        return Result("entropy_coding: Rans: 7 levels, 64 x 512", "both, M elements/s", rate, rate, rate)

    assert results.changes([fastest(200.0)], [fastest(181.0)]) == []
    assert len(results.changes([fastest(200.0)], [fastest(179.0)])) == 1
    bits = dataclasses.replace(fastest(200.0), name="wire_sizes: Rans: 1.0% fire")
    assert len(results.changes([bits], [dataclasses.replace(bits, value=199.0, low=199.0, high=199.0)])) == 1


def test_the_page_has_the_latest_of_each_result(tmp_path):
    old = Result("codec_speed: Codecs: copy", "ms", 2.0, 1.0, 3.0, "here", "v1", "2026-01-01")
    new = dataclasses.replace(old, value=1.5, commit="v2")
    rates = [
        Result(f"codec_speed: Codecs: {row}", "GB/s", 1024.0, 1024.0, 1024.0) for row in ("copy", "7 levels: pack")
    ]
    file = tmp_path / "results.jsonl"
    file.write_text("".join(json.dumps(dataclasses.asdict(result)) + "\n" for result in (old, new, *rates)))
    page = results.page(results.load(file))
    rows = "| copy | 1.5 (1–3) | 1,024 |", "| 7 levels: pack |  | 1,024 |"
    assert "\n".join(["| Codecs | ms | GB/s |", "|---|---|---|", *rows]) in page
    assert "`python -m benchmarks.codec_speed`, here; commit v2, 2026-01-01." in page
    assert "v1" not in page
