"""The job `vision`: which class a picture is of, by a convolutional network divided over chips.

Law: batches are those of `data.images`; what is evaluated does not depend on how it was trained.
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
from snap_jax.models import efficientnet, resnet
from snap_jax.models.base import VisionNetwork
from snap_jax.training.config import Settings, VisionConfig
from snap_jax.training.parallel_job import Divided, Score, build, by_microbatch, score
from snap_jax.training.spike_rasters import sends_spikes, spikes_of
from snap_jax.training.tasks.losses import Batch

_EVALUATED_AT_ONCE = (4, 32)  # microbatches, pictures each
_WATCHED = 512  # pictures of a quick look
_SMALL = 64  # pixels a side: smaller pictures are not halved before the first block


@dataclasses.dataclass(frozen=True, eq=False)
class Vision(Divided):
    """A model, and pictures to learn from and to measure on; a `Job`."""

    config: VisionConfig
    pictures: image_loader.Images

    def fingerprint(self) -> str:
        """SHA-256 of pictures and labels; of those that stay on disk, of what the data set says of itself."""
        found = self.pictures
        digest = hashlib.sha256(repr((found.name, found.classes, found.notes)).encode())
        for array in (found.train_images, found.train_labels, found.heldout_images, found.heldout_labels):
            digest.update(array.tobytes() if isinstance(array, np.ndarray) else repr(array.shape).encode())
        return digest.hexdigest()

    def batch(self, index: int) -> Batch:
        """The pictures of one batch, by microbatch; a pure function of the seed and the index."""
        config = self.config
        pixels, labels = image_loader.batch(self.pictures, step=index, seed=config.seed, batch=config.batch)
        return by_microbatch(self._ready(pixels, labels), config.parts)

    def batch_name(self, index: int) -> str:
        """Seed, index and where in the epochs it lies."""
        first, count = index * self.config.batch, len(self.pictures.train_images)
        return (
            f"seed {self.config.seed}, batch {index}: {self.config.batch} pictures from place {first % count} of "
            f"epoch {first // count}"
        )

    def watch(self, params: PyTree) -> dict:
        """Bits a picture and accuracy on some held-out pictures, and the mean threshold of each boundary."""
        places = _spread(len(self.pictures.heldout_images), _WATCHED)
        found = self._score(params, places)
        seen = {
            "heldout_bits": found.nats / math.log(2) / len(places),
            "heldout_accuracy_percent": 100 * found.correct / len(places),
        }
        return seen | self.thresholds(params)

    def conclude(self, params: PyTree, out: Path) -> tuple[dict, Telemetry]:
        """Accuracy on all held-out pictures; leaves the spikes of one."""
        places = _spread(len(self.pictures.heldout_images), self.config.heldout_images)
        found = self._score(params, places)
        if sends_spikes(self, found.seen):
            self._write_raster(params, int(places[len(places) // 2]), out)
        counts = np.bincount(self.pictures.heldout_labels[places])
        sections = {
            "quality": {
                "metric": "accuracy_percent",
                "value": 100 * found.correct / len(places),
                "n": len(places),
                "bits_per_image": found.nats / math.log(2) / len(places),
            },
            "baselines": {"majority_class_percent": 100 * int(counts.max()) / len(places)},
        }
        return sections, found.seen

    def _score(self, params: PyTree, places: np.ndarray) -> Score:
        def read(rows: np.ndarray) -> Batch:
            there = places[rows]
            return self._ready(self.pictures.heldout_images[there], self.pictures.heldout_labels[there])

        return score(self.task, params, len(places), read, _EVALUATED_AT_ONCE)

    def _write_raster(self, params: PyTree, place: int, out: Path) -> None:
        at = slice(place, place + 1)
        image, label = self.pictures.heldout_images[at], self.pictures.heldout_labels[at]
        spikes = spikes_of(self, params, self._ready(image, label))
        boundaries: dict[str, Any] = {"spikes": np.stack(spikes)} if self.config.keeps_shape else _numbered(spikes)
        np.savez_compressed(out / "spikes.npz", image=image[0], label=label[0], **boundaries)

    def _ready(self, pixels: np.ndarray, labels: np.ndarray) -> Batch:
        return Batch(image_loader.normalise(self.pictures, pixels), labels)


def prepare(config: VisionConfig) -> Vision:
    """Loads the pictures and builds the task; every mistake of the user is found here.

    Raises:
      UsageError: for data, links, chips or sizes that cannot be; the message names the fix.
    """
    pictures = image_loader.load(config.data)

    def sample() -> Array:
        pixels, _ = image_loader.batch(pictures, step=2**31, seed=config.seed, batch=64)
        return jnp.asarray(image_loader.normalise(pictures, pixels))

    row = jax.ShapeDtypeStruct(pictures.train_images.shape[1:], jnp.float32)
    return Vision(config, *build(config, functools.partial(network, pictures), row, sample), pictures)


def network(pictures: image_loader.Images, config: Settings) -> VisionNetwork:
    """The model on one chip, for pictures of this size and so many classes."""
    assert isinstance(config, VisionConfig)
    height, width, channels = pictures.train_images.shape[1:]
    small, classes = min(height, width) <= _SMALL, pictures.classes
    rngs, ticks = nnx.Rngs(config.seed), config.neuron_ticks
    if config.model.startswith("efficientnet-"):
        size = efficientnet.efficientnet(
            config.model.removeprefix("efficientnet-"), classes=classes, channels=channels, ticks=ticks
        )
        size = dataclasses.replace(size, stem_stride=1 if small else size.stem_stride)
        return efficientnet.EfficientNet(size, rngs=rngs)
    stem = "small" if small else "large"
    if config.model == "resnet18":
        size = resnet.resnet18(classes=classes, width=config.width, channels=channels, stem=stem, ticks=ticks)
    else:
        size = resnet.ResNetConfig(
            (config.layers,), config.width, classes, channels, stem, downsample=False, ticks=ticks
        )
    return resnet.ResNet(size, rngs=rngs)


def _numbered(spikes: list[np.ndarray]) -> dict[str, np.ndarray]:
    return {f"spikes_{n}": values for n, values in enumerate(spikes, 1)}


def _spread(count: int, most: int) -> np.ndarray:
    """At most so many places, evenly spread and in order; all of them for 0."""
    return np.linspace(0, count - 1, min(count, most or count)).round().astype(int)
