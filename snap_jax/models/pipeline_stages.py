"""Stages: a model divided over the dies of a pipeline, and put together again.

Law: `join(*split(model, boundaries))` gives back the very parameters of `model`.

Stages of one structure are stacked, leaf by leaf. Where blocks differ, several dies are for `models.uneven`.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PyTree

from snap_jax.boundary.boundary import Boundary
from snap_jax.errors import UsageError
from snap_jax.models import hetero_stages
from snap_jax.models.base import Network

Graph = nnx.GraphDef | hetero_stages.Layers  # of one stage, the same for all; or of each


class Stage(nnx.Module):
    """What one die holds: its blocks, its boundary to the next die, and a copy of the two ends.

    Only the first die uses `embed`, only the last uses `head`; the copies that others hold are never read and never
    travel, they make all dies the same program.
    """

    def __init__(self, model: Network, boundary: Boundary):
        self.model = model
        self.boundary = boundary


def cuts(model: Network, dies: int) -> list[int]:
    """How many blocks are in front of each boundary, that behind the last die among them.

    Raises:
      UsageError: if the dies do not divide the layers, or there are more of them than blocks.
    """
    if dies > 1 and hetero_stages.is_uneven(model):
        return hetero_stages.cuts(model, dies)
    layers = len(model.blocks)
    if layers % dies:
        fits = ", ".join(str(n) for n in range(1, layers + 1) if layers % n == 0)
        raise UsageError(f"chips={dies} does not divide layers={layers}: use one of {fits} chips, or other --layers")
    return [(i + 1) * layers // dies for i in range(dies)]


def split(model: Network, boundaries: Sequence[Boundary]) -> tuple[Graph, PyTree]:
    """One stage a boundary: the graph of a stage, and the parameters of all, stacked along a new first axis.

    Raises:
      UsageError: if the stages do not divide the layers.
    """
    placed = hand_receivers_on(boundaries, 1)
    if len(boundaries) > 1 and hetero_stages.is_uneven(model):
        return hetero_stages.split(model, placed)
    ends = cuts(model, len(boundaries))
    parts = [nnx.split(_stage(model, *where)) for where in zip(placed, [0, *ends], ends, strict=False)]
    return parts[0][0], jax.tree.map(lambda *leaves: jnp.stack(leaves), *(state for _, state in parts))


def join(graph: Graph, stacked: PyTree) -> tuple[Network, list[Boundary]]:
    """The model on one chip and its boundaries, from the stacked parameters of all stages."""
    if isinstance(graph, hetero_stages.Layers):
        model, boundaries = hetero_stages.join(graph, stacked)
        return model, hand_receivers_on(boundaries, -1)
    count = jax.tree.leaves(stacked)[0].shape[0]
    stages = [nnx.merge(graph, jax.tree.map(lambda leaf, i=i: leaf[i], stacked)) for i in range(count)]
    model = stages[0].model
    model.blocks = nnx.List([block for stage in stages for block in stage.model.blocks])
    model.norm_out, model.head = stages[-1].model.norm_out, stages[-1].model.head
    return model, hand_receivers_on([stage.boundary for stage in stages], -1)


def raise_thresholds(graph: Graph, stacked: PyTree, by: Float[Array, " die"]) -> PyTree:
    """The parameters with `by` added to the logarithms of all thresholds of each boundary; pure."""
    if isinstance(graph, hetero_stages.Layers):
        return hetero_stages.raise_thresholds(graph, stacked, by)
    flat = dict(nnx.to_flat_state(stacked))
    path = ("boundary", "log_threshold")
    raised = jax.tree.map(lambda t: t + by.reshape(-1, *[1] * (t.ndim - 1)), flat[path])  # `[die, channels]`
    return nnx.from_flat_state(flat | {path: raised})


def alike(graph: Graph, dies: int) -> list[slice]:
    """Dies whose boundaries send the same channels on the same wire: all of one structure, else each that sends."""
    return [slice(i, i + 1) for i in range(dies - 1)] if isinstance(graph, hetero_stages.Layers) else [slice(dies)]


def hand_receivers_on(boundaries: Sequence[Boundary], places: int) -> list[Boundary]:
    """With the receiving ends so many dies on: that of a boundary lives on the next die, that of the last on the first.

    The last is never used.
    """
    moved = [nnx.clone(boundary) for boundary in boundaries]
    for i, boundary in enumerate(moved):
        boundary.receiver = nnx.clone(boundaries[(i - places) % len(boundaries)].receiver)
    return moved


def _stage(model: Network, boundary: Boundary, first: int, end: int) -> Stage:
    part = nnx.clone(model)
    part.blocks = nnx.List(list(part.blocks)[first:end])
    return Stage(part, boundary)
