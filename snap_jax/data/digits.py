"""The 8 x 8 handwritten digits that come with scikit-learn, so they need no download."""

import hashlib

import numpy as np
from jaxtyping import Bool, UInt8

from snap_jax.data.image_dataset import Images
from snap_jax.errors import requires_extra

_FULL = 16  # the largest pixel: how many of 4 x 4 scanned dots were ink (UCI "optdigits", Alpaydin & Kaynak 1998)
_SHARE = 5  # one in five is held out


def load_digits() -> Images:
    """Load 1,797 digits; a fifth of each class is held out, chosen by the SHA-256 of its pixels.

    Raises:
      UsageError: scikit-learn, of the extra `data`, is not installed.

    >>> digits = load_digits()
    >>> digits.train_images.shape, digits.heldout_images.shape, digits.classes
    ((1438, 8, 8, 1), (359, 8, 8, 1), 10)
    """
    with requires_extra("data", "--data digits"):
        from sklearn import datasets  # takes a second to import, and nothing else needs it

    rows, targets = datasets.load_digits(return_X_y=True)
    images = np.round(rows.reshape(-1, 8, 8, 1) * (255 / _FULL)).astype(np.uint8)
    labels = targets.astype(np.int32)
    held = _heldout(images, labels)
    notes = (
        f"held out {held.sum()} of {len(held)} images, a fifth of each class, chosen by the SHA-256 of their pixels; "
        "the same 13 people wrote both parts",
    )
    return Images("digits", images[~held], labels[~held], images[held], labels[held], 10, notes)


def _heldout(images: UInt8[np.ndarray, "n h w c"], labels: np.ndarray) -> Bool[np.ndarray, " n"]:
    hashes = [hashlib.sha256(image.tobytes()).digest() for image in images]
    held = np.zeros(len(images), bool)
    for label in np.unique(labels):
        members = sorted(np.flatnonzero(labels == label), key=hashes.__getitem__)
        held[members[: round(len(members) / _SHARE)]] = True
    return held
