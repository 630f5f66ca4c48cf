"""Stages: a model divided over the dies of a pipeline, and put together again.

Law: `join(*split(model, boundaries))` gives back the very parameters of `model`.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import PyTree

from snap_jax.errors import UsageError
from snap_jax.models.networks import Network
from snap_jax.nn import Boundary


class Stage(nnx.Module):
    """What one die holds: its blocks, its boundary to the next die, and a copy of the two ends.

    Only the first die uses `embed`, only the last uses `head`; the copies that others hold are never read and never
    travel, they make all dies the same program.
    """

    def __init__(self, model: Network, boundary: Boundary):
        self.model = model
        self.boundary = boundary


def split(model: Network, boundaries: Sequence[Boundary]) -> tuple[nnx.GraphDef, PyTree]:
    """One stage a boundary: the graph of a stage, and the parameters of all, stacked along a new first axis.

    Raises:
      UsageError: if the stages do not divide the layers.
    """
    count, layers = len(boundaries), len(model.blocks)
    if layers % count:
        fits = ", ".join(str(n) for n in range(1, layers + 1) if layers % n == 0)
        raise UsageError(f"chips={count} does not divide layers={layers}: use one of {fits} chips, or other --layers")
    each = layers // count
    placed = _hand_receivers_on(boundaries, 1)
    parts = [nnx.split(_stage(model, b, i * each, each)) for i, b in enumerate(placed)]
    return parts[0][0], jax.tree.map(lambda *leaves: jnp.stack(leaves), *(state for _, state in parts))


def join(graph: nnx.GraphDef, stacked: PyTree) -> tuple[Network, list[Boundary]]:
    """The model on one chip and its boundaries, from the stacked parameters of all stages."""
    count = jax.tree.leaves(stacked)[0].shape[0]
    stages = [nnx.merge(graph, jax.tree.map(lambda leaf, i=i: leaf[i], stacked)) for i in range(count)]
    model = stages[0].model
    model.blocks = nnx.List([block for stage in stages for block in stage.model.blocks])
    model.norm_out, model.head = stages[-1].model.norm_out, stages[-1].model.head
    return model, _hand_receivers_on([stage.boundary for stage in stages], -1)


def _hand_receivers_on(boundaries: Sequence[Boundary], places: int) -> list[Boundary]:
    """The receiving end of a boundary lives on the next die; the first die keeps that of the last, unused."""
    moved = [nnx.clone(boundary) for boundary in boundaries]
    for i, boundary in enumerate(moved):
        if boundary.around is not None:
            boundary.receiver = nnx.clone(boundaries[(i - places) % len(boundaries)].receiver)
    return moved


def _stage(model: Network, boundary: Boundary, first: int, count: int) -> Stage:
    part = nnx.clone(model)
    part.blocks = nnx.List(list(part.blocks)[first : first + count])
    return Stage(part, boundary)
