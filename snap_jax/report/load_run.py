"""Read and check a run directory.

`result.json` is required. Other files may be missing; the report then leaves them out. A malformed file is an error.
"""

import dataclasses
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snap_jax.errors import UsageError
from snap_jax.report.result_file import read_result
from snap_jax.report.run_data import ImageSpikes, RunData, TextSpikes
from snap_jax.report.seeds import averaged_over_seeds

_MOST = 2**28  # bytes of spikes that are unpacked; those of a page take some megabytes
_TORN = (EOFError, zipfile.BadZipFile, zlib.error, RuntimeError)  # the last of an encrypted one


def read_runs(paths: Sequence[Path]) -> tuple[RunData, ...]:
    """Return the runs in these directories, in order and without repetitions, each with a label of its own.

    Runs that differ in nothing but their seed become one, their mean.

    Raises:
      UsageError: no paths, or one that is not a run directory or holds a malformed file.
    """
    if not paths:
        raise UsageError("report of no runs: give at least one run directory")
    runs = averaged_over_seeds([_read(Path(path)) for path in {Path(p).resolve(): p for p in paths}.values()])
    labels = _labels(runs)
    return tuple(dataclasses.replace(run, label=label) for run, label in zip(runs, labels, strict=True))


def _labels(runs: tuple[RunData, ...]) -> list[str]:
    """Return the link of each run, with only as much added as tells the runs apart."""
    names: list[Callable[[RunData], str]] = [
        lambda run: str(run.config.get("link", run.folder)),
        lambda run: f"{run.config.get('link', run.folder)} / {run.config.get('grad_link')}",
        lambda run: f"{run.config.get('mode', 'hybrid')} {run.config.get('link', run.folder)}",
        lambda run: f"{run.config.get('link', run.folder)}, {run.config.get('layout', 'pipeline')}",
        lambda run: f"{run.config.get('link', '')} ({run.folder})",
    ]
    for name in names:
        labels = [name(run) for run in runs]
        if len(set(labels)) == len(labels):
            return labels
    return [f"{run.config.get('link', '')} ({run.folder}, {i})" for i, run in enumerate(runs, start=1)]


def _read(path: Path) -> RunData:
    file = path / "result.json"
    if not file.is_file():
        raise UsageError(f"{path} is not a run directory, it has no result.json: give the --out of a finished run")
    return dataclasses.replace(read_result(path), spikes=read_spikes(path / "spikes.npz"))


def read_spikes(file: Path) -> TextSpikes | ImageSpikes | None:
    """Return the spikes in `spikes.npz`; None if there is no such file.

    Raises:
      UsageError: the file is damaged, or holds something else.
    """
    if not file.exists():
        return None
    try:
        with np.load(file, allow_pickle=False) as kept:
            if (size := sum(part.file_size for part in kept.zip.infolist())) > _MOST:
                raise ValueError(f"it unpacks to {size:,} bytes")
            arrays = {name: kept[name] for name in kept.files}
        return _image_spikes(arrays) if "image" in arrays else _text_spikes(arrays)
    except (OSError, LookupError, TypeError, AttributeError, ValueError, MemoryError, *_TORN) as error:
        raise UsageError(f"cannot read {file} ({error}): run the training again, or delete it") from error


def _text_spikes(arrays: Mapping[str, NDArray]) -> TextSpikes:
    text, spikes = arrays["text"], arrays["spikes"]
    if text.dtype != np.uint8 or spikes.dtype.kind != "i" or spikes.ndim != 3 or text.shape != spikes.shape[1:2]:
        raise ValueError(f"{_found('text', text, spikes)}, not uint8[T] and int[boundaries, T, channels]")
    return TextSpikes(text, spikes)


def _image_spikes(arrays: Mapping[str, NDArray]) -> ImageSpikes:
    image, label = arrays["image"], arrays["label"]
    apart = [f"spikes_{n}" for n in range(1, len(arrays) - 1)]
    # One array if all boundaries have one shape.
    boundaries = tuple(arrays["spikes"]) if "spikes" in arrays else tuple(arrays[name] for name in apart)
    for spikes in boundaries:
        if image.dtype != np.uint8 or image.ndim != 3 or spikes.dtype.kind != "i" or spikes.ndim != 4 or label.ndim:
            wanted = "uint8[height, width, colors] and for each boundary int[time steps, rows, columns, channels]"
            raise ValueError(f"{_found('image', image, spikes)}, not {wanted}")
    return ImageSpikes(image, int(label), boundaries)


def _found(name: str, shown: NDArray, spikes: NDArray) -> str:
    return f"{name} {shown.dtype}{list(shown.shape)} and spikes {spikes.dtype}{list(spikes.shape)}"
