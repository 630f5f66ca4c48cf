"""Batches of which each process reads only the rows of its own devices.

Invariant: the rows that all processes read are together those that a single process would read.
"""

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Int, PyTree

from snap_jax.parallel.processes import count


def rows_here(mesh: Mesh, spec: PartitionSpec, microbatches: int, rows: int) -> Int[np.ndarray, " n"]:
    """Return which of so many rows devices of this process hold, in order.

    Row `m rows / microbatches + c` is in column `c` of microbatch `m`. A process holds the same columns of each.

    Args:
      mesh: the devices.
      spec: of `[microbatches, rows / microbatches]`.
      microbatches: how many there are.
      rows: in all of them together.

    >>> from snap_jax.parallel.mesh import auto_mesh
    >>> rows_here(auto_mesh({"data": 2}), PartitionSpec(None, "data"), 2, 8).tolist()
    [0, 1, 2, 3, 4, 5, 6, 7]
    """
    shape = microbatches, rows // microbatches
    held = np.zeros(shape, bool)
    for index in NamedSharding(mesh, spec).addressable_devices_indices_map(shape).values():
        held[index] = True
    return np.flatnonzero(held)


def assembled(tree: PyTree, mesh: Mesh, spec: PartitionSpec, columns: int) -> PyTree:
    """Return arrays `[microbatches, columns, ...]` on the mesh, of which this process gives the columns it holds.

    In a single process, which holds all, they stay as they are.
    """
    if count() == 1:
        return tree
    place = NamedSharding(mesh, spec)

    def one(array: jax.Array | np.ndarray) -> jax.Array:
        whole = len(array), columns, *array.shape[2:]
        return jax.make_array_from_process_local_data(place, np.asarray(array), whole)

    return jax.tree.map(one, tree)
