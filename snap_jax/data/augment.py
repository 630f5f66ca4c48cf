"""Random flips and crops of training images: each image by a generator of its own, so that a batch stays a function.

Kept here instead of a pipeline of grain: a batch is already a pure function of (seed, step), and this is all that is
random in it.
"""

import numpy as np
from jaxtyping import Int, UInt8

from snap_jax.errors import UsageError

KINDS = ("flip", "crop", "flip+crop")
_BORDER = 8  # the border of a crop is 1/8 of a side: 4 of 32 pixels, as in section 4.2 of He et al., arXiv:1512.03385


def augment(
    pixels: UInt8[np.ndarray, "n height width channels"], places: Int[np.ndarray, " n"], *, seed: int, kind: str
) -> UInt8[np.ndarray, "n height width channels"]:
    """Return images that are flipped and shifted at random, as `(seed, place)` of each decides.

    With "flip" one image in two is mirrored. With "crop" an image gets a black border of 1/8 of its sides, and a window
    of its old size is cut out at a random place.

    Args:
      pixels: images of a batch.
      places: of each image in the sequence of epochs: an image that comes again comes with another place.
      seed: 0 to 2**32 - 1.
      kind: one of `KINDS`.

    Raises:
      UsageError: another kind.

    >>> images = np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1)
    >>> augment(images, np.array([0]), seed=0, kind="flip")[0, 0, :, 0].tolist()
    [3, 2, 1, 0]
    """
    if kind not in KINDS:
        raise UsageError(f"--augment {kind}: use one of {', '.join(KINDS)}")
    found = pixels.copy()
    for image, place in zip(found, places, strict=True):
        draw = np.random.default_rng((seed, int(place), 1))  # the 1 keeps it apart from the draws of the order
        image[:] = _one(image, draw.random(3), kind)
    return found


def _one(image: np.ndarray, drawn: np.ndarray, kind: str) -> np.ndarray:
    """Return one image, flipped and shifted as three numbers in [0, 1) say."""
    flip, down, right = drawn.tolist()
    if "flip" in kind and flip < 0.5:
        image = image[:, ::-1]
    if "crop" not in kind:
        return image
    height, width = image.shape[:2]
    borders = max(height // _BORDER, 1), max(width // _BORDER, 1)
    wide = np.pad(image, [(borders[0],) * 2, (borders[1],) * 2, (0, 0)])
    top, left = (int(share * (2 * border + 1)) for share, border in zip((down, right), borders, strict=True))
    return wide[top : top + height, left : left + width]
