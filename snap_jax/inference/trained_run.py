"""A trained run, read from its directory and placed on its devices again.

Invariant: the parameters are those that the run's final evaluation used, bit for bit, unless another checkpoint, link
or number of devices is asked for.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from snap_jax.errors import UsageError
from snap_jax.inference.undivided import undivided
from snap_jax.training import checkpoints, starting
from snap_jax.training.config import Settings, read_settings
from snap_jax.training.init_from import restored
from snap_jax.training.parallel_job import ParallelJob
from snap_jax.training.run_dir import finished, record

_DENSE = ("dense", "fp32")


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """A run whose model is ready to be used.

    Attributes:
      path: its directory.
      job: its data and its divided model.
      params: the trained parameters, placed on the devices.
      checkpoint: `final`, or the step that was saved.
      link: what crosses between devices.
      result: what `result.json` of a finished run says; None for an unfinished one.
    """

    path: Path
    job: ParallelJob
    params: PyTree
    checkpoint: str
    link: str
    result: dict | None

    @property
    def config(self) -> Settings:
        """The settings that it was trained with, except for another link."""
        return self.job.config


def load(
    path: Path, *, checkpoint: int | None = None, devices: int | None = None, link: str | None = None
) -> TrainedRun:
    """Read a run; every mistake of the user is found here.

    Args:
      path: the run directory.
      checkpoint: a step that was saved; None takes the final weights, or of an unfinished run the last checkpoint.
      devices: 1 computes the whole model on one device, whose boundaries quantize and send nothing; None divides it as
        in training.
      link: what to send instead, such as `int8:channel`, or `dense` for float32; boundaries are then calibrated anew
        and have no transform. None sends what the run was trained with.

    Raises:
      UsageError: if there is no run or no such checkpoint, for a link or devices that cannot work.
    """
    path = Path(path)
    what = record(path) if path.is_dir() else None
    if what is None:
        raise UsageError(f"{path} is no run directory (it has no run.json): give the --out of a run")
    config, weights = read_settings(what.config, str(path / "run.json")), _weights(path, checkpoint)
    _check_devices(config, devices)
    job = starting.prepare(_to_infer(config) if link is None else _with_link(path, config, link))
    if link is None:
        name, folder = weights
        params = job.task.place(_read(path, folder, name, job.params, config.ema))
    elif checkpoint is not None:
        raise UsageError(f"--link {link} with --checkpoint {checkpoint}: another link starts from the final weights")
    else:
        params = job.params
    if devices == 1 and job.config.devices > 1:
        job, params = undivided(job, params)
    return TrainedRun(path, job, params, weights[0], link or config.sent_link, finished(path))


def _check_devices(config: Settings, devices: int | None) -> None:
    if devices in (None, config.devices):
        return
    if devices != 1:
        raise UsageError(f"--devices {devices}: the run has {config.devices}: use {config.devices}, or 1")
    if config.device_layout.tensor > 1 and config.sent_link != "fp32":
        raise UsageError(
            f"--devices 1: sums over {config.device_layout.tensor} devices send {config.sent_link}, which one device "
            f"cannot compute: use --devices {config.devices}"
        )


def _to_infer(config: Settings) -> Settings:
    """Without what only training reads; the run that one with a transform starts from gives its frequency tables."""
    changes: dict[str, Any] = {"distill": None, "teacher": None}
    return dataclasses.replace(config, **changes, init_from=config.init_from if config.has_transform else None)


def _with_link(path: Path, config: Settings, link: str) -> Settings:
    """The same model with plain boundaries, started from the run."""
    off = ("grad_link", "budget", "anneal", "penalty", "rank", "distill", "teacher", "prune_below", "ema")
    changes: dict[str, Any] = dict.fromkeys(off)
    changes |= {"link": "fp32" if link in _DENSE else link, "init_from": str(path)}
    if config.task == "language":
        changes["token_groups"] = 1
    if config.mode == "dense":
        changes["mode"] = "hybrid"
    return dataclasses.replace(config, **changes)


def _weights(path: Path, step: int | None) -> tuple[str, Path]:
    """The name and the folder of the checkpoint."""
    folder = path / "checkpoints"
    if step is not None:
        saved = sorted(int(p.name) for p in folder.glob("*") if p.name.isdecimal())
        if step not in saved:
            raise UsageError(f"--checkpoint {step}: {path} has {', '.join(map(str, saved)) or 'none'}: use one of them")
        if fault := checkpoints.fault(folder / str(step)):
            raise UsageError(f"--checkpoint {step}: {path}: {fault}: use another one")
        return str(step), folder / str(step)
    if (folder / "final").is_dir() and not checkpoints.fault(folder / "final"):
        return "final", folder / "final"
    last, _ = checkpoints.last_good(folder)
    if last is None:
        raise UsageError(f"{path} has no checkpoint yet: wait until the run has saved one")
    return last.name, last


def _read(path: Path, folder: Path, name: str, like: PyTree, ema: float | None) -> PyTree:
    if name == "final":
        return restored(path, folder, like)
    if ema is None:
        return restored(path, folder / "default", {"params": like})["params"]
    mean = restored(path, folder / "default", {"ema": like})["ema"]
    return optax.tree.bias_correction(mean, ema, jnp.int32(int(name)))
