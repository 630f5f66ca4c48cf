"""Language: next-byte prediction by an RWKV that is divided over the dies of a pipeline.

Law: with dense links the loss and its gradient do not depend on the number of dies.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int, Integer, PyTree

from snap_jax.budget import Crossing, Pressure, crossing
from snap_jax.calibrate import calibrate
from snap_jax.codecs import Codec
from snap_jax.errors import UsageError
from snap_jax.innovation import Innovation
from snap_jax.models import rwkv, stages
from snap_jax.models.precision import compute_in
from snap_jax.nn import Boundary
from snap_jax.pipelines import pipeline
from snap_jax.telemetry import Telemetry

AXIS = "die"
Loss = Callable[[PyTree, Int[Array, "micro batch time_plus_1"]], Float[Array, ""]]


@dataclasses.dataclass(frozen=True)
class Task:
    """A divided model as functions of its stacked parameters.

    Attributes:
      graph: the structure of one stage.
      mesh: with the axis `die`.
      codec: what crosses each boundary; `None` for floats.
      pressure: what makes the spikes fewer, from die to die; `None` where nothing does.
    """

    graph: nnx.GraphDef
    mesh: Mesh
    codec: Codec | None
    pressure: Pressure | None = None

    def loss(self, params: PyTree, tokens: Int[Array, "micro batch time_plus_1"]) -> Float[Array, ""]:
        """Mean cross-entropy, nats a byte."""
        return self._shard(self._loss, PartitionSpec())(params, tokens)

    def loss_and_gradient(self, params: PyTree, tokens: Int[Array, "micro batch time_plus_1"]) -> tuple[Array, PyTree]:
        """The loss and its gradient, forward and backward in one `shard_map`."""
        both = jax.value_and_grad(self._loss)
        return self._shard(both, (PartitionSpec(), PartitionSpec(AXIS)))(params, tokens)

    def observed_loss_and_gradient(
        self, params: PyTree, tokens: Int[Array, "micro batch time_plus_1"]
    ) -> tuple[tuple[Array, Telemetry], PyTree]:
        """The same, and what left each die, `[die]`, beside the loss."""
        both = jax.value_and_grad(self._observed_loss, has_aux=True)
        return self._shard(both, ((PartitionSpec(), PartitionSpec(AXIS)), PartitionSpec(AXIS)))(params, tokens)

    def pressed_loss_and_gradient(
        self, params: PyTree, tokens: Int[Array, "micro batch time_plus_1"], state: Float[Array, " die"]
    ) -> tuple[tuple[Array, Telemetry], PyTree]:
        """The same, the gradient being that of the loss and the pressure; `state` is that of the pressure."""

        def both(params: PyTree, tokens: Array, state: Array) -> tuple[tuple[Array, Telemetry], PyTree]:
            (_, seen), gradient = jax.value_and_grad(self._pressed_loss, has_aux=True)(params, tokens, state)
            return seen, gradient

        die, whole = PartitionSpec(AXIS), PartitionSpec()
        shard = jax.shard_map(both, mesh=self.mesh, in_specs=(die, whole, die), out_specs=((whole, die), die))
        return shard(params, tokens, state)

    def evaluate(
        self, params: PyTree, tokens: Int[Array, "micro batch time_plus_1"]
    ) -> tuple[Float[Array, "micro batch"], Telemetry]:
        """Cross-entropy of each window, nats summed over its bytes, and what left each die, `[die]`."""
        return self._shard(self._evaluate, (PartitionSpec(), PartitionSpec(AXIS)))(params, tokens)

    def not_finite(self, params: PyTree, tokens: Int[Array, "micro batch time_plus_1"]) -> Int[Array, " die"]:
        """How many numbers of the stream that leaves each die are NaN or infinite."""
        return self._shard(self._not_finite, PartitionSpec(AXIS))(params, tokens)

    def spikes(
        self, params: PyTree, tokens: Int[Array, "micro batch time_plus_1"]
    ) -> Integer[Array, "die batch time width"]:
        """The spikes that leave each die, summed over microbatches (so: give one)."""
        return self._shard(self._spikes, PartitionSpec(AXIS))(params, tokens)

    def _shard(self, function: Callable, out_specs) -> Callable:
        specs = (PartitionSpec(AXIS), PartitionSpec())
        return jax.shard_map(function, mesh=self.mesh, in_specs=specs, out_specs=out_specs)

    def _run(
        self, params: PyTree, tokens: Array, leave: Callable, watch: Callable | None = None
    ) -> tuple[PyTree, PyTree]:
        stage = nnx.merge(self.graph, jax.tree.map(lambda p: p[0], params))
        model = stage.model

        def end(stream: Array, tokens: Array) -> Array:
            logits = model.leave(stream).astype(jnp.float32)
            nats = optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:])
            return leave(nats)

        see = None if watch is None else lambda stream: watch(stage.boundary, stream)
        return pipeline(
            lambda t: model.enter(t[:, :-1]),
            model.body,
            end,
            tokens,
            AXIS,
            stage.boundary,
            context=lambda t: t[:, :-1],
            watch=see,
        )

    def _loss(self, params: PyTree, tokens: Array) -> Array:
        nats, _ = self._run(params, tokens, jnp.sum)
        return _mean_over_dies(nats, tokens)

    def _observed_loss(self, params: PyTree, tokens: Array) -> tuple[Array, Telemetry]:
        nats, seen = self._run(params, tokens, jnp.sum, _observe)
        return _mean_over_dies(nats, tokens), _of_this_die(seen)

    def _pressed_loss(self, params: PyTree, tokens: Array, state: Array) -> tuple[Array, tuple[Array, Telemetry]]:
        def watch(boundary: Boundary, sent: Array) -> tuple[Telemetry, Crossing]:
            assert boundary.codec is not None
            seen = crossing(boundary.codec.encoding, sent)
            return _observe(boundary, sent), seen._replace(bits=seen.bits * sent.shape[-1] / boundary.features)

        assert self.pressure is not None
        nats, (seen, crossings) = self._run(params, tokens, jnp.sum, watch)
        mean = jax.tree.map(lambda total: total / tokens.shape[0], crossings)
        sends = jax.lax.axis_index(AXIS) < jax.lax.axis_size(AXIS) - 1
        pressed = jnp.where(sends, self.pressure.loss(state[0], mean), 0.0)
        loss = _mean_over_dies(nats, tokens)
        return loss + jax.lax.psum(pressed, AXIS), (loss, _of_this_die(seen))

    def _evaluate(self, params: PyTree, tokens: Array) -> tuple[Array, Telemetry]:
        nats, seen = self._run(params, tokens, lambda n: n.sum(-1), _observe)
        return jax.lax.psum(nats, AXIS), _of_this_die(seen)

    def _not_finite(self, params: PyTree, tokens: Array) -> Array:
        _, bad = self._run(params, tokens, jnp.sum, lambda _, stream: jnp.sum(~jnp.isfinite(stream)))
        return bad[None]

    def _spikes(self, params: PyTree, tokens: Array) -> Array:
        def watch(boundary: Boundary, stream: Array) -> Array:
            if boundary.codec is None:
                raise UsageError("Task.spikes: floats cross these boundaries: give them a codec")
            return boundary.codec.spikes(stream)

        _, spikes = self._run(params, tokens, jnp.sum, watch)
        return spikes[None]


def _observe(boundary: Boundary, stream: Array) -> Telemetry:
    return boundary.observe(stream, AXIS)


def _of_this_die(seen: Telemetry) -> Telemetry:
    return jax.tree.map(lambda a: a[None], seen)


def _mean_over_dies(nats: Array, tokens: Array) -> Array:
    return jax.lax.psum(nats.sum(), AXIS) / tokens[..., 1:].size


def build(
    config: rwkv.Config,
    mesh: Mesh,
    codec: Codec | None,
    grad_codec: Codec | None,
    *,
    seed: int,
    dtype: jnp.dtype | None = None,
    around: Innovation | None = None,
    pressure: Pressure | None = None,
) -> tuple[Task, PyTree]:
    """The task and its first parameters; the same for every number of dies.

    Layers compute in `dtype`, if one is given; the stream that crosses is of it.

    Raises:
      UsageError: if the dies do not divide the layers.
    """
    model = rwkv.RWKV(config, rngs=nnx.Rngs(seed))
    if dtype is not None:
        compute_in(model, dtype)
    rngs = nnx.Rngs(seed + 1)
    boundaries = [
        Boundary(codec, config.width, grad_codec=grad_codec, around=around, rngs=rngs) for _ in range(mesh.shape[AXIS])
    ]
    graph, params = stages.split(model, boundaries)
    return Task(graph, mesh, codec, pressure), params


def calibrated(task: Task, params: PyTree, tokens: Int[Array, "batch time_plus_1"], *, bits: float) -> PyTree:
    """The parameters with every boundary calibrated on what would cross it of `tokens`, uncoded."""
    on_host = jax.tree.map(lambda p: jnp.asarray(np.asarray(p)), params)  # off the mesh, on one device
    model, boundaries = stages.join(task.graph, on_host)
    each = len(model.blocks) // len(boundaries)
    x = model.enter(tokens[:, :-1])
    for place, block in enumerate(model.blocks):
        x = block(x)
        if (place + 1) % each == 0:
            calibrate(boundaries[place // each], x, tokens[:, :-1], bits=bits)
    return stages.split(model, boundaries)[1]
