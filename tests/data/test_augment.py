"""Flips and crops: which images there can be, that each has numbers of its own, and that a batch is a function."""

from types import SimpleNamespace

import numpy as np
import pytest

from snap_jax.data import image_loader
from snap_jax.data.augment import augment
from snap_jax.errors import UsageError
from snap_jax.training.config import VisionConfig
from snap_jax.training.tasks.losses import Batch
from snap_jax.training.vision import VisionJob

IMAGE = np.arange(1, 65, dtype=np.uint8).reshape(1, 8, 8, 1)
PLACES = np.arange(400)


def of(kind, places=PLACES, seed=0):
    return augment(np.repeat(IMAGE, len(places), axis=0), places, seed=seed, kind=kind)


def test_one_image_in_two_is_mirrored_and_nothing_else():
    found = of("flip")
    mirrored = (found == IMAGE[:, :, ::-1]).all(axis=(1, 2, 3))
    assert ((found == IMAGE).all(axis=(1, 2, 3)) ^ mirrored).all()
    assert 150 < mirrored.sum() < 250  # 200 of 400, and five standard deviations of 10


def test_a_crop_is_a_window_of_the_image_with_a_border():
    """A border of 8 / 8 = 1 pixel: nine windows, each about as often."""
    wide = np.pad(IMAGE[0], [(1, 1), (1, 1), (0, 0)])
    windows = [wide[i : i + 8, j : j + 8].tobytes() for i in range(3) for j in range(3)]
    counts = [sum(image.tobytes() == window for image in of("crop")) for window in windows]
    assert sum(counts) == len(PLACES)
    assert min(counts) > 400 / 9 - 5 * np.sqrt(400 / 9)


def test_both_are_drawn_apart():
    assert len({image.tobytes() for image in of("flip+crop")}) == 18


def test_an_image_depends_on_the_seed_and_on_its_place_only():
    together = of("flip+crop")
    for place in (0, 7, 399):
        np.testing.assert_array_equal(of("flip+crop", PLACES[place : place + 1])[0], together[place])
    assert (of("flip+crop", seed=1) != together).any()
    assert (np.arange(1, 65).reshape(1, 8, 8, 1) == IMAGE).all()  # what is given stays as it is


def test_another_kind_is_refused():
    with pytest.raises(UsageError, match=r"--augment rotate: use one of flip, crop, flip\+crop"):
        of("rotate")


def test_a_training_batch_is_augmented_row_by_row():
    """A process that reads some rows sees them as all others do."""
    images = image_loader.load("digits")

    def batch(rows, **settings):
        job = SimpleNamespace(
            config=VisionConfig(batch=8, **settings),
            images=images,
            task=SimpleNamespace(read_batch=lambda read, batch, parts: read(np.array(rows))),
            _noise=lambda count, *draw: np.zeros(count),
            _ready=lambda pixels, labels, noise: Batch(pixels, labels),
        )
        return VisionJob.batch(job, 3).inputs

    plain, drawn = batch(range(8)), batch(range(8), augment="flip+crop")
    np.testing.assert_array_equal(drawn, augment(plain, 3 * 8 + np.arange(8), seed=0, kind="flip+crop"))
    np.testing.assert_array_equal(batch([5, 2], augment="flip+crop"), drawn[[5, 2]])
    assert (drawn != plain).any()
