"""A text in bytes, divided once and for all into what is learned from and what is measured on."""

import dataclasses
import gzip

import numpy as np
from numpy.typing import NDArray

from snap_jax.errors import UsageError

Text = NDArray[np.uint8]


@dataclasses.dataclass(frozen=True, eq=False)
class Corpus:
    """Bytes to train on, bytes to measure on, and what the reader should know about them.

    Attributes:
      name: the dataset or the path asked for.
      train: uint8 [bytes], read-only.
      heldout: uint8 [bytes], read-only; never trained on. The validation part, where there is a test part.
      test: uint8 [bytes], read-only, for a data set whose published results are on a third part.
      notes: one line each: how the text was divided, and every file that was left out.
    """

    name: str
    train: Text
    heldout: Text
    test: Text | None = None
    notes: tuple[str, ...] = ()


def as_text(data: bytes) -> Text:
    """View bytes as a read-only array.

    >>> as_text(b"ab")
    array([97, 98], dtype=uint8)
    """
    return np.frombuffer(data, np.uint8)


def order0_bits(text: bytes | Text) -> float:
    """Entropy of single bytes, bits per byte: what a model reaches that knows only how frequent each is.

    >>> order0_bits(b"abcd")
    2.0
    """
    counts = np.bincount(as_text(bytes(_some(text, "order0_bits"))))
    p = counts[counts > 0] / counts.sum()
    return float(p @ -np.log2(p))


def gzip_bits(text: bytes | Text) -> float:
    """Size after `gzip -9`, header included, in bits per byte of text.

    >>> round(gzip_bits(b"spike " * 1000), 2)
    0.07
    """
    data = bytes(_some(text, "gzip_bits"))
    return 8 * len(gzip.compress(data, compresslevel=9, mtime=0)) / len(data)


def _some(text: bytes | Text, function: str) -> bytes | Text:
    if len(text) == 0:
        raise UsageError(f"{function}: the text is empty: bits per byte need at least one byte")
    return text
