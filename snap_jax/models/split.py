"""Where a model is cut into stages, and which kind of `Stages` it makes."""

from collections.abc import Sequence
from typing import TypeGuard

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import PyTree

from snap_jax.boundary.boundary import Boundary
from snap_jax.errors import UsageError
from snap_jax.models import different_structure, same_structure
from snap_jax.models.base import Network, VisionNetwork
from snap_jax.models.stages import ParamsByStage, Stages, hand_receivers_on


def split(model: Network, boundaries: Sequence[Boundary]) -> tuple[Stages, PyTree]:
    """Return the structure of the stages, one per boundary, and their parameters, `[stage, ...]` each.

    Raises:
      UsageError: if so many stages cannot be made.
    """
    stages, rows = split_in_rows(model, boundaries)
    return stages, stacked(stages, rows)


def split_in_rows(model: Network, boundaries: Sequence[Boundary]) -> tuple[Stages, ParamsByStage]:
    """Return the same, the parameters of each stage by themselves.

    Raises:
      UsageError: as `split`.
    """
    placed = hand_receivers_on(boundaries, 1)
    ends = cuts(model, len(boundaries))
    if len(boundaries) > 1 and has_different_blocks(model):
        return different_structure.split(model, placed, ends)
    return same_structure.split(model, placed, ends)


def stacked(stages: Stages, rows: ParamsByStage) -> PyTree:
    """Return the parameters of all stages as one tree, `[stage, ...]` each."""
    return _stacked([rows.of(stage) for stage in range(stages.count)])


@jax.jit
def _stacked(rows: Sequence[PyTree]) -> PyTree:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)


def cuts(model: Network, stages: int) -> list[int]:
    """Return how many blocks are in front of each boundary, the one after the last stage included.

    Raises:
      UsageError: if the stages do not divide the layers, or are more than the blocks.
    """
    if stages > 1 and has_different_blocks(model):
        return different_structure.cuts(model, stages)
    layers = len(model.blocks)
    if layers % stages:
        fits = ", ".join(str(n) for n in range(1, layers + 1) if layers % n == 0)
        raise UsageError(f"{stages} stages do not divide layers={layers}: use one of {fits} stages, or other layers")
    return [(i + 1) * layers // stages for i in range(stages)]


def has_different_blocks(model: Network) -> TypeGuard[VisionNetwork]:
    """Tell whether the blocks of a model differ, or change the shape of their stream.

    >>> from snap_jax.models.resnet import ResNet, ResNetConfig
    >>> has_different_blocks(ResNet(ResNetConfig((1, 1), width=8, downsample=False), rngs=nnx.Rngs(0)))
    False
    >>> has_different_blocks(ResNet(ResNetConfig((1, 1), width=8), rngs=nnx.Rngs(0)))
    True
    """
    if not isinstance(model, VisionNetwork):
        return False
    kinds = {(*map(jnp.shape, jax.tree.leaves(nnx.state(block))),) for block in model.blocks}
    return len(kinds) > 1 or any(block.stride != 1 for block in model.blocks)
