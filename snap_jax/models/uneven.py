"""Uneven: a model whose blocks differ, divided over the dies of a pipeline in stages of any size and shape.

Law: `join(*split(model, boundaries))` gives back the very parameters of `model`.

`shard_map` runs one program, over arrays that have one shape on all dies. So the parameters of a stage are laid end to
end, f32, and padded to the longest: `[die, longest]`; the program knows what is in them, and each die unravels its own.
Only the first die holds the entrance of the model, only the last its exit.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array, Float, PyTree

from snap_jax.errors import UsageError
from snap_jax.models.networks import Network, VisionNetwork
from snap_jax.nn import Boundary


class Stage(nnx.Module):
    """What one die holds: its blocks, an end of the model if it has one, and its boundary to the next die."""

    def __init__(self, model: VisionNetwork, boundary: Boundary):
        self.model = model
        self.boundary = boundary


@dataclasses.dataclass(frozen=True)
class Layer:
    """The structure of one stage, and the shapes of its parameters.

    Attributes:
      graph: of a `Stage`.
      tree: of its parameters.
      shapes: of its parameters, in the order of the tree.
    """

    graph: nnx.GraphDef
    tree: Any  # PyTreeDef
    shapes: tuple[tuple[int, ...], ...]

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return sum(math.prod(shape) for shape in self.shapes)

    @property
    def thresholds_at(self) -> tuple[int, int]:
        """Where the logarithms of its boundary's thresholds begin and end among its numbers."""
        numbered = nnx.merge(self.graph, jax.tree.unflatten(self.tree, range(len(self.shapes))))
        place = numbered.boundary.log_threshold.get_value()
        ends = [0, *itertools.accumulate(math.prod(shape) for shape in self.shapes)]
        return ends[place], ends[place + 1]

    def parts(self, vector: Float[Array | np.ndarray, " longest"]) -> list[Array]:
        """Its parameters, each as it lies in the first `size` numbers.

        By one `lax.split`, whose transpose is one concatenation; that of a slice is an array of the full length.
        """
        sizes = [math.prod(shape) for shape in self.shapes]
        return list(lax.split(jnp.asarray(vector), [*sizes, vector.size - self.size]))[:-1]

    def unravel(self, vector: Float[Array | np.ndarray, " longest"]) -> Stage:
        """The stage whose parameters are the first `size` numbers."""
        leaves = [part.reshape(shape) for part, shape in zip(self.parts(vector), self.shapes, strict=True)]
        return nnx.merge(self.graph, jax.tree.unflatten(self.tree, leaves))


@dataclasses.dataclass(frozen=True)
class Layers:
    """The structure of all stages, in order; hashable, in the place of the graph of even ones."""

    stages: tuple[Layer, ...]

    def own(self, stacked: PyTree) -> list[Stage]:
        """The stage of each die, from the parameters of all."""
        return [layer.unravel(vector) for layer, vector in zip(self.stages, stacked["stages"], strict=True)]

    def thresholds(self, stacked: PyTree) -> list[float]:
        """The mean threshold of the boundary behind each stage; none where no spikes cross."""
        boundaries = [stage.boundary for stage in self.own({"stages": np.asarray(stacked["stages"])})]
        codecs = [boundary.codec for boundary in boundaries if boundary.codec is not None]
        return [float(c.encoding.threshold.mean()) for c in codecs if c.encoding.threshold is not None]


def raise_thresholds(layers: Layers, stacked: PyTree, by: Float[Array, " die"]) -> PyTree:
    """The parameters with `by` added to the logarithms of all thresholds of each die's boundary; pure."""
    first, end = jnp.asarray([layer.thresholds_at for layer in layers.stages]).T[..., None]
    place = jnp.arange(stacked["stages"].shape[-1])
    return {"stages": stacked["stages"] + jnp.where((first <= place) & (place < end), by[:, None], 0.0)}


def is_uneven(model: Network) -> TypeGuard[VisionNetwork]:
    """Whether its blocks differ, or change the shape of what they add to.

    >>> from snap_jax.models.resnet import Config, ResNet
    >>> is_uneven(ResNet(Config((1, 1), width=8, downsample=False), rngs=nnx.Rngs(0)))
    False
    >>> is_uneven(ResNet(Config((1, 1), width=8), rngs=nnx.Rngs(0)))
    True
    """
    if not isinstance(model, VisionNetwork):
        return False
    kinds = {(*map(jnp.shape, jax.tree.leaves(nnx.state(block))),) for block in model.blocks}
    return len(kinds) > 1 or any(block.stride != 1 for block in model.blocks)


def cuts(model: VisionNetwork, dies: int) -> list[int]:
    """How many blocks are in front of each boundary: runs of blocks, the longest in work as short as can be.

    The work of a block is taken to be its parameters times the places of the stream behind it, as it is but for what a
    block does before its stride.

    Raises:
      UsageError: if there are more dies than blocks.
    """
    blocks = list(model.blocks)
    if dies > len(blocks):
        raise UsageError(f"chips={dies} are more than the {len(blocks)} blocks of this model: use fewer chips")
    places = itertools.accumulate((1 / block.stride**2 for block in blocks), lambda a, b: a * b)
    work = [p * sum(leaf.size for leaf in jax.tree.leaves(nnx.state(b))) for p, b in zip(places, blocks, strict=True)]
    return balanced(work, dies)


def balanced(work: Sequence[float], parts: int) -> list[int]:
    """The ends of so many runs, none empty, that divide `work`; the largest sum of a run is as small as can be.

    >>> balanced([1.0, 1.0, 1.0, 3.0], 2), balanced([5.0, 1.0, 1.0, 1.0], 3)
    ([3, 4], [1, 2, 4])
    """
    sums = [0.0, *itertools.accumulate(work)]
    # For so many runs and items: the largest sum, and the ends of the runs.
    best = [(sums[n], [n]) for n in range(len(work) + 1)]
    for runs in range(2, parts + 1):
        best = [
            min(
                ((max(best[m][0], sums[n] - sums[m]), [*best[m][1], n]) for m in range(runs - 1, n)),
                default=(math.inf, []),
            )
            for n in range(len(work) + 1)
        ]
    return best[-1][1]


def split(model: VisionNetwork, boundaries: Sequence[Boundary]) -> tuple[Layers, PyTree]:
    """One stage a boundary: the structure of all, and their parameters, `{"stages": [die, longest]}`.

    Raises:
      UsageError: if there are more dies than blocks.
    """
    ends = cuts(model, len(boundaries))
    stages = [_stage(model, *where) for where in zip(boundaries, [0, *ends], ends, strict=False)]
    layers, vectors = zip(*map(_ravel, stages), strict=True)
    longest = max(layer.size for layer in layers)
    stacked = jnp.stack([jnp.pad(vector, (0, longest - vector.size)) for vector in vectors])
    return Layers(layers), {"stages": stacked}


def join(layers: Layers, stacked: PyTree) -> tuple[VisionNetwork, list[Boundary]]:
    """The model on one chip and its boundaries, from the parameters of all stages."""
    stages = layers.own(stacked)
    model, last = stages[0].model, stages[-1].model
    model.blocks = nnx.List([block for stage in stages for block in stage.model.blocks])
    _replace(model, norm_out=last.norm_out, head=last.head)
    return model, [stage.boundary for stage in stages]


def _stage(model: VisionNetwork, boundary: Boundary, first: int, end: int) -> Stage:
    part = nnx.clone(model)
    part.blocks = nnx.List(list(part.blocks)[first:end])
    if first > 0:
        _replace(part, stem=None)
    if end < len(model.blocks):
        _replace(part, norm_out=None, head=None)
    return Stage(part, nnx.clone(boundary))


def _replace(model: VisionNetwork, **ends: nnx.Module | None) -> None:
    for name, end in ends.items():
        delattr(model, name)  # a module and `None` are not of one kind to nnx
        setattr(model, name, end)


def _ravel(stage: Stage) -> tuple[Layer, Float[Array, " size"]]:
    graph, state = nnx.split(stage)
    leaves, tree = jax.tree.flatten(state)
    layer = Layer(graph, tree, tuple(leaf.shape for leaf in leaves))
    return layer, jnp.concatenate([jnp.ravel(leaf) for leaf in leaves])
