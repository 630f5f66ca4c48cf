"""A text in bytes, split into a training part and a held-out part that never change."""

import dataclasses
import gzip

import numpy as np
from numpy.typing import NDArray

from snap_jax.errors import UsageError

Text = NDArray[np.uint8]


@dataclasses.dataclass(frozen=True, eq=False)
class Corpus:
    """The training and held-out bytes of a text, with notes on how it was split.

    Attributes:
      name: the dataset or the path asked for.
      train: uint8 [bytes], read-only.
      heldout: uint8 [bytes], read-only; never trained on. It is the validation part if there is a test part.
      test: uint8 [bytes], read-only; only for data sets whose published results use a third part.
      notes: one line each: how the text was split, and which files were left out.
    """

    name: str
    train: Text
    heldout: Text
    test: Text | None = None
    notes: tuple[str, ...] = ()


def as_text(data: bytes) -> Text:
    """Return bytes as a read-only array.

    >>> as_text(b"ab")
    array([97, 98], dtype=uint8)
    """
    return np.frombuffer(data, np.uint8)


def order0_bits(text: bytes | Text) -> float:
    """Return the entropy of single bytes in bits per byte: the loss of a model that knows only their frequencies.

    >>> order0_bits(b"abcd")
    2.0
    """
    counts = np.bincount(as_text(bytes(_some(text, "order0_bits"))))
    p = counts[counts > 0] / counts.sum()
    return float(p @ -np.log2(p))


def gzip_bits(text: bytes | Text) -> float:
    """Return the size after `gzip -9`, header included, in bits per byte of text.

    >>> round(gzip_bits(b"spike " * 1000), 2)
    0.07
    """
    data = bytes(_some(text, "gzip_bits"))
    return 8 * len(gzip.compress(data, compresslevel=9, mtime=0)) / len(data)


def _some(text: bytes | Text, function: str) -> bytes | Text:
    if len(text) == 0:
        raise UsageError(f"{function}: the text is empty: bits per byte need at least one byte")
    return text
