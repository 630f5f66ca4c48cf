"""IDX files: the format of MNIST and its successors (http://yann.lecun.com/exdb/mnist).

A header of big-endian 32-bit words - a magic number, then each dimension - and the bytes, last dimension fastest.
"""

import gzip
import itertools
import math
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from snap_jax.data.corpus import Text, as_text
from snap_jax.data.image_dataset import Images
from snap_jax.data.mapped import mapped
from snap_jax.errors import UsageError

_BYTES = 0x08  # third byte of the magic number: unsigned bytes; the fourth is the number of dimensions
_RATIO = 1032  # the most that deflate packs: 258 bytes in 2 bits
_PART = 2**20  # bytes unpacked at a time
_PARTS = {"train": "train", "heldout": "t10k"}
_KINDS = {"images": 3, "labels": 1}


def load_idx(name: str, folder: Path) -> Images:
    """Read the four files of an MNIST-like data set: `train-images-idx3-ubyte`, ..., each compressed (`.gz`) or not.

    Raises:
      UsageError: a file is missing, truncated, of another kind, or does not match the others; the message names it.
    """
    found = {part: tuple(_read(name, folder, prefix, kind) for kind in _KINDS) for part, prefix in _PARTS.items()}
    for part, (images, labels) in found.items():
        if len(images) != len(labels):
            raise UsageError(
                f"--data {name!r}: {_PARTS[part]}-images has {len(images)} images but {_PARTS[part]}-labels has "
                f"{len(labels)} labels: download both again, from one place"
            )
    (images, labels), (heldout, answers) = found["train"], found["heldout"]
    classes = 1 + max(int(a.max(initial=0)) for a in (labels, answers))
    notes = (f"held out the {len(heldout):,} images of t10k",)
    return Images(
        name,
        images[..., None],
        labels.astype(np.int32),
        heldout[..., None],
        answers.astype(np.int32),
        classes,
        notes,
    )


def _read(name: str, folder: Path, prefix: str, kind: str) -> UInt8[np.ndarray, "..."]:
    path = _find(name, folder, prefix, kind)
    try:
        return read_idx(path, dimensions=_KINDS[kind])
    except UsageError as error:
        raise UsageError(f"--data {name!r}: {error}") from error


def _find(name: str, folder: Path, prefix: str, kind: str) -> Path:
    stem = f"{prefix}-{kind}-idx{_KINDS[kind]}-ubyte"
    for candidate in (stem, f"{stem}.gz", stem.replace("-idx", ".idx"), stem.replace("-idx", ".idx") + ".gz"):
        if (folder / candidate).is_file():
            return folder / candidate
    raise UsageError(f"--data {name!r}: no file {stem} or {stem}.gz in {folder.absolute()}: put the IDX files there")


def read_idx(path: Path, *, dimensions: int) -> UInt8[np.ndarray, "..."]:
    """Return the array in one IDX file of unsigned bytes.

    Args:
      path: the file, which is mapped into memory; decompressed first if it ends in `.gz`.
      dimensions: how many dimensions the array must have.

    Raises:
      UsageError: it cannot be read or decompressed, is of another kind, or its size is not what it says.
    """
    header = 4 + 4 * dimensions
    data = _unpacked(path, header, lambda head: math.prod(struct.unpack(f">{dimensions}I", head[4:])))
    if len(data) < header:
        raise UsageError(f"{path} is cut short: {len(data)} bytes, not even a header of {header}: download it again")
    magic, *shape = struct.unpack(f">{1 + dimensions}I", data[:header].tobytes())
    if magic != (want := _BYTES << 8 | dimensions):
        raise UsageError(f"{path} starts with {magic:#010x}, not {want:#010x}: give an IDX{dimensions} file of bytes")
    if len(data) - header != math.prod(shape):
        size, long = math.prod(shape), len(data) - header > math.prod(shape)
        found = f"more than {size:,} bytes" if long else f"{len(data) - header:,} bytes, not {size:,},"
        raise UsageError(
            f"{path} is {'too long' if long else 'cut short'}: {found} for shape {tuple(shape)}: download it again"
        )
    return data[header:].reshape(shape)


def _unpacked(path: Path, header: int, rest: Callable[[bytes], int]) -> Text:
    """The header, and at most one byte more than it says there are: a file that unpacks to more is not unpacked.

    What is large is mapped into memory.
    """
    try:
        size = path.stat().st_size
        if path.suffix != ".gz":
            return np.asarray(np.memmap(path, np.uint8, "r")) if size else as_text(b"")
        with gzip.open(path) as file:
            head = file.read(header)
            most = min(rest(head) + 1, size * _RATIO) if len(head) == header else 0
            sizes = [_PART] * (most // _PART) + [most % _PART]
            return mapped(itertools.chain([head], map(file.read, sizes)))
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"cannot read {path} ({error}): download it again") from error
