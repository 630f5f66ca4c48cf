"""The spikes that a run on images keeps for its report are those that one device computes."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from snap_jax import training
from snap_jax.boundary.boundary import Boundary
from snap_jax.codecs.link_spec import as_codec
from snap_jax.data import image_loader
from snap_jax.training import vision
from snap_jax.training.config import VisionConfig
from snap_jax.training.evaluation import sends_spikes, spikes_of

TINY = VisionConfig(data="digits", layers=2, width=8, batch=4, microbatches=2, devices=4, layout="data:2+pipeline:2")


def conclusion(config, out):
    job = training.prepare(config)
    _, seen = job.evaluate_all(job.params, out)
    return job, seen


@pytest.mark.parametrize(("mode", "ticks"), [("hybrid", None), ("spiking", 3)])
def test_spikes_of_one_image_over_devices_are_those_of_one_device(tmp_path, mode, ticks):
    """Two replicas of two stages: the first stage sends what follows block one; time steps have their own axis."""
    link = "count:3" if mode == "hybrid" else "ternary+bitplanes"
    config = dataclasses.replace(TINY, mode=mode, time_steps=ticks, link=link, heldout_images=3)
    job, seen = conclusion(config, tmp_path)
    assert sends_spikes(job.task, seen)
    with np.load(tmp_path / "spikes.npz") as kept:
        image, label, spikes = kept["image"], kept["label"], kept["spikes"]
    images = image_loader.load("digits")
    place = round((len(images.heldout_images) - 1) / 2)  # the second of three, evenly spread
    np.testing.assert_array_equal(image, images.heldout_images[place])
    assert label == images.heldout_labels[place]
    model, boundary = vision.network(images, config), Boundary(as_codec(link), 8)
    pixels = jnp.asarray(image_loader.normalise(images, image[None]))
    stream = model.blocks[0](model.enter(pixels))
    expected = np.asarray(boundary.codec.spikes(stream)).reshape(1, ticks if mode == "spiking" else 1, 8, 8, 8)
    assert (spikes != 0).any()
    # The two programs round a convolution apart: a membrane at the threshold may fall on either side.
    assert (spikes == expected).mean() > 0.999


def test_a_row_of_a_batch_and_its_copies_are_one(tmp_path):
    """Replicas are given the same row, so which of them is kept does not matter."""
    job = training.prepare(dataclasses.replace(TINY, heldout_images=1))
    one = training.prepare(dataclasses.replace(TINY, layout="pipeline", devices=2, heldout_images=1))
    row = type(job.batch(0))(*(a[0, :1] for a in job.batch(0)))
    np.testing.assert_array_equal(spikes_of(job.task, job.params, row, 2), spikes_of(one.task, one.params, row, 1))


@pytest.mark.parametrize("changes", [{"mode": "dense"}, {"layout": "data"}])
def test_no_spikes_are_kept_where_none_cross_between_stages(tmp_path, changes):
    job, seen = conclusion(dataclasses.replace(TINY, heldout_images=1, **changes), tmp_path)
    assert not sends_spikes(job.task, seen)
    assert list(tmp_path.iterdir()) == []
