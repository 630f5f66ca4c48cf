"""A text in bytes, split into a training part and a held-out part that never change."""

import dataclasses
import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from snap_jax.errors import UsageError

Text = NDArray[np.uint8]

_PART = 2**20  # bytes
_GZIP = 16 + zlib.MAX_WBITS  # a gzip header around the compressed bytes


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
    counts = np.sum([np.bincount(part, minlength=256) for part in _parts(_some(text, "order0_bits"))], axis=0)
    p = counts[counts > 0] / counts.sum()
    return float(p @ -np.log2(p))


def gzip_bits(text: bytes | Text) -> float:
    """Return the size after `gzip -9`, header included, in bits per byte of text.

    >>> round(gzip_bits(b"spike " * 1000), 2)
    0.07
    """
    data, gzip = _some(text, "gzip_bits"), zlib.compressobj(9, wbits=_GZIP)
    size = sum(len(gzip.compress(part.data)) for part in _parts(data)) + len(gzip.flush())
    return 8 * size / len(data)


def _some(text: bytes | Text, function: str) -> Text:
    if len(text) == 0:
        raise UsageError(f"{function}: the text is empty: bits per byte need at least one byte")
    return as_text(text) if isinstance(text, bytes) else text


def _parts(text: Text) -> Iterator[Text]:
    """The text in parts, so that no copy of it all is made."""
    return (text[at : at + _PART] for at in range(0, len(text), _PART))
