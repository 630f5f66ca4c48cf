"""Data sets of TensorFlow Datasets that were prepared on this machine (extra `data`).

Reading them imports no TensorFlow; only preparing a data set, once, needs it.
"""

import functools
import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from snap_jax.data.image_dataset import Images
from snap_jax.data.indexed_records import Records
from snap_jax.data.mapped import mapped
from snap_jax.errors import UsageError, requires_extra

HELDOUT = {"cifar10": "test", "cifar100": "test", "fashion_mnist": "test", "imagenet2012": "validation"}
_AT_ONCE = 1000  # images decoded at a time
_KEPT = 0.875  # 224 of 256 pixels: `CROP_PADDING = 32` in preprocessing.py of the authors' EfficientNet


def load_tfds(name: str, data_dir: Path | None, size: int) -> Images:
    """Read a data set that `tfds build` wrote in array_record format; ImageNet stays on disk until a step reads it.

    Args:
      name: a key of `HELDOUT`, which names the split that is held out.
      data_dir: where it was prepared; None for TFDS_DATA_DIR, or else ~/tensorflow_datasets.
      size: pixels per side that images of ImageNet, which differ in size, are center-cropped to.

    Raises:
      UsageError: the extra is not installed, or the data set is missing, in another format or truncated.
    """
    builder = _builder(name, data_dir)
    features = builder.info.features
    shape = (size, size, 3) if name == "imagenet2012" else features["image"].shape
    parts = [_split(name, builder, split, shape) for split in ("train", HELDOUT[name])]
    if name != "imagenet2012":
        parts = [(_decoded(images), labels[:]) for images, labels in parts]
    (images, labels), (heldout, answers) = parts
    notes = (f"held out the {len(heldout):,} images of the split {HELDOUT[name]}; {builder.info.full_name}",)
    return Images(name, images, labels, heldout, answers, features["label"].num_classes, notes)


def _decoded(images: Records) -> UInt8[np.ndarray, "n height width channels"]:
    """All images, decoded once; a large set is mapped into memory from a temporary file."""
    starts = range(0, len(images), _AT_ONCE)
    return mapped(images[at : at + _AT_ONCE].tobytes() for at in starts).reshape(images.shape)


def _builder(name: str, data_dir: Path | None) -> Any:
    with requires_extra("data", f"--data {name}"):
        tfds = importlib.import_module("tensorflow_datasets")
        importlib.import_module("array_record.python.array_record_data_source")
    folder = data_dir or Path(os.environ.get("TFDS_DATA_DIR") or Path.home() / "tensorflow_datasets")
    versions = [p.parent for p in (folder / name).glob("*/dataset_info.json") if _version(p.parent)]
    if not versions:
        raise UsageError(f"--data {name!r}: nothing prepared in {(folder / name).absolute()}: {_build(name, folder)}")
    newest = max(versions, key=_version)
    try:
        return tfds.builder_from_directory(newest)
    except Exception as error:  # whatever its parsers raise
        message = " ".join(str(error).split())
        raise UsageError(f"--data {name!r}: cannot read {newest} ({message}): {_build(name, folder)}") from error


def _version(folder: Path) -> tuple[int, ...]:
    parts = folder.name.split(".")
    return tuple(int(part) for part in parts) if all(part.isdecimal() for part in parts) else ()


def _build(name: str, folder: Path) -> str:
    command = f"tfds build {name} --file_format=array_record --data_dir={folder}"
    return f"prepare it once, with TensorFlow installed, `{command}`"


def _split(name: str, builder: Any, split: str, shape: tuple[int, int, int]) -> tuple[Records, Records]:
    skip = importlib.import_module("tensorflow_datasets").decode.SkipDecoding()
    try:
        images = builder.as_data_source(split)
        answers = builder.as_data_source(split, decoders={"image": skip})
    except (NotImplementedError, ValueError) as error:
        folder = Path(builder.data_dir)
        why = f"no random access to split {split!r} in {folder}"
        raise UsageError(f"--data {name!r}: {why}: {_build(name, folder.parent.parent)}") from error
    read = functools.partial(_middle, size=shape[0]) if name == "imagenet2012" else _image
    return Records(images, read, shape, np.dtype("uint8")), Records(answers, _label, (), np.dtype("int32"))


def _image(record: Mapping[str, Any]) -> UInt8[np.ndarray, "height width channels"]:
    return record["image"]


def _label(record: Mapping[str, Any]) -> int:
    return int(record["label"])


def _middle(record: Mapping[str, Any], size: int) -> UInt8[np.ndarray, "size size 3"]:
    return middle(record["image"], size)


def middle(image: UInt8[np.ndarray, "height width 3"], size: int) -> UInt8[np.ndarray, "size size 3"]:
    """Return the center square of an image, 7/8 of its shorter side, resized to `size` pixels per side.

    >>> middle(np.zeros((300, 400, 3), np.uint8), 224).shape
    (224, 224, 3)
    """
    with requires_extra("data", "tfds.middle"):
        from PIL import Image

    height, width = image.shape[:2]
    half = min(height, width) * _KEPT / 2
    box = (width / 2 - half, height / 2 - half, width / 2 + half, height / 2 + half)
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR, box))
