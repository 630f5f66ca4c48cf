"""Labelled images, split into a training part and a held-out part that never change."""

import dataclasses
import functools

import numpy as np
from jaxtyping import Float32, Int32, UInt8

from snap_jax.data.indexed_records import Records
from snap_jax.errors import UsageError

Pixels = UInt8[np.ndarray, "_ _ _ _"] | Records
Labels = Int32[np.ndarray, "_"] | Records

_ENOUGH = 2_000  # images that statistics are taken from: the error of a mean is then at most 1/45 of the scale


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
    """The training and held-out images of a data set, with notes on how it was split.

    Attributes:
      name: the dataset or the path asked for.
      train_images: uint8 [n, height, width, channels], an array or records on disk.
      train_labels: int32 [n], each in [0, classes).
      heldout_images: like `train_images`; never trained on.
      heldout_labels: int32 [n].
      classes: how many labels there are.
      notes: one line each: how the images were split, and what else a reader should know.

    Raises:
      UsageError: no images, images of two shapes, not one label per image, or a label outside [0, classes).
    """

    name: str
    train_images: Pixels
    train_labels: Labels
    heldout_images: Pixels
    heldout_labels: Labels
    classes: int
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        self._check("train", self.train_images, self.train_labels)
        self._check("heldout", self.heldout_images, self.heldout_labels)
        train, heldout = self.train_images.shape[1:], self.heldout_images.shape[1:]
        if train != heldout:
            raise UsageError(f"--data {self.name!r}: train images are {train}, heldout ones {heldout}: use one size")

    def _check(self, part: str, images: Pixels, labels: Labels) -> None:
        if len(images) != len(labels) or not len(images):
            raise UsageError(
                f"--data {self.name!r}: {len(images)} {part} images, {len(labels)} labels: give as many, and some"
            )
        if 0 in images.shape[1:]:
            raise UsageError(f"--data {self.name!r}: {part} images are {images.shape[1:]}: give images of some pixels")
        if isinstance(labels, Records):
            return  # reading them all would read the whole disk
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= self.classes:
            raise UsageError(
                f"--data {self.name!r}: {part} labels from {low} to {high}, classes={self.classes}: "
                f"labels must be in [0, {self.classes})"
            )

    @functools.cached_property
    def statistics(self) -> tuple[Float32[np.ndarray, " channels"], Float32[np.ndarray, " channels"]]:
        """Return mean and standard deviation of each channel over (at most 2,000, evenly spaced) training images."""
        sample = self.train_images[:: -(-len(self.train_images) // _ENOUGH)]
        mean, scale = sample.mean((0, 1, 2), np.float64), sample.std((0, 1, 2), np.float64)
        return mean.astype(np.float32), np.where(scale > 0, scale, 1).astype(np.float32)
