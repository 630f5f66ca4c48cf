"""Stages that differ: a model whose blocks have different shapes, in stages of any size.

`shard_map` runs one program, over arrays that have one shape on all devices. So the parameters of a stage lie end to
end in one f32 vector, padded to the longest: `{"stages": [stage, longest]}`. The program knows what is in them, and
each device unpacks its own. Parameters that devices of the axis `tensor` divide lie in a second vector,
`{"shares": [stage, tensor, longest]}`. Only the first stage holds the entrance of the model, only the last its exit.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, PyTree

from snap_jax.boundary.boundary import Boundary
from snap_jax.boundary.learned_codec import CodecParam
from snap_jax.collectives.scale_exchange import AxisName
from snap_jax.errors import UsageError
from snap_jax.models.base import Network, VisionNetwork
from snap_jax.models.param_packing import SHARES, WHOLE, Name, PackedRows
from snap_jax.models.stages import ParamsByStage, Stage, Stages, hand_receivers_on, own_of, part_of
from snap_jax.parallel.mesh import STAGE, TENSOR
from snap_jax.parallel.partition import split_of, variables
from snap_jax.parallel.pipeline import DifferentStages, report_nothing
from snap_jax.parallel.processes import on_host


@dataclasses.dataclass(frozen=True)
class PackedStage:
    """The structure of one stage, and where its parameters lie.

    Attributes:
      graph: of a `Stage`.
      tree: of its parameters.
      rows: of its parameters, in the order of the tree.
    """

    graph: nnx.GraphDef
    tree: Any  # PyTreeDef
    rows: PackedRows

    @property
    def thresholds_at(self) -> tuple[int, int]:
        """Where the logarithms of the thresholds of its boundary begin and end in `stages`."""
        shapes = self.rows.shapes
        numbered = nnx.merge(self.graph, jax.tree.unflatten(self.tree, range(len(shapes))))
        place = numbered.boundary.log_threshold.get_value()
        begin = self.rows.begin(place)
        return begin, begin + math.prod(shapes[place])

    @property
    def codecs_at(self) -> list[tuple[int, int]]:
        """Where what codecs learn begins and ends in `stages`."""
        numbered = variables(jax.tree.unflatten(self.tree, range(len(self.rows.shapes))))
        places = [v.get_value() for v in numbered if isinstance(v, CodecParam)]
        begins = [(self.rows.begin(place), math.prod(self.rows.shapes[place])) for place in places]
        return [(begin, begin + size) for begin, size in begins]

    def unpack(self, vectors: Mapping[str, Array | np.ndarray]) -> Stage:
        """Return the stage whose parameters come first in `stages`, `[longest]`, and in `shares`, `[rows, longest]`.

        With all rows it is the stage of all devices along `tensor` together, with one row that of its device.
        """
        return nnx.merge(self.graph, jax.tree.unflatten(self.tree, self.rows.leaves(vectors)))


@dataclasses.dataclass(frozen=True)
class DifferentStructure(Stages):
    """The structure of every stage, in order."""

    stages: tuple[PackedStage, ...]

    @property
    def count(self):
        """How many there are."""
        return len(self.stages)

    def join(self, params):
        """Take the blocks of all stages, the entrance of the first and the exit of the last."""
        stages = self._unpacked(params)
        model, last = stages[0].model, stages[-1].model
        model.blocks = nnx.List([block for stage in stages for block in stage.model.blocks])
        _replace(model, norm_out=last.norm_out, head=last.head)
        return model, hand_receivers_on([stage.boundary for stage in stages], -1)

    def work(self, leave, *, inspect=report_nothing, apart=False, observe=False):
        """A branch for each stage; parameters that are not of its own stage mean nothing to a device."""
        return DifferentStages(
            enter=lambda params, batch: self._stage(0, params).model.enter(batch.inputs),
            bodies=[lambda params, x, i=i: self._stage(i, params).model.body(x) for i in range(self.count)],
            leave=lambda params, x, batch: leave(self._stage(-1, params).model.leave(x).astype(jnp.float32), batch),
            boundaries=self._boundaries,
            inspect=inspect,
            apart=apart,
            observe=observe,
        )

    def specs(self, params):
        """Vectors along `stage`, shares along `tensor` too."""
        found = {WHOLE: PartitionSpec(STAGE), SHARES: PartitionSpec(STAGE, TENSOR)}
        return {name: found[name] for name in params}

    def raise_thresholds(self, params, by):
        """Add to the places in the vectors where thresholds lie."""
        first, end = jnp.asarray([stage.thresholds_at for stage in self.stages]).T[..., None]
        place = jnp.arange(params[WHOLE].shape[-1])
        return params | {WHOLE: params[WHOLE] + jnp.where((first <= place) & (place < end), by[:, None], 0.0)}

    def without_codecs(self, params):
        """Zeros in the places of the vectors where every `CodecParam` lies."""
        found = [stage.codecs_at for stage in self.stages]
        most = max(map(len, found))
        if not most:
            return params
        padded = jnp.asarray([[*places, *[(0, 0)] * (most - len(places))] for places in found]).reshape(-1, most, 2)
        first, end = padded[..., :1], padded[..., 1:]
        place = jnp.arange(params[WHOLE].shape[-1])
        return params | {WHOLE: jnp.where(((first <= place) & (place < end)).any(1), 0.0, params[WHOLE])}

    def thresholds(self, params):
        """The means over channels."""
        boundaries = [stage.boundary for stage in self._unpacked(on_host(params))]
        codecs = [boundary.codec for boundary in boundaries if boundary.codec is not None]
        return [float(c.encoding.threshold.mean()) for c in codecs if c.encoding.threshold is not None]

    def alike(self):
        """Each by itself, the last not."""
        return [slice(i, i + 1) for i in range(self.count - 1)]

    @property
    def gradient_sizes(self):
        """One number per parameter, of which a vector holds several."""
        return self.mean_size

    def mean_size(self, u: Float[Array, "*one longest"], axis_name: AxisName) -> Float[Array, " longest"]:
        """Return for each number the mean size of its parameter, over all devices; one scalar per parameter is sent.

        `u` is `[1, longest]` as it lies in `stages`, or `[1, 1, longest]` as in `shares`.
        """
        name, longest = (WHOLE if u.ndim == 2 else SHARES), u.shape[-1]
        most = max(len(stage.rows.sizes(name)) for stage in self.stages)

        def of_each(stage: PackedStage, u: Array) -> Array:
            return _padded([jnp.abs(part).mean()[None] for part in stage.rows.parts(name, u)], most)

        def over_all(stage: PackedStage, means: Array) -> Array:
            each = zip(means, stage.rows.sizes(name), strict=False)
            return _padded([jnp.broadcast_to(mean, size) for mean, size in each], longest)

        def of_this_stage(function: Callable[[PackedStage, Array], Array], x: Array) -> Array:
            return lax.switch(lax.axis_index(STAGE), [functools.partial(function, stage) for stage in self.stages], x)

        return of_this_stage(over_all, lax.pmean(of_this_stage(of_each, u.reshape(-1)), axis_name))

    def _unpacked(self, params: PyTree) -> list[Stage]:
        each = [{name: vectors[i] for name, vectors in params.items()} for i in range(self.count)]
        return [stage.unpack(vectors) for stage, vectors in zip(self.stages, each, strict=True)]

    def _stage(self, i: int, params: PyTree) -> Stage:
        return self.stages[i].unpack(own_of(params))

    def _boundaries(self, params: PyTree) -> list[Boundary]:
        """The sender's side as it is on its own stage, the receiver's side as it is on the next."""
        return hand_receivers_on([_on_its_stage(self._stage(i, params).boundary, i) for i in range(self.count)], -1)


def _on_its_stage(boundary: Boundary, stage: int) -> Boundary:
    """Return the boundary as it is on its own stage; on others, whose numbers mean something else, with zeros."""
    here = lax.axis_index(STAGE) == stage
    nnx.update(boundary, jax.tree.map(lambda p: jnp.where(here, p, jnp.zeros_like(p)), nnx.state(boundary)))
    return boundary


def split(
    model: VisionNetwork, boundaries: Sequence[Boundary], ends: Sequence[int]
) -> tuple[DifferentStructure, ParamsByStage]:
    """Return one stage per boundary; `ends` says how many blocks are in front of each."""
    devices = model.blocks[0].region.devices
    stages = [_part_of(model, *where) for where in zip(boundaries, [0, *ends], ends, strict=False)]
    packed, leaves = zip(*(_pack(stage, devices) for stage in stages), strict=True)
    longest = {name: max(sum(stage.rows.sizes(name)) for stage in packed) for name in packed[0].rows.names}

    def of(stage: int) -> dict[Name, Array]:
        return {name: _lengthened(v, longest[name]) for name, v in packed[stage].rows.lay(leaves[stage]).items()}

    shapes = jax.eval_shape(lambda: of(0))
    like = {name: jax.ShapeDtypeStruct((len(packed), *v.shape), v.dtype) for name, v in shapes.items()}
    return DifferentStructure(packed), ParamsByStage(like, of)


def cuts(model: VisionNetwork, stages: int) -> list[int]:
    """Return how many blocks are in front of each boundary: the stage with the most work has as little as possible.

    The work of a block is taken to be its parameters times the places of the stream after it. Parameters of regions do
    not count, so the cuts do not depend on how a block is divided.

    Raises:
      UsageError: if there are more stages than blocks.
    """
    blocks = list(model.blocks)
    if stages > len(blocks):
        raise UsageError(f"{stages} stages are more than the {len(blocks)} blocks of this model: use fewer stages")
    places = itertools.accumulate((1 / block.stride**2 for block in blocks), lambda a, b: a * b)
    return balanced([p * _size(block) for p, block in zip(places, blocks, strict=True)], stages)


def _size(block: nnx.Module) -> int:
    flat = nnx.to_flat_state(nnx.state(block))
    return sum(math.prod(leaf.shape) for path, leaf in flat if "region" not in path)


def balanced(work: Sequence[float], parts: int) -> list[int]:
    """Return the ends of so many runs, none empty, that divide `work`; the largest sum of a run is as small as can be.

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


def _part_of(model: VisionNetwork, boundary: Boundary, first: int, end: int) -> Stage:
    """Return a stage without the ends of the model that it does not use."""
    stage = part_of(model, boundary, first, end)
    if first > 0:
        _replace(stage.model, stem=None)
    if end < len(model.blocks):
        _replace(stage.model, norm_out=None, head=None)
    return stage


def _replace(model: Network, **ends: nnx.Module | None) -> None:
    for name, end in ends.items():
        delattr(model, name)  # a module and `None` are not of one kind to nnx
        setattr(model, name, end)


def _pack(stage: Stage, devices: int) -> tuple[PackedStage, list[Array]]:
    graph, state = nnx.split(stage)
    leaves, tree = jax.tree.flatten(state)
    splits = tuple(split_of(variable) for variable in variables(state))
    rows = PackedRows(tuple(leaf.shape for leaf in leaves), splits, devices)
    return PackedStage(graph, tree, rows), leaves


def _padded(parts: list[Array], length: int) -> Array:
    joined = jnp.concatenate(parts)
    return jnp.pad(joined, (0, length - joined.size))


def _lengthened(vector: Array, length: int) -> Array:
    return jnp.pad(vector, [(0, 0)] * (vector.ndim - 1) + [(0, length - vector.shape[-1])])
