"""Images by name or path: `digits` (needs no download), data sets of TFDS, or the IDX files of an MNIST-like data set.

A batch is a pure function of (seed, step), and every epoch shows each training image exactly once.
"""

import difflib
import functools
import os
from pathlib import Path

import numpy as np
from jaxtyping import Array, Float32, Int, Int32, UInt8

from snap_jax.data.digits import load_digits
from snap_jax.data.idx import load_idx
from snap_jax.data.image_dataset import Images as Images
from snap_jax.data.tfds import HELDOUT, load_tfds
from snap_jax.errors import UsageError

NAMES = ("digits", *HELDOUT)


def load(name_or_path: str, *, data_dir: Path | None = None, imagenet_size: int = 224) -> Images:
    """Load the images of that name, or else the IDX files in that directory.

    Args:
      name_or_path: `digits`; `cifar10`, `cifar100`, `fashion_mnist`, `imagenet2012` (with the extra `data`); or a
        directory. A name takes precedence over a path: write `./digits` for a folder.
      data_dir: where TFDS prepared its data sets; None for TFDS_DATA_DIR, or else ~/tensorflow_datasets.
      imagenet_size: pixels per side that images of ImageNet are cropped and resized to.

    Raises:
      UsageError: no such name or path, its files are missing or truncated, or the extra is not installed.

    >>> digits = load("digits")
    >>> digits.train_images.dtype, digits.train_images.shape[1:]
    (dtype('uint8'), (8, 8, 1))
    """
    if name_or_path == "digits":
        return load_digits()
    if name_or_path in HELDOUT:
        return load_tfds(name_or_path, data_dir, imagenet_size)
    return _load_path(name_or_path)


def batch(
    images: Images, *, step: int, seed: int, batch: int, rows: Int[np.ndarray, " rows"] | None = None
) -> tuple[UInt8[np.ndarray, "rows height width channels"], Int32[np.ndarray, " rows"]]:
    """Return the images and labels of one step, or only some rows; each epoch is a new permutation of all images.

    Step `t` takes places `t batch ... t batch + batch - 1` of the sequence of epochs, so no image is left out when
    `batch` does not divide their number. A resumed run reads the images that the stopped one would have read.

    Raises:
      UsageError: batch < 1, seed or step outside [0, 2**32).

    >>> pixels, labels = batch(load("digits"), step=7, seed=0, batch=4)
    >>> pixels.shape, labels.shape
    ((4, 8, 8, 1), (4,))
    """
    if batch < 1:
        raise UsageError(f"batch={batch}: give a batch of at least 1")
    for name, value in (("seed", seed), ("step", step)):
        if not 0 <= value < 2**32:  # one 32-bit word each: NumPy mixes longer ones so that two pairs could meet
            raise UsageError(f"{name}={value}: give a whole number from 0 to {2**32 - 1}")
    drawn = _order(len(images.train_images), step * batch, batch, seed)
    drawn = drawn if rows is None else drawn[rows]
    return images.train_images[drawn], images.train_labels[drawn]


def normalise(
    images: Images, pixels: UInt8[np.ndarray | Array, "... channels"]
) -> Float32[np.ndarray | Array, "... channels"]:
    """Return `(pixels - mean) / standard deviation` per channel, with the statistics of the training images.

    NumPy and JAX arrays give arrays of the same kind; a constant channel becomes zeros.

    >>> digits = load("digits")
    >>> x = normalise(digits, digits.train_images)
    >>> abs(float(x.mean())) < 1e-4, round(float(x.std()), 4)
    (True, 1.0)
    """
    mean, scale = images.statistics
    return (pixels.astype(np.float32) - mean) / scale


def _order(count: int, first: int, size: int, seed: int) -> np.ndarray:
    epoch, place = np.divmod(first + np.arange(size), count)
    drawn = np.empty(size, np.int64)
    for e in range(epoch[0], epoch[-1] + 1):
        drawn[epoch == e] = _permutation(count, seed, int(e))[place[epoch == e]]
    return drawn


@functools.lru_cache(maxsize=2)  # every step of an epoch needs the same one; a batch across two epochs needs two
def _permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(count)


def _load_path(name: str) -> Images:
    path = Path(os.path.expanduser(name))
    if not name.strip() or not os.path.exists(path):
        near = difflib.get_close_matches(name.lower(), NAMES, n=1)
        fix = f"did you mean {near[0]!r}?" if near else "give one of these names or a directory of IDX files"
        raise UsageError(f"--data {name!r} is neither a dataset ({', '.join(NAMES)}) nor an existing path: {fix}")
    if not path.is_dir():
        raise UsageError(f"--data {name!r} is not a directory: give the one that holds the IDX files")
    return load_idx(name, path)
