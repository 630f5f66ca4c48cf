"""Text token by token, over the stages of a pipeline: the states of all layers go on from step to step.

Invariant: the logits are those of the full forward pass, to float rounding, with the same boundaries.

A step is a pure function of parameters, state and tokens, for any number of tokens: of a whole prompt it is the
prefill, of one token the decode step. Stage i works while the others wait; each link carries one message per step.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, PyTree

from snap_jax._compat import as_varying, pytree
from snap_jax.boundary.boundary import Boundary
from snap_jax.errors import UsageError
from snap_jax.models.same_structure import SameStructure
from snap_jax.models.stages import own_of
from snap_jax.parallel.mesh import STAGE
from snap_jax.training.tasks.task import Task


@pytree
@dataclasses.dataclass(frozen=True)
class DecodeState:
    """What goes on from step to step.

    Attributes:
      layers: states of the blocks of each stage, `[stage, ...]` each.
      recent: the latest tokens that boundaries predict from, `[batch, lags]`; zeros before the first.
      position: tokens so far, int32.
      senders: the codec of the stage before each, `[stage, ...]`; it crosses once, and never changes.
    """

    layers: Any  # PyTree
    recent: Any  # Int[Array, "batch lags"]
    position: Any  # Int[Array, ""]
    senders: Any  # PyTree


@dataclasses.dataclass(frozen=True)
class Decoder:
    """The steps of a divided language model; hashable, so it may be a static argument.

    Attributes:
      task: the model, a pipeline.
      lags: earlier tokens that its boundaries read.
    """

    task: Task
    lags: int

    def start(self, params: PyTree, batch: int, positions: int) -> DecodeState:
        """Return the state before the first token of `batch` texts of at most so many positions."""
        own = jax.eval_shape(lambda p: jax.tree.map(lambda a: a[:1], p), params)
        states = jax.eval_shape(lambda p: [b.initial_state(batch, positions) for b in self._own(p).model.blocks], own)
        stages = self.task.mesh.shape[STAGE]
        place = NamedSharding(self.task.mesh, PartitionSpec(STAGE))
        zeros = jax.jit(
            lambda: jax.tree.map(lambda s: jnp.zeros((stages, *s.shape), s.dtype), states), out_shardings=place
        )
        return DecodeState(zeros(), jnp.zeros((batch, self.lags), jnp.int32), jnp.int32(0), self._senders(params))

    def _senders(self, params: PyTree) -> PyTree:
        hops = [(i, i + 1) for i in range(self.task.mesh.shape[STAGE] - 1)]
        if not hops:
            return None

        def connect(params: PyTree) -> PyTree:
            sender = self._own(params).boundary.handshake(STAGE, hops)
            return jax.tree.map(lambda a: as_varying(jnp.asarray(a), (STAGE,))[None], sender)

        specs, by_stage = self.task.specs(params), PartitionSpec(STAGE)
        return jax.jit(jax.shard_map(connect, mesh=self.task.mesh, in_specs=(specs,), out_specs=by_stage))(params)

    def step(
        self, params: PyTree, state: DecodeState, tokens: Int[Array, "batch time"], finish: Callable[[Array], Array]
    ) -> tuple[Array, DecodeState]:
        """Go on with these tokens.

        Args:
          params: of the task.
          state: after the tokens before.
          tokens: the next ones of each text.
          finish: logits, `[batch, time, vocabulary]`, on the last stage -> what every stage gets to know, such as the
            next token; integers or floats, sent as they are.

        Returns:
          What `finish` made, and the state after these tokens.
        """
        context = jnp.concatenate([state.recent, tokens], 1)
        run = jax.shard_map(
            lambda params, by_stage, context, position: self._through(params, by_stage, context, position, finish),
            mesh=self.task.mesh,
            in_specs=(self.task.specs(params), PartitionSpec(STAGE), PartitionSpec(), PartitionSpec()),
            out_specs=(PartitionSpec(), PartitionSpec(STAGE)),
        )
        found, layers = run(params, (state.layers, state.senders), context, state.position)
        recent = context[:, context.shape[1] - self.lags :]
        return found, DecodeState(layers, recent, state.position + tokens.shape[1], state.senders)

    def _own(self, params: PyTree) -> Any:
        assert isinstance(self.task.stages, SameStructure)
        return nnx.merge(self.task.stages.graph, own_of(params))

    def _through(
        self, params: PyTree, by_stage: PyTree, context: Array, position: Array, finish: Callable[[Array], Array]
    ) -> tuple[Array, PyTree]:
        """One stage after the other, on the device of one stage."""
        own, stages, stage = self._own(params), self.task.mesh.shape[STAGE], lax.axis_index(STAGE)
        context, position = as_varying(context, (STAGE,)), as_varying(position, (STAGE,))
        tokens, (states, sender) = context[:, self.lags :], own_of(by_stage)
        x = as_varying(own.model.enter(tokens), (STAGE,))
        for place in range(stages):
            x, states = lax.cond(stage == place, _blocks, _no_blocks, own, x, states, position)
            if place < stages - 1:
                x = self._sent(own.boundary, sender, x, context, (place, place + 1), stage)

        def end() -> Array:
            return as_varying(finish(own.model.leave(x).astype(jnp.float32)), (STAGE,))

        last = jnp.zeros_like(jax.eval_shape(end), shape=jax.eval_shape(end).shape)
        found = lax.cond(stage == stages - 1, end, lambda: as_varying(last, (STAGE,)))
        with jax.named_scope("next_token"):
            found = lax.psum(found, STAGE)
        return found, jax.tree.map(lambda a: a[None], states)

    def _sent(
        self, boundary: Boundary, sender: Any, x: Array, context: Array, hop: tuple[int, int], stage: Array
    ) -> Array:
        """The stream after one hop, on the stage where it arrives; elsewhere the same as before."""
        whole = self._whole(x)
        prepared = as_varying(boundary.prepare(whole, context), (STAGE,))[:, self.lags :]
        arriving = boundary.send(prepared, STAGE, [hop], sender_codec=sender)
        restored = boundary.restore(self._whole(arriving), context)[:, self.lags :]
        return jnp.where(stage == hop[1], restored, x)

    def _whole(self, x: Float[Array, "batch time features"]) -> Float[Array, "batch all features"]:
        """With zeros in the place of earlier tokens, which transforms read but do not change."""
        return jnp.pad(x, ((0, 0), (self.lags, 0), (0, 0)))


def _blocks(own: Any, x: Array, states: list, position: Array) -> tuple[Array, list]:
    after = []
    for block, state in zip(own.model.blocks, states, strict=True):
        x, state = block.step(x, state, position)
        after.append(state)
    return x, after


def _no_blocks(own: Any, x: Array, states: list, position: Array) -> tuple[Array, list]:
    return x, states


def decoder_of(task: Task, params: PyTree) -> Decoder:
    """Return the decoder of a language model.

    Raises:
      UsageError: for a layout other than a pipeline, and for a transform that cannot be applied token by token.
    """
    others = [axis for axis, size in task.mesh.shape.items() if axis != STAGE and size > 1]
    if others:
        raise UsageError(f"generate: devices share more than the layers ({', '.join(others)}): use a run of a pipeline")
    boundary = jax.eval_shape(lambda p: task.stages.join(p)[1][0].sender, params)
    reach = {type(link).__name__: link.lags for link in boundary.links}
    for name, lags in reach.items():
        if lags is None:
            raise UsageError(
                f"generate: {name} orders the vectors of a whole message, which decoding cannot keep: use a "
                "run with --token-groups 1"
            )
    return Decoder(task, max((lags or 0 for lags in reach.values()), default=0))
