"""Blocks of a model of which a process keeps only what its own devices hold, as soon as each has been made.

Invariant: what is kept has the bits that it has in the whole model, since every block is still made, one at a time.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from snap_jax.models.base import Network
from snap_jax.models.split import cuts, has_different_blocks
from snap_jax.parallel.mesh import STAGE, TENSOR
from snap_jax.parallel.partition import split_of, variables
from snap_jax.parallel.same_arrays import hashes

Block = TypeVar("Block", bound=nnx.Module)
Place = tuple[tuple[int, int], ...]  # first and last + 1 along each dimension
Index = tuple[slice, ...]


def own_blocks(model: Callable[[], Network], mesh: Mesh, here: Collection[Any]) -> "OwnBlocks":
    """Return what keeps of each block the part of some devices; `model` is traced, and nothing is made.

    Args:
      model: returns the whole model.
      mesh: with the axis `stage`.
      here: the devices of this process.

    Raises:
      UsageError: as `cuts`.
    """
    shapes = nnx.eval_shape(model)
    stages = mesh.shape[STAGE]
    stage_of, first = [], 0
    for stage, end in enumerate(cuts(shapes, stages)):
        stage_of += [stage] * (end - first)
        first = end
    # Stages that differ are packed from whole parameters.
    return OwnBlocks(mesh, here, stage_of, divides=not (stages > 1 and has_different_blocks(shapes)))


class OwnBlocks:
    """Call it with each block that has been made, and its number: it drops from it what other processes hold.

    A parameter of which something was dropped becomes an array of the same shape that takes no memory; `read` has what
    was kept of it.

    Attributes:
      hashes: of all parameters of all blocks as they were made, by name.
    """

    def __init__(self, mesh: Mesh, here: Collection[Any], stage_of: Sequence[int], *, divides: bool):
        self._mesh, self._here, self._stage_of, self._divides = mesh, here, stage_of, divides
        self.hashes: dict[str, str] = {}
        self._kept: dict[int, tuple[np.ndarray, dict[Place, np.ndarray]]] = {}

    def __call__(self, number: int, block: Block) -> Block:
        """Return the block without what other processes hold."""
        state = nnx.state(block)
        self.hashes |= hashes(state, f"blocks.{number}.")
        leaves = [self._own(v.get_value(), split_of(v), self._stage_of[number]) for v in variables(state)]
        nnx.update(block, jax.tree.unflatten(jax.tree.structure(state), leaves))
        return block

    def read(self, parameter: Array | np.ndarray, index: Index) -> np.ndarray:
        """Return a part of a parameter, which must be that of a device of this process."""
        empty, parts = self._kept.get(id(parameter), (None, {}))
        if empty is None:
            return np.asarray(parameter)[index]
        return parts[_place(index, parameter.shape)]

    def _own(self, parameter: Array, split: int | None, stage: int) -> Any:
        here = self._indices(parameter.shape, split, stage)
        whole = tuple((0, size) for size in parameter.shape)
        if whole in here or (here and not self._divides):
            return parameter
        array = np.asarray(parameter)
        parts = {place: array[tuple(slice(*ends) for ends in place)].copy() for place in here}
        empty = np.broadcast_to(np.zeros((), array.dtype), array.shape)  # all strides are 0
        self._kept[id(empty)] = empty, parts
        return empty

    def _indices(self, shape: tuple[int, ...], split: int | None, stage: int) -> set[Place]:
        """Which parts devices of this process hold on that stage."""
        own = () if split is None or TENSOR not in self._mesh.shape else (*[None] * split, TENSOR)
        all_stages = self._mesh.shape[STAGE], *shape
        places = NamedSharding(self._mesh, PartitionSpec(STAGE, *own)).devices_indices_map(all_stages)
        found = [_place(index, all_stages) for device, index in places.items() if device in self._here]
        return {place[1:] for place in found if place[0][0] <= stage < place[0][1]}


def _place(index: Index, shape: tuple[int, ...]) -> Place:
    return tuple(part.indices(size)[:2] for part, size in zip(index, shape, strict=True))
