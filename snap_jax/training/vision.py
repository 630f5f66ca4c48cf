"""The vision task: image classification by a convolutional network divided over devices.

Batches are those of `data.image_loader`; what is evaluated does not depend on training.
"""

import dataclasses
import functools
import hashlib
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, PyTree

from snap_jax.boundary.telemetry import Telemetry
from snap_jax.data import image_loader
from snap_jax.data.augment import augment
from snap_jax.models import efficientnet, resnet
from snap_jax.models.base import EachBlock, VisionNetwork, whole
from snap_jax.parallel.processes import is_first
from snap_jax.training import fingerprints
from snap_jax.training.config import Settings, VisionConfig
from snap_jax.training.evaluation import Score, score, sends_spikes, spikes_of
from snap_jax.training.link_setup import links_of
from snap_jax.training.parallel_job import MakeLinks, ParallelJob, build
from snap_jax.training.tasks.losses import Batch

_EVALUATED_AT_ONCE = (4, 32)  # microbatches, images each
AT_ONCE = math.prod(_EVALUATED_AT_ONCE)
_SOME = 512  # images of a quick evaluation
_SMALL = 64  # pixels per side: smaller images are not down-sampled before the first block
_NOISE_DRAWS = 8  # of each held-out image, if there is noise


@dataclasses.dataclass(frozen=True, eq=False)
class VisionJob(ParallelJob):
    """A divided model, and images for training and held out."""

    config: VisionConfig
    images: image_loader.Images

    def fingerprint(self) -> str:
        """Return the SHA-256 of images and labels; for images that stay on disk, of the description of the data set."""
        found = self.images
        name = found.name if found.name in image_loader.NAMES else ""  # a folder may be moved
        digest = hashlib.sha256(repr((name, found.classes, found.notes)).encode())
        for array in (found.train_images, found.train_labels, found.heldout_images, found.heldout_labels):
            if isinstance(array, np.ndarray):
                fingerprints.update(digest, array)
            else:
                digest.update(repr(array.shape).encode())
        return digest.hexdigest()

    def batch(self, index: int) -> Batch:
        """Return the images of one batch, by microbatch; a pure function of the seed and the index."""
        config = self.config

        def read(rows: np.ndarray) -> Batch:
            pixels, labels = image_loader.batch(
                self.images, step=index, seed=config.seed, batch=config.batch, rows=rows
            )
            if config.augment is not None:
                places = index * config.batch + rows
                pixels = augment(pixels, places, seed=config.seed, kind=config.augment)
            return self._ready(pixels, labels, self._noise(config.batch, config.seed, index)[rows])

        return self.task.read_batch(read, config.batch, config.parts)

    def batch_name(self, index: int) -> str:
        """Return the seed, the index and where the batch lies in its epoch."""
        first, count = index * self.config.batch, len(self.images.train_images)
        return (
            f"seed {self.config.seed}, batch {index}: {self.config.batch} images from place {first % count} of "
            f"epoch {first // count}"
        )

    def evaluate_some(self, params: PyTree) -> dict:
        """Return bits per image and accuracy on some held-out images, and the mean threshold of each boundary."""
        places = _spread(len(self.images.heldout_images), _SOME)
        found = self._score(params, places)
        measured = {
            "heldout_bits": found.nats / math.log(2) / len(places),
            "heldout_accuracy_percent": 100 * found.correct / len(places),
        }
        return measured | self.thresholds(params)

    def predict_all(self, params: PyTree) -> None:
        """Run the model on all held-out images."""
        places = _spread(len(self.images.heldout_images), self.config.heldout_images)
        self._score(params, np.tile(places, _NOISE_DRAWS if self.config.noise else 1))

    def evaluate_all(self, params: PyTree, out: Path | None) -> tuple[dict, Telemetry]:
        """Return accuracy on all held-out images; write the spikes of one of them."""
        places = _spread(len(self.images.heldout_images), self.config.heldout_images)
        shown = np.tile(places, _NOISE_DRAWS if self.config.noise else 1)
        found = self._score(params, shown)
        if out is not None and sends_spikes(self.task, found.seen):
            self._write_raster(params, int(places[len(places) // 2]), out)
        counts = np.bincount(self.images.heldout_labels[places])
        sections = {
            "quality": {
                "metric": "accuracy_percent",
                "value": 100 * found.correct / len(shown),
                "n": len(shown),
                "bits_per_image": found.nats / math.log(2) / len(shown),
            },
            "baselines": {"majority_class_percent": 100 * int(counts.max()) / len(places)},
        }
        return sections, found.seen

    def _score(self, params: PyTree, places: np.ndarray) -> Score:
        def read(of: np.ndarray, rows: np.ndarray) -> Batch:
            there = places[of[rows]]
            noise = self._noise(len(of), 2**40, int(of[0]))[rows]  # that training never draws
            return self._ready(self.images.heldout_images[there], self.images.heldout_labels[there], noise)

        return score(self.task, params, len(places), read, _EVALUATED_AT_ONCE)

    def _write_raster(self, params: PyTree, place: int, out: Path) -> None:
        at = slice(place, place + 1)
        image, label = self.images.heldout_images[at], self.images.heldout_labels[at]
        row = Batch(image_loader.normalise(self.images, image), label)
        spikes = spikes_of(self.task, params, row, self.config.device_layout.data)
        boundaries: dict[str, Any] = {"spikes": np.stack(spikes)} if self.config.keeps_shape else _numbered(spikes)
        if is_first():
            np.savez_compressed(out / "spikes.npz", image=image[0], label=label[0], **boundaries)

    def _noise(self, count: int, *draw: int) -> np.ndarray:
        """Noise for so many images, that the numbers in `draw` decide; `[count]` zeros for none."""
        if not self.config.noise:
            return np.zeros(count, np.float32)
        shape = count, *self.images.train_images.shape[1:]
        return np.random.default_rng(draw).standard_normal(shape, np.float32)

    def _ready(self, pixels: np.ndarray, labels: np.ndarray, noise: np.ndarray) -> Batch:
        """Normalized images with noise."""
        clean = image_loader.normalise(self.images, pixels)
        return Batch(clean + np.float32(self.config.noise) * noise if self.config.noise else clean, labels)


def prepare(config: VisionConfig, make_links: MakeLinks = links_of) -> VisionJob:
    """Load the images and divide the model; see `starting.prepare`.

    Raises:
      UsageError: for data, links, devices or sizes that cannot work; the message names the fix.
    """
    images = image_loader.load(config.data)

    def sample() -> Array:
        pixels, _ = image_loader.batch(images, step=2**31, seed=config.seed, batch=64)
        return jnp.asarray(image_loader.normalise(images, pixels))

    row = jax.ShapeDtypeStruct(images.train_images.shape[1:], jnp.float32)
    built = build(config, functools.partial(network, images), row, sample, make_links)
    return VisionJob(config, *built, images)


def network(images: image_loader.Images, config: Settings, each_block: EachBlock = whole) -> VisionNetwork:
    """Return the model on one device, for images of this size and so many classes; of each block what is asked for."""
    assert isinstance(config, VisionConfig)
    height, width, channels = images.train_images.shape[1:]
    small, classes = min(height, width) <= _SMALL, images.classes
    rngs, time_steps = nnx.Rngs(config.seed), config.neuron_steps
    if config.model.startswith("efficientnet-"):
        size = efficientnet.efficientnet(
            config.model.removeprefix("efficientnet-"), classes=classes, channels=channels, time_steps=time_steps
        )
        size = dataclasses.replace(size, stem_stride=1 if small else size.stem_stride)
        return efficientnet.EfficientNet(size, rngs=rngs, each_block=each_block)
    stem = "small" if small else "large"
    if config.model == "resnet18":
        size = resnet.resnet18(classes=classes, width=config.width, channels=channels, stem=stem, time_steps=time_steps)
    else:
        size = resnet.ResNetConfig(
            (config.layers,), config.width, classes, channels, stem, downsample=False, time_steps=time_steps
        )
    return resnet.ResNet(size, rngs=rngs, each_block=each_block)


def _numbered(spikes: list[np.ndarray]) -> dict[str, np.ndarray]:
    return {f"spikes_{n}": values for n, values in enumerate(spikes, 1)}


def _spread(count: int, most: int | None) -> np.ndarray:
    """At most so many places, evenly spread and in order; all of them for None."""
    return np.linspace(0, count - 1, min(count, most or count)).round().astype(int)
