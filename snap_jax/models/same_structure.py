"""Stages of one structure: their parameters are stacked, leaf by leaf.

Every stage holds a copy of both ends of the model, which makes all of them one program. Only the first stage uses the
entrance and only the last the exit; the other copies are never read and never travel.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, PyTree

from snap_jax.boundary.boundary import Boundary
from snap_jax.boundary.learned_codec import CodecParam, Threshold
from snap_jax.models.base import Network
from snap_jax.models.stages import ParamsByStage, Stage, Stages, hand_receivers_on, own_of, part_of
from snap_jax.parallel.mesh import STAGE
from snap_jax.parallel.partition import specs
from snap_jax.parallel.pipeline import SameStages, report_nothing
from snap_jax.parallel.processes import on_host


@dataclasses.dataclass(frozen=True)
class SameStructure(Stages):
    """The structure of a stage, which is that of all.

    Attributes:
      graph: of a `Stage`.
      stages: how many there are.
    """

    graph: nnx.GraphDef
    stages: int

    @property
    def count(self):
        """How many there are."""
        return self.stages

    def join(self, params):
        """Take the blocks of all stages, the entrance of the first and the exit of the last."""
        stages = [nnx.merge(self.graph, own) for own in _unstacked(params, self.count)]
        model = stages[0].model
        model.blocks = nnx.List([block for stage in stages for block in stage.model.blocks])
        model.norm_out, model.head = stages[-1].model.norm_out, stages[-1].model.head
        return model, hand_receivers_on([stage.boundary for stage in stages], -1)

    def work(self, leave, *, inspect=report_nothing, apart=False, observe=False):
        """One program for all stages."""

        def keep_apart(boundary: Boundary, sent: jax.Array) -> tuple[jax.Array | float, PyTree]:
            loss, report = inspect(boundary, sent)
            return loss, [report] * max(1, self.count - 1)

        return SameStages(
            enter=lambda params, batch: self._own(params).model.enter(batch.inputs),
            body=lambda params, x: self._own(params).model.body(x),
            leave=lambda params, x, batch: leave(self._own(params).model.leave(x).astype(jnp.float32), batch),
            boundary=lambda params: self._own(params).boundary,
            stages=self.count,
            context=lambda batch: batch.inputs,
            inspect=keep_apart if apart else inspect,
            observe=observe,
        )

    def specs(self, params):
        """Stages along `stage`, and what a parameter says of itself along `tensor`."""
        return specs(params, STAGE)

    def raise_thresholds(self, params, by):
        """Add to every `Threshold` of the boundary."""
        flat = dict(nnx.to_flat_state(params))
        raised = {path: jax.tree.map(lambda t: t + _column(by, t), flat[path]) for path in _thresholds(flat)}
        return nnx.from_flat_state(flat | raised)

    def without_codecs(self, params):
        """Zeros for every `CodecParam`."""
        return jax.tree.map(without_codec, params, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))

    def thresholds(self, params):
        """The means over channels."""
        flat = dict(nnx.to_flat_state(params))
        logs = [on_host(flat[path][...]).reshape(self.count, -1) for path in _thresholds(flat)]
        return np.exp(np.concatenate(logs, 1)).mean(-1).tolist() if logs else []

    def alike(self):
        """All of them, the last too."""
        return [slice(self.count)]

    @property
    def gradient_sizes(self):
        """One number per parameter."""
        return None

    def _own(self, params: PyTree) -> Stage:
        return nnx.merge(self.graph, own_of(params))


def without_codec(param: nnx.Variable) -> nnx.Variable:
    """Return a parameter, zeros if a codec learns it."""
    return jax.tree.map(jnp.zeros_like, param) if isinstance(param, CodecParam) else param


def _thresholds(flat: Mapping) -> list[tuple]:
    return [path for path, p in flat.items() if path[0] == "boundary" and isinstance(p, Threshold)]


def _column(by: Array, like: Array) -> Array:
    return by.reshape(-1, *[1] * (like.ndim - 1))


def split(model: Network, boundaries: Sequence[Boundary], ends: Sequence[int]) -> tuple[SameStructure, ParamsByStage]:
    """Return one stage per boundary; `ends` says how many blocks are in front of each."""
    parts = [nnx.split(part_of(model, *where)) for where in zip(boundaries, [0, *ends], ends, strict=False)]
    like = jax.tree.map(lambda p: jax.ShapeDtypeStruct((len(parts), *p.shape), p.dtype), parts[0][1])
    return SameStructure(parts[0][0], len(parts)), ParamsByStage(like, lambda stage: parts[stage][1])


@functools.partial(jax.jit, static_argnums=1)
def _unstacked(params: PyTree, count: int) -> list[PyTree]:
    return [jax.tree.map(lambda leaf, i=i: leaf[i], params) for i in range(count)]
