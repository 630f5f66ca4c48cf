"""Meshes of 8 emulated devices that the tests of traffic share."""

import jax
import numpy as np
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

ROWS = P(("y", "x"))


def mesh_of(shape=(2, 4), names=("y", "x"), order=slice(None)):
    devices = np.array(jax.devices())[order].reshape(shape)
    return jax.sharding.Mesh(devices, names, axis_types=(AxisType.Auto,) * len(shape))


def sharded(f, mesh, out=ROWS):
    return jax.shard_map(f, mesh=mesh, in_specs=ROWS, out_specs=out)
