"""The weights of a run as one safetensors file, for other programs, and a run directory made from such a file.

A tensor is named as in the model on one device: `model.blocks.0...`, and `boundaries.0...` for what the boundary after
stage 0 learned. The metadata holds the settings of the run as JSON under `snap_jax`.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx
from jaxtyping import PyTree

from snap_jax.errors import UsageError, requires_extra
from snap_jax.inference import trained_run
from snap_jax.models.split import split
from snap_jax.training import checkpoints
from snap_jax.training.config import read_settings, written_settings
from snap_jax.training.parallel_job import ParallelJob
from snap_jax.training.run_dir import Record, environment, write_record
from snap_jax.training.run_lock import locked
from snap_jax.training.starting import prepare
from snap_jax.training.tasks.assemble import on_one_device

_KEY = "snap_jax"
_ADVICE = "give a file that `snap-jax export` wrote"


def export_weights(run: Path, file: Path) -> int:
    """Write the final weights of a run into a safetensors file; return how many numbers that are.

    Raises:
      UsageError: as `trained_run.load`; if safetensors is not installed, the file exists already, or it cannot be
        written.
    """
    numpy_files = _safetensors()
    loaded = trained_run.load(run)
    found = _named(loaded.job, loaded.params)
    settings = json.dumps(written_settings(loaded.config))
    if os.path.lexists(file):
        raise UsageError(f"export: {file} exists and is not overwritten: delete it, or give another file")
    partial = file.with_name(f"{file.name}.partial")
    try:
        numpy_files.save_file(found, partial, metadata={_KEY: settings})
        os.replace(partial, file)
    except OSError as error:
        raise UsageError(f"export: cannot write {file} ({error}): give another file") from error
    return sum(array.size for array in found.values())


def import_weights(file: Path, run: Path) -> int:
    """Make a run directory whose final weights are those of a file; return how many numbers that are.

    `eval`, `generate` and `--init-from` take it as they take a trained run.

    Raises:
      UsageError: if the directory is not empty, or the file is no export or does not fit its settings.
    """
    if run.exists() and any(run.iterdir()):
        raise UsageError(f"import: {run} is not empty: give another directory")
    arrays, settings = _read(file)
    job = prepare(read_settings(settings, str(file)))
    like = _named(job, job.params)
    if different := sorted(set(like) ^ set(arrays)):
        raise UsageError(f"import: {file}: tensor {different[0]} is in only one of file and model: {_ADVICE}")
    for name, array in arrays.items():
        if (array.shape, array.dtype) != (like[name].shape, like[name].dtype):
            raise UsageError(
                f"import: {file}: tensor {name} is {array.dtype}{list(array.shape)}, not "
                f"{like[name].dtype}{list(like[name].shape)}: {_ADVICE}"
            )
    with locked(run):
        checkpoints.save_weights(run / "checkpoints" / "final", _placed(job, arrays))
        note = f"weights from {file.name}"
        write_record(run, Record(settings, job.fingerprint(), environment(), notes=(note,), origin=job.origin))
    return sum(array.size for array in arrays.values())


def _safetensors() -> Any:
    with requires_extra("hub", "snap-jax export"):
        from safetensors import numpy as numpy_files
    return numpy_files


def _read(file: Path) -> tuple[dict[str, np.ndarray], dict]:
    """The tensors of a file, and the settings of the run they are from; sizes are checked by safetensors."""
    _safetensors()
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np") as opened:
            text = (opened.metadata() or {}).get(_KEY, "")
            arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
        settings = json.loads(text)
    except (OSError, SafetensorError, ValueError) as error:
        raise UsageError(f"import: cannot read {file} ({error}): {_ADVICE}") from error
    if not isinstance(settings, dict):
        raise UsageError(f"import: {file} holds no settings of a run: {_ADVICE}")
    return arrays, settings


def _named(job: ParallelJob, params: PyTree) -> dict[str, np.ndarray]:
    """Every array of the model on one device and of its boundaries, by name."""
    model, boundaries = job.task.stages.join(on_one_device(params))
    parts = {"model": model} | {f"boundaries.{i}": boundary for i, boundary in enumerate(boundaries)}
    return {
        ".".join((name, *map(str, path))): np.asarray(leaf[...])
        for name, part in parts.items()
        for path, leaf in nnx.to_flat_state(nnx.state(part, nnx.Param))
    }


def _placed(job: ParallelJob, arrays: dict[str, np.ndarray]) -> PyTree:
    """The parameters of a job with these values, on its devices."""
    model, boundaries = job.task.stages.join(on_one_device(job.params))
    for name, part in {"model": model, **{f"boundaries.{i}": b for i, b in enumerate(boundaries)}}.items():
        state = nnx.to_flat_state(nnx.state(part, nnx.Param))
        taken = [(path, leaf.replace(arrays[".".join((name, *map(str, path)))])) for path, leaf in state]
        nnx.update(part, nnx.from_flat_state(taken))
    return job.task.place(split(model, boundaries)[1])
