"""Divided: a model learns to name what is asked of each input, divided over chips in any layout.

Law: with dense links the loss and its gradient do not depend on the layout.

One program holds every layout. Parameters are stacked by die, `P("die", ...)`, their layers divided over `tensor`; a
pipeline of one die is a loop over microbatches; a replica along `data` takes its part of each microbatch.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, Integer, PyTree

from snap_jax import data_parallel, tensor_parallel
from snap_jax._jax import as_varying
from snap_jax.budget import Crossing, Pressure, crossing
from snap_jax.calibrate import calibrate
from snap_jax.codecs import Codec
from snap_jax.errors import UsageError
from snap_jax.innovation import Innovation
from snap_jax.models import stages
from snap_jax.models.networks import Network
from snap_jax.nn import Boundary
from snap_jax.pipelines import pipeline
from snap_jax.tasks.layouts import DIE, Layout
from snap_jax.telemetry import Telemetry


class Batch(NamedTuple):
    """Inputs, and what is asked of them.

    Attributes:
      inputs: what the model enters, `[micro, batch, ...]`.
      labels: classes its logits are to name, `[micro, batch, ...]`.
    """

    inputs: Array | np.ndarray
    labels: Array | np.ndarray


class Scores(NamedTuple):
    """How each row did.

    Attributes:
      nats: cross-entropy, summed over its labels.
      correct: how many of its labels were named.
    """

    nats: Float[Array, "micro batch"]
    correct: Float[Array, "micro batch"]


Seen = tuple[Float[Array, ""], Telemetry]


@dataclasses.dataclass(frozen=True)
class Task:
    """A divided model as functions of its stacked parameters; hashable, so it may be a static argument.

    Attributes:
      graph: the structure of what one chip holds.
      mesh: `data x die x tensor`, axes of one left out, but for `die`.
      data_codec: how gradients of replicas are averaged; `None` for floats.
      pressure: what makes the spikes fewer, from die to die; `None` where nothing does.
    """

    graph: nnx.GraphDef
    mesh: Mesh
    data_codec: Codec | None = None
    pressure: Pressure | None = None

    @property
    def averages_spikes(self) -> bool:
        """Whether gradients come one row a replica, for the optimizer of `with_average` to average."""
        return self._has_data and self.data_codec is not None

    def specs(self, params: PyTree) -> PyTree:
        """How parameters lie on the mesh: a `PartitionSpec` for each."""
        return jax.tree.map(self._on_mesh, tensor_parallel.specs(params, DIE))

    def _on_mesh(self, spec: PartitionSpec) -> PartitionSpec:
        return PartitionSpec(*(axis if axis in self.mesh.shape else None for axis in spec))

    def place(self, params: PyTree) -> PyTree:
        """Parameters, each on its chips."""
        return jax.tree.map(lambda p, s: jax.device_put(p, NamedSharding(self.mesh, s)), params, self.specs(params))

    def with_average(self, optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
        """An optimizer for what `loss_and_gradient` gives: it averages rows of replicas as spikes, or is the same.

        Call its `init` outside of `jit`: then moments lie on the chips where their parameters do.
        """
        if self.data_codec is None or not self._has_data:
            return optimizer
        return optax.chain(data_parallel.average(self.mesh, self.data_codec, self.specs), optimizer)

    def loss(self, params: PyTree, batch: Batch) -> Float[Array, ""]:
        """Mean cross-entropy, nats a label."""
        return self._shard(lambda p, b: self._mean(self._loss(p, b)), params, PartitionSpec())(params, batch)

    def loss_and_gradient(self, params: PyTree, batch: Batch) -> tuple[Float[Array, ""], PyTree]:
        """The loss and its gradient, forward and backward in one `shard_map`."""
        (loss, _), gradient = self._both(lambda p, b: (self._loss(p, b), ()), params, batch, seen=())
        return loss, gradient

    def observed_loss_and_gradient(self, params: PyTree, batch: Batch) -> tuple[Seen, PyTree]:
        """The same, and what left each die, `[die]`, summed over replicas, beside the loss."""
        return self._both(self._observed_loss, params, batch, seen=PartitionSpec(DIE))

    def pressed_loss_and_gradient(
        self, params: PyTree, batch: Batch, state: Float[Array, " die"]
    ) -> tuple[Seen, PyTree]:
        """The same, the gradient being that of the loss and the pressure; `state` is that of the pressure."""
        whole, die = PartitionSpec(), PartitionSpec(DIE)

        def both(params: PyTree, batch: Batch, state: Array) -> tuple[Seen, PyTree]:
            (_, seen), gradient = jax.value_and_grad(self._pressed_loss, has_aux=True)(params, batch, state)
            return seen, gradient

        if self._has_data:
            raise UsageError("Task.pressed_loss_and_gradient: a pressure is for one replica: use a layout without data")
        specs = self.specs(params)
        run = jax.shard_map(both, mesh=self.mesh, in_specs=(specs, whole, die), out_specs=((whole, die), specs))
        return run(params, batch, state)

    def evaluate(self, params: PyTree, batch: Batch) -> tuple[Scores, Telemetry]:
        """How each row did, and what left each die, `[die]`."""
        return self._shard(self._evaluate, params, (self._row_spec, PartitionSpec(DIE)))(params, batch)

    def not_finite(self, params: PyTree, batch: Batch) -> Int[Array, " die"]:
        """How many numbers of the stream that leaves each die are NaN or infinite."""
        return self._shard(self._not_finite, params, PartitionSpec(DIE))(params, batch)

    def spikes(self, params: PyTree, batch: Batch) -> Integer[Array, "die batch ... channels"]:
        """The spikes that leave each die, summed over microbatches (so: give one)."""
        return self._shard(self._spikes, params, PartitionSpec(DIE, *self._row_spec[1:]))(params, batch)

    @property
    def _has_data(self) -> bool:
        return data_parallel.AXIS in self.mesh.shape

    @property
    def _row_spec(self) -> PartitionSpec:
        return PartitionSpec(None, data_parallel.AXIS) if self._has_data else PartitionSpec()

    def _shard(self, function: Callable, params: PyTree, out_specs: Any) -> Callable:
        specs = (self.specs(params), self._row_spec)
        return jax.shard_map(function, mesh=self.mesh, in_specs=specs, out_specs=out_specs)

    def _both(self, loss: Callable, params: PyTree, batch: Batch, *, seen: Any) -> tuple[tuple[Array, Any], PyTree]:
        """Loss, what was seen, and gradient; with `averages_spikes` that of each replica, stacked."""
        specs = self.specs(params)

        def run(params: PyTree, batch: Batch) -> tuple[tuple[Array, Any], PyTree]:
            if not self._has_data:
                return jax.value_and_grad(loss, has_aux=True)(params, batch)
            local = jax.tree.map(lambda p: as_varying(p, (data_parallel.AXIS,)), params)
            (nats, aux), gradient = jax.value_and_grad(loss, has_aux=True)(local, batch)
            return (self._mean(nats), aux), self._of_replicas(gradient)

        gradient_specs = data_parallel.rows(specs) if self.averages_spikes else specs
        return self._shard(run, params, ((PartitionSpec(), seen), gradient_specs))(params, batch)

    def _of_replicas(self, gradient: PyTree) -> PyTree:
        """Their mean, or a row of each."""
        if self.averages_spikes:
            return jax.tree.map(lambda g: g[None], gradient)
        with jax.named_scope(data_parallel.SCOPE):
            return lax.pmean(gradient, data_parallel.AXIS)

    def _run(
        self, params: PyTree, batch: Batch, leave: Callable, watch: Callable | None = None
    ) -> tuple[PyTree, PyTree]:
        """`leave` reads logits and labels; `watch`, the boundary and what it is about to send."""
        stage = nnx.merge(self.graph, jax.tree.map(lambda p: p[0], params))
        model, boundary = stage.model, stage.boundary

        def end(stream: Array, batch: Batch) -> PyTree:
            return leave(model.leave(stream).astype(jnp.float32), batch.labels)

        return pipeline(
            lambda b: model.enter(b.inputs),
            model.body,
            end,
            batch,
            DIE,
            boundary,
            context=lambda b: b.inputs,
            watch=None if watch is None else lambda sent: watch(boundary, sent),
        )

    def _loss(self, params: PyTree, batch: Batch) -> Array:
        """Of this replica's part of the batch."""
        nats, _ = self._run(params, batch, _nats)
        return _mean_over_dies(nats, batch)

    def _observed_loss(self, params: PyTree, batch: Batch) -> Seen:
        nats, seen = self._run(params, batch, _nats, _observe)
        return _mean_over_dies(nats, batch), self._of_this_die(seen)

    def _pressed_loss(self, params: PyTree, batch: Batch, state: Array) -> tuple[Array, Seen]:
        def watch(boundary: Boundary, sent: Array) -> tuple[Telemetry, Crossing]:
            assert boundary.codec is not None
            seen = crossing(boundary.codec.encoding, sent)
            return _observe(boundary, sent), seen._replace(bits=seen.bits * boundary.share)

        assert self.pressure is not None
        nats, (seen, crossings) = self._run(params, batch, _nats, watch)
        mean = jax.tree.map(lambda total: total / len(batch.labels), crossings)
        sends = lax.axis_index(DIE) < lax.axis_size(DIE) - 1
        pressed = jnp.where(sends, self.pressure.loss(state[0], mean), 0.0)
        loss = _mean_over_dies(nats, batch)
        return loss + lax.psum(pressed, DIE), (loss, self._of_this_die(seen))

    def _evaluate(self, params: PyTree, batch: Batch) -> tuple[Scores, Telemetry]:
        scores, seen = self._run(params, batch, _scores, _observe)
        return lax.psum(scores, DIE), self._of_this_die(seen)

    def _not_finite(self, params: PyTree, batch: Batch) -> Array:
        _, bad = self._run(params, batch, _nats, lambda _, stream: jnp.sum(~jnp.isfinite(stream)))
        return self._of_this_die(bad)

    def _spikes(self, params: PyTree, batch: Batch) -> Array:
        def watch(boundary: Boundary, stream: Array) -> Array:
            if boundary.codec is None:
                raise UsageError("Task.spikes: floats cross these boundaries: give them a codec")
            return boundary.codec.spikes(stream)

        _, spikes = self._run(params, batch, _nats, watch)
        return spikes[None]

    def _mean(self, loss: Array) -> Array:
        return lax.pmean(loss, data_parallel.AXIS) if self._has_data else loss

    def _of_this_die(self, seen: PyTree) -> PyTree:
        total = lax.psum(seen, data_parallel.AXIS) if self._has_data else seen
        return jax.tree.map(lambda a: a[None], total)


def _observe(boundary: Boundary, sent: Array) -> Telemetry:
    return boundary.observe(sent, DIE)


def _nats(logits: Array, labels: Array) -> Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).sum()


def _scores(logits: Array, labels: Array) -> Scores:
    """Of each row of a microbatch."""
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    correct = (logits.argmax(-1) == labels).astype(jnp.float32)
    return Scores(*(a.reshape(len(a), -1).sum(-1) for a in (nats, correct)))


def _mean_over_dies(nats: Array, batch: Batch) -> Array:
    return lax.psum(nats.sum(), DIE) / batch.labels.size


def build(
    model: Network,
    layout: Layout,
    codec: Codec | None,
    grad_codec: Codec | None,
    *,
    features: int,
    data_codec: Codec | None = None,
    around: Innovation | None = None,
    pressure: Pressure | None = None,
    rngs: nnx.Rngs | None = None,
) -> tuple[Task, PyTree]:
    """The task and its first parameters, each on its chips; the weights are those of `model` in every layout.

    Args:
      model: on one chip, e.g. `models.transformer.Transformer` or `models.resnet.ResNet`.
      layout: how chips share it.
      codec: what crosses from die to die and out of each region; `None` for floats.
      grad_codec: what crosses back.
      features: width of the stream.
      data_codec: how gradients of replicas are averaged; `None` for floats.
      around: what is learned around the codec, from die to die.
      pressure: what makes the spikes fewer, from die to die.
      rngs: of what is learned around the codec.

    Raises:
      UsageError: if the chips do not divide the layers, or a weight of them; or if there are too few devices.
    """
    if layout.tensor > 1:
        model = tensor_parallel.divide(model, layout.tensor, codec, grad_codec)
    boundaries = [
        Boundary(codec, features, grad_codec=grad_codec, around=around, rngs=rngs) for _ in range(layout.pipeline)
    ]
    graph, params = stages.split(model, boundaries)
    task = Task(graph, layout.make_mesh(), data_codec, pressure)
    return task, task.place(params)


def calibrated(task: Task, params: PyTree, inputs: Array, *, bits: float) -> PyTree:
    """The parameters with every boundary calibrated on what would cross it of `inputs`, `[batch, ...]`, uncoded."""
    model, boundaries = stages.join(task.graph, on_host(params))
    each = len(model.blocks) // len(boundaries)
    x = model.enter(inputs)
    for place, block in enumerate(model.blocks):
        x = block(x)
        if (place + 1) % each == 0:
            calibrate(boundaries[place // each], x, inputs, bits=bits)
    return task.place(stages.split(model, boundaries)[1])


def on_host(params: PyTree) -> PyTree:
    """Parameters off their mesh, whole and on one device."""
    return jax.tree.map(lambda p: jnp.asarray(np.asarray(p)), params)
