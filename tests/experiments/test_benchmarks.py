"""Benchmarks: their data and their arithmetic; nothing is timed."""

import pytest

from benchmarks import image_training_speed, wire_sizes
from benchmarks.timing import Times
from snap_jax.wires import Ladder


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
