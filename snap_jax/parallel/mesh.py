"""Meshes, the names of their axes, and emulated devices.

Invariant: 1, 2, 4 or 8 emulated devices give the same numbers.
"""

from collections.abc import Mapping

import jax
from jax.sharding import AxisType, Mesh

from snap_jax.errors import UsageError
from snap_jax.parallel import processes

# The mesh axes of a layout: replicas that share a batch, stages of a pipeline, devices that share each layer.
DATA, STAGE, TENSOR = "data", "stage", "tensor"

_MOST_EMULATED = 64


def emulate_devices(count: int) -> None:
    """Make the CPU appear as at least `count` devices; only before JAX runs its first computation.

    Where an accelerator backend is installed nothing is emulated: JAX uses the accelerator's devices.

    Raises:
      UsageError: if `count` is out of range, or JAX has already started with fewer devices.
    """
    if not 1 <= count <= _MOST_EMULATED:
        raise UsageError(f"emulate_devices: {count} devices cannot be emulated: use 1 to {_MOST_EMULATED}")
    try:
        jax.config.update("jax_num_cpu_devices", max(count, jax.config.jax_num_cpu_devices))  # pyright: ignore[reportAttributeAccessIssue]
    except RuntimeError as error:  # the backend runs already
        if len(jax.devices()) < count:
            raise UsageError(
                f"emulate_devices: JAX runs with {len(jax.devices())} devices, {count} were asked for: "
                "call emulate_devices before the first computation, or use fewer devices"
            ) from error


def auto_mesh(axes: Mapping[str, int]) -> Mesh:
    """Return a mesh of the first devices, its axes typed `Auto` so that plain arrays enter `shard_map`.

    >>> dict(auto_mesh({"stage": 1}).shape)
    {'stage': 1}

    Raises:
      UsageError: if there are not enough devices; if they do not cover all processes.
    """
    need = 1
    for size in axes.values():
        need *= size
    devices = jax.devices()
    if need > len(devices):
        fix = f"call snap_jax.emulate_devices({need})"
        if devices[0].platform != "cpu":
            fix = f"use at most {len(devices)} devices, or emulate them on the CPU with JAX_PLATFORMS=cpu"
        raise UsageError(f"auto_mesh: {dict(axes)} needs {need} devices, {len(devices)} are there: {fix}")
    processes.require_all_devices(need)
    kinds = (AxisType.Auto,) * len(axes)
    return jax.make_mesh(tuple(axes.values()), tuple(axes), axis_types=kinds, devices=devices[:need])
