"""Uneven: a model whose blocks differ, divided over the dies of a pipeline in stages of any size and shape.

Law: `join(*split(model, boundaries))` gives back the very parameters of `model`.

`shard_map` runs one program, over arrays that have one shape on all dies. So the parameters of a stage are laid end to
end, f32, and padded to the longest: `{"stages": [die, longest]}`; the program knows what is in them, and each die
unravels its own. Where chips divide each block too, what they divide lies beside, `{"shares": [die, tensor, longest]}`.
Only the first die holds the entrance of the model, only the last its exit.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, PyTree

from snap_jax.boundary.boundary import Boundary
from snap_jax.errors import UsageError
from snap_jax.models.base import Network, VisionNetwork
from snap_jax.models.param_packing import WHOLE, Name, Rows, split_dimension
from snap_jax.parallel.partition import names_of, split_of


class Stage(nnx.Module):
    """What one die holds: its blocks, an end of the model if it has one, and its boundary to the next die."""

    def __init__(self, model: VisionNetwork, boundary: Boundary):
        self.model = model
        self.boundary = boundary


@dataclasses.dataclass(frozen=True)
class Layer:
    """The structure of one stage, and where its parameters lie.

    Attributes:
      graph: of a `Stage`.
      tree: of its parameters.
      rows: of its parameters, in the order of the tree.
    """

    graph: nnx.GraphDef
    tree: Any  # PyTreeDef
    rows: Rows

    @property
    def thresholds_at(self) -> tuple[int, int]:
        """Where the logarithms of its boundary's thresholds begin and end in `stages`: all chips hold them."""
        shapes = self.rows.shapes
        numbered = nnx.merge(self.graph, jax.tree.unflatten(self.tree, range(len(shapes))))
        place = numbered.boundary.log_threshold.get_value()
        begin = self.rows.begin(place)
        return begin, begin + math.prod(shapes[place])

    def unravel(self, vectors: Mapping[str, Array | np.ndarray]) -> Stage:
        """The stage whose parameters come first in `stages`, `[longest]`, and in `shares`, `[rows, longest]`.

        With all rows the stage of all chips together, with one that of its chip.
        """
        return nnx.merge(self.graph, jax.tree.unflatten(self.tree, self.rows.leaves(vectors)))


@dataclasses.dataclass(frozen=True)
class Layers:
    """The structure of all stages, in order; hashable, in the place of the graph of even ones."""

    stages: tuple[Layer, ...]

    def own(self, stacked: PyTree) -> list[Stage]:
        """The stage of each die, from the parameters of all."""
        return [
            layer.unravel({name: vectors[die] for name, vectors in stacked.items()})
            for die, layer in enumerate(self.stages)
        ]

    def thresholds(self, stacked: PyTree) -> list[float]:
        """The mean threshold of the boundary behind each stage; none where no spikes cross."""
        boundaries = [stage.boundary for stage in self.own(jax.tree.map(np.asarray, stacked))]
        codecs = [boundary.codec for boundary in boundaries if boundary.codec is not None]
        return [float(c.encoding.threshold.mean()) for c in codecs if c.encoding.threshold is not None]


def raise_thresholds(layers: Layers, stacked: PyTree, by: Float[Array, " die"]) -> PyTree:
    """The parameters with `by` added to the logarithms of all thresholds of each die's boundary; pure."""
    first, end = jnp.asarray([layer.thresholds_at for layer in layers.stages]).T[..., None]
    whole = stacked[WHOLE]
    place = jnp.arange(whole.shape[-1])
    return stacked | {WHOLE: whole + jnp.where((first <= place) & (place < end), by[:, None], 0.0)}


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
    block does before its stride. Thresholds of regions do not count: cuts are the same however a block is divided.

    Raises:
      UsageError: if there are more dies than blocks.
    """
    blocks = list(model.blocks)
    if dies > len(blocks):
        raise UsageError(f"chips={dies} are more than the {len(blocks)} blocks of this model: use fewer chips")
    places = itertools.accumulate((1 / block.stride**2 for block in blocks), lambda a, b: a * b)
    return balanced([p * _size(block) for p, block in zip(places, blocks, strict=True)], dies)


def _size(block: nnx.Module) -> int:
    return sum(
        leaf.size for path, leaf in jax.tree.leaves_with_path(nnx.state(block)) if "region" not in names_of(path)
    )


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

    Of a model whose regions chips divide there are also their shares, `{"shares": [die, tensor, longest]}`.

    Raises:
      UsageError: if there are more dies than blocks.
    """
    ends, chips = cuts(model, len(boundaries)), model.blocks[0].region.chips
    stages = [_stage(model, *where) for where in zip(boundaries, [0, *ends], ends, strict=False)]
    layers, vectors = zip(*(_lay(stage, chips) for stage in stages), strict=True)
    return Layers(layers), jax.tree.map(lambda *each: _stacked(each), *vectors)


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


def _lay(stage: Stage, chips: int) -> tuple[Layer, dict[Name, Array]]:
    graph, state = nnx.split(stage)
    named, tree = jax.tree.flatten_with_path(state)
    splits = tuple(split_dimension(split_of(names_of(path))) for path, _ in named)
    rows = Rows(tuple(leaf.shape for _, leaf in named), splits, chips)
    return Layer(graph, tree, rows), rows.lay([leaf for _, leaf in named])


def _stacked(vectors: Sequence[Array]) -> Array:
    """One behind the other, the last axis padded to the longest."""
    longest = max(vector.shape[-1] for vector in vectors)
    return jnp.stack([jnp.pad(v, [(0, 0)] * (v.ndim - 1) + [(0, longest - v.shape[-1])]) for v in vectors])
