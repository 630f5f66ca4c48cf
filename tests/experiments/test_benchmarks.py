"""Benchmarks: their data and their arithmetic; nothing is timed."""

import pytest
from jax import lax

from benchmarks import image_training_speed, scaling_bytes, wire_sizes
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
