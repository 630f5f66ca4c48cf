"""The spikes that a run kept of one held-out text or picture, read and checked."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snap_jax.errors import UsageError
from snap_jax.report.run_data import PictureSpikes, TextSpikes


def read_spikes(file: Path) -> TextSpikes | PictureSpikes | None:
    """Read `spikes.npz`; None if there is none.

    Raises:
      UsageError: it is torn, or holds something else.
    """
    if not file.exists():
        return None
    try:
        with np.load(file, allow_pickle=False) as kept:
            arrays = {name: kept[name] for name in kept.files}
        return _picture(arrays) if "image" in arrays else _text(arrays)
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"cannot read {file} ({error}): run the training again, or delete it") from error


def _text(arrays: Mapping[str, NDArray]) -> TextSpikes:
    text, spikes = arrays["text"], arrays["spikes"]
    if text.dtype != np.uint8 or spikes.dtype.kind != "i" or spikes.ndim != 3 or text.shape != spikes.shape[1:2]:
        raise ValueError(f"{_found('text', text, spikes)}, not uint8[T] and int[boundaries, T, channels]")
    return TextSpikes(text, spikes)


def _picture(arrays: Mapping[str, NDArray]) -> PictureSpikes:
    image, label = arrays["image"], arrays["label"]
    apart = [f"spikes_{n}" for n in range(1, len(arrays) - 1)]
    # One array where all boundaries have one shape.
    boundaries = tuple(arrays["spikes"]) if "spikes" in arrays else tuple(arrays[name] for name in apart)
    for spikes in boundaries:
        if image.dtype != np.uint8 or image.ndim != 3 or spikes.dtype.kind != "i" or spikes.ndim != 4 or label.ndim:
            wanted = "uint8[height, width, colours] and for each boundary int[ticks, rows, columns, channels]"
            raise ValueError(f"{_found('image', image, spikes)}, not {wanted}")
    return PictureSpikes(image, int(label), boundaries)


def _found(name: str, shown: NDArray, spikes: NDArray) -> str:
    return f"{name} {shown.dtype}{list(shown.shape)} and spikes {spikes.dtype}{list(spikes.shape)}"
