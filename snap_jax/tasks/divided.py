"""Divided: next-token prediction by a model that is divided over chips in any layout.

Law: with dense links the loss and its gradient do not depend on the layout.

One program holds every layout. Parameters are stacked by die, `P("die", ...)`, their layers divided over `tensor`; a
pipeline of one die is a loop over microbatches; a replica along `data` takes its part of each microbatch.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import optax
from flax import nnx
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, Integer, PyTree

from snap_jax import data_parallel, tensor_parallel
from snap_jax._jax import as_varying
from snap_jax.codecs import Codec
from snap_jax.errors import UsageError
from snap_jax.models import stages
from snap_jax.models.networks import Network
from snap_jax.nn import Boundary
from snap_jax.pipelines import pipeline
from snap_jax.tasks.layouts import DIE, Layout
from snap_jax.telemetry import Telemetry

Tokens = Int[Array, "micro batch time_plus_1"]


@dataclasses.dataclass(frozen=True)
class Task:
    """A divided model as functions of its stacked parameters; hashable, so it may be a static argument.

    Attributes:
      graph: the structure of what one chip holds.
      mesh: `data x die x tensor`, axes of one left out, but for `die`.
      codec: what crosses from die to die and out of each region; `None` for floats.
      data_codec: how gradients of replicas are averaged; `None` for floats.
    """

    graph: nnx.GraphDef
    mesh: Mesh
    codec: Codec | None
    data_codec: Codec | None = None

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

    def loss(self, params: PyTree, tokens: Tokens) -> Float[Array, ""]:
        """Mean cross-entropy, nats a token."""
        return self._shard(lambda p, t: self._mean(self._loss(p, t)), params, PartitionSpec())(params, tokens)

    def loss_and_gradient(self, params: PyTree, tokens: Tokens) -> tuple[Float[Array, ""], PyTree]:
        """The loss and its gradient, forward and backward in one `shard_map`."""
        (loss, _), gradient = self._both(params, tokens, lambda p, t: (self._loss(p, t), ()), ())
        return loss, gradient

    def observed_loss_and_gradient(
        self, params: PyTree, tokens: Tokens
    ) -> tuple[tuple[Float[Array, ""], Telemetry], PyTree]:
        """The same, and what left each die, `[die]`, summed over replicas, beside the loss."""
        return self._both(params, tokens, self._observed_loss, PartitionSpec(DIE))

    def evaluate(self, params: PyTree, tokens: Tokens) -> tuple[Float[Array, "micro batch"], Telemetry]:
        """Cross-entropy of each window, nats summed over its tokens, and what left each die, `[die]`."""
        return self._shard(self._evaluate, params, (self._token_spec, PartitionSpec(DIE)))(params, tokens)

    def spikes(self, params: PyTree, tokens: Tokens) -> Integer[Array, "die batch time width"]:
        """The spikes that leave each die, summed over microbatches (so: give one)."""
        spec = PartitionSpec(DIE, *self._token_spec[1:])
        return self._shard(self._spikes, params, spec)(params, tokens)

    @property
    def _has_data(self) -> bool:
        return data_parallel.AXIS in self.mesh.shape

    @property
    def _token_spec(self) -> PartitionSpec:
        return PartitionSpec(None, data_parallel.AXIS) if self._has_data else PartitionSpec()

    def _shard(self, function: Callable, params: PyTree, out_specs: Any) -> Callable:
        specs = (self.specs(params), self._token_spec)
        return jax.shard_map(function, mesh=self.mesh, in_specs=specs, out_specs=out_specs)

    def _both(self, params: PyTree, tokens: Array, loss: Callable, seen_spec: Any) -> tuple[tuple[Array, Any], PyTree]:
        """Loss, what was seen, and gradient; with `averages_spikes` that of each replica, stacked."""

        def together(params: PyTree, tokens: Array) -> tuple[Array, Any]:
            nats, seen = loss(params, tokens)
            return self._mean(nats), seen

        def alone(params: PyTree, tokens: Array) -> tuple[tuple[Array, Any], PyTree]:
            local = jax.tree.map(lambda p: as_varying(p, (data_parallel.AXIS,)), params)
            (nats, seen), gradient = jax.value_and_grad(loss, has_aux=True)(local, tokens)
            return (self._mean(nats), seen), jax.tree.map(lambda g: g[None], gradient)

        specs = self.specs(params)
        if self.averages_spikes:
            run, gradient_specs = alone, data_parallel.rows(specs)
        else:
            run, gradient_specs = jax.value_and_grad(together, has_aux=True), specs
        return self._shard(run, params, ((PartitionSpec(), seen_spec), gradient_specs))(params, tokens)

    def _run(
        self, params: PyTree, tokens: Array, leave: Callable, watch: Callable | None = None
    ) -> tuple[PyTree, PyTree]:
        stage = nnx.merge(self.graph, jax.tree.map(lambda p: p[0], params))
        model = stage.model

        def end(stream: Array, tokens: Array) -> Array:
            return leave(optax.softmax_cross_entropy_with_integer_labels(model.leave(stream), tokens[:, 1:]))

        see = None if watch is None else lambda stream: watch(stage.boundary, stream)
        return pipeline(lambda t: model.enter(t[:, :-1]), model.body, end, tokens, DIE, stage.boundary, watch=see)

    def _loss(self, params: PyTree, tokens: Array) -> Array:
        """Of this replica's part of the batch."""
        nats, _ = self._run(params, tokens, lambda n: n.sum())
        return lax.psum(nats.sum(), DIE) / tokens[..., 1:].size

    def _observed_loss(self, params: PyTree, tokens: Array) -> tuple[Array, Telemetry]:
        nats, seen = self._run(params, tokens, lambda n: n.sum(), _observe)
        return lax.psum(nats.sum(), DIE) / tokens[..., 1:].size, self._of_this_die(seen)

    def _evaluate(self, params: PyTree, tokens: Array) -> tuple[Array, Telemetry]:
        nats, seen = self._run(params, tokens, lambda n: n.sum(-1), _observe)
        return lax.psum(nats, DIE), self._of_this_die(seen)

    def _spikes(self, params: PyTree, tokens: Array) -> Array:
        def watch(boundary: Boundary, stream: Array) -> Array:
            if boundary.codec is None:
                raise UsageError("Task.spikes: floats cross these boundaries: give them a codec")
            return boundary.codec.spikes(stream)

        _, spikes = self._run(params, tokens, lambda n: n.sum(), watch)
        return spikes[None]

    def _mean(self, loss: Array) -> Array:
        return lax.pmean(loss, data_parallel.AXIS) if self._has_data else loss

    def _of_this_die(self, seen: Telemetry) -> Telemetry:
        total = lax.psum(seen, data_parallel.AXIS) if self._has_data else seen
        return jax.tree.map(lambda a: a[None], total)


def _observe(boundary: Boundary, stream: Array) -> Telemetry:
    return boundary.observe(stream, DIE)


def build(
    model: Network,
    layout: Layout,
    codec: Codec | None,
    grad_codec: Codec | None,
    *,
    features: int,
    data_codec: Codec | None = None,
) -> tuple[Task, PyTree]:
    """The task and its first parameters, each on its chips; the weights are those of `model` in every layout.

    Args:
      model: on one chip, e.g. `models.transformer.Transformer` or `models.rwkv.RWKV`.
      layout: how chips share it.
      codec: what crosses from die to die and out of each region; `None` for floats.
      grad_codec: what crosses back.
      features: width of the stream.
      data_codec: how gradients of replicas are averaged; `None` for floats.

    Raises:
      UsageError: if the chips do not divide the layers, or a weight of them; or if there are too few devices.
    """
    if layout.tensor > 1:
        model = tensor_parallel.divide(model, layout.tensor, codec, grad_codec)
    boundaries = [Boundary(codec, features, grad_codec=grad_codec) for _ in range(layout.pipeline)]
    graph, params = stages.split(model, boundaries)
    task = Task(graph, layout.make_mesh(), codec, data_codec)
    return task, task.place(params)
