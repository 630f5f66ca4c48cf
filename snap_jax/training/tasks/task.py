"""Task: a model that learns to name what is asked of each input, as functions of parameters that lie on a mesh.

Law: with dense links the loss and its gradient do not depend on the layout.

One program holds every layout. Parameters are stacked by die, `P("die", ...)`, their layers divided over `tensor`; a
pipeline of one die is a loop over microbatches; a replica along `data` takes its part of each microbatch.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import optax
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, Integer, PyTree

from snap_jax._compat import as_varying
from snap_jax.boundary.rate_control import RatePenalty
from snap_jax.boundary.telemetry import Telemetry
from snap_jax.codecs.codec import Codec
from snap_jax.errors import UsageError
from snap_jax.models.hetero_stages import Layers
from snap_jax.models.pipeline_stages import Graph
from snap_jax.parallel import data_parallel, tensor_parallel
from snap_jax.parallel.mesh import DATA, STAGE
from snap_jax.training.tasks import hetero_per_device
from snap_jax.training.tasks.losses import Batch, Distilled, Scores
from snap_jax.training.tasks.per_device import Program, Seen


@dataclasses.dataclass(frozen=True)
class Task:
    """A divided model as functions of its stacked parameters; hashable, so it may be a static argument.

    Attributes:
      graph: the structure of what one chip holds, the same for all dies; or of what each die holds.
      mesh: `data x die x tensor`, axes of one left out, but for `die`.
      data_codec: how gradients of replicas are averaged; `None` for floats.
      penalty: what makes the spikes fewer, from die to die; `None` where nothing does.
    """

    graph: Graph
    mesh: Mesh
    data_codec: Codec | None = None
    penalty: RatePenalty | None = None

    @property
    def averages_spikes(self) -> bool:
        """Whether gradients come one row a replica, for the optimizer of `with_average` to average."""
        return self._has_data and self.data_codec is not None

    def specs(self, params: PyTree) -> PyTree:
        """How parameters lie on the mesh: a `PartitionSpec` for each."""
        return jax.tree.map(self._on_mesh, tensor_parallel.specs(params, STAGE))

    def place(self, params: PyTree) -> PyTree:
        """Parameters, each on its chips."""
        return jax.tree.map(lambda p, s: jax.device_put(p, NamedSharding(self.mesh, s)), params, self.specs(params))

    def with_average(self, optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
        """An optimizer for what `loss_and_gradient` gives: it averages rows of replicas as spikes, or is the same.

        Call its `init` outside of `jit`: then moments lie on the chips where their parameters do.
        """
        if self.data_codec is None or not self._has_data:
            return optimizer
        sizes = functools.partial(hetero_per_device.mean_sizes, self.graph) if isinstance(self.graph, Layers) else None
        return optax.chain(
            data_parallel.compressed_mean(self.mesh, self.data_codec, self.specs, sizes=sizes), optimizer
        )

    def loss(self, params: PyTree, batch: Batch) -> Float[Array, ""]:
        """Mean cross-entropy, nats a label."""

        def mean(params: PyTree, batch: Batch) -> Array:
            _, (own, _) = self._program.loss(params, batch)
            return self._mean(own)

        return self._shard(mean, params, batch, PartitionSpec())

    def loss_and_gradient(self, params: PyTree, batch: Batch) -> tuple[Float[Array, ""], PyTree]:
        """The loss and its gradient, forward and backward in one `shard_map`; of labels with a teacher, its own."""
        (loss, _), gradient = self._both(self._program.loss, params, batch, seen=())
        return loss, gradient

    def observed_loss_and_gradient(self, params: PyTree, batch: Batch) -> tuple[Seen, PyTree]:
        """The same, and what left each die, `[die]`, summed over replicas, beside the loss."""
        return self._both(self._program.observed_loss, params, batch, seen=PartitionSpec(STAGE))

    def penalized_loss_and_gradient(
        self, params: PyTree, batch: Batch, state: Float[Array, " die"]
    ) -> tuple[Seen, PyTree]:
        """The same, the gradient being that of the loss and the pressure; `state` is that of the pressure."""
        whole, die = PartitionSpec(), PartitionSpec(STAGE)

        def both(params: PyTree, batch: Batch, state: Array) -> tuple[Seen, PyTree]:
            (_, seen), gradient = jax.value_and_grad(self._program.penalized_loss, has_aux=True)(params, batch, state)
            return seen, gradient

        if self._has_data:
            raise UsageError(
                "Task.penalized_loss_and_gradient: a pressure is for one replica: use a layout without data"
            )
        specs = self.specs(params)
        in_specs = (specs, self._batch_specs(batch), die)
        run = jax.shard_map(both, mesh=self.mesh, in_specs=in_specs, out_specs=((whole, die), specs))
        return run(params, batch, state)

    def teacher_logits(self, params: PyTree, batch: Batch, weight: float) -> Float[Array, "die *batch classes"]:
        """The targets that this model, as a teacher of that weight, gives `Distilled`; they stay on the last stage."""
        out_spec = PartitionSpec(STAGE, *self._row_spec)
        return self._shard(lambda p, b: self._program.teacher_logits(p, b, weight), params, batch, out_spec)

    def evaluate(self, params: PyTree, batch: Batch) -> tuple[Scores, Telemetry]:
        """How each row did, and what left each die, `[die]`."""
        return self._shard(self._program.evaluate, params, batch, (self._row_spec, PartitionSpec(STAGE)))

    def not_finite(self, params: PyTree, batch: Batch) -> Int[Array, " die"]:
        """How many numbers of the stream that leaves each die are NaN or infinite."""
        return self._shard(self._program.not_finite, params, batch, PartitionSpec(STAGE))

    def spikes(self, params: PyTree, batch: Batch) -> tuple[Integer[Array, "batch ... channels"], ...]:
        """The spikes that leave each die, summed over microbatches (so: give one); the last sends none."""
        out_spec = PartitionSpec(STAGE, *self._row_spec[1:])
        each = self._shard(self._program.spikes, params, batch, out_spec)
        return tuple(spikes[die] for die, spikes in enumerate(each))

    @property
    def _program(self) -> Program:
        return Program(self.graph, self.penalty, self._has_data)

    @property
    def _has_data(self) -> bool:
        return DATA in self.mesh.shape

    @property
    def _row_spec(self) -> PartitionSpec:
        return PartitionSpec(None, DATA) if self._has_data else PartitionSpec()

    def _on_mesh(self, spec: PartitionSpec) -> PartitionSpec:
        return PartitionSpec(*(axis if axis in self.mesh.shape else None for axis in spec))

    def _batch_specs(self, batch: Batch) -> Batch:
        row = self._row_spec
        taught = isinstance(batch.labels, Distilled)
        return Batch(row, Distilled(row, PartitionSpec(STAGE, *row)) if taught else row)  # pyright: ignore[reportArgumentType]

    def _shard(self, function: Callable, params: PyTree, batch: Batch, out_specs: Any) -> Any:
        specs = (self.specs(params), self._batch_specs(batch))
        return jax.shard_map(function, mesh=self.mesh, in_specs=specs, out_specs=out_specs)(params, batch)

    def _both(self, loss: Callable, params: PyTree, batch: Batch, *, seen: Any) -> tuple[tuple[Array, Any], PyTree]:
        """Loss, what was seen, and gradient; with `averages_spikes` that of each replica, stacked."""
        specs = self.specs(params)

        def run(params: PyTree, batch: Batch) -> tuple[tuple[Array, Any], PyTree]:
            if not self._has_data:
                (_, found), gradient = jax.value_and_grad(loss, has_aux=True)(params, batch)
                return found, gradient
            local = jax.tree.map(lambda p: as_varying(p, (DATA,)), params)
            (_, (nats, aux)), gradient = jax.value_and_grad(loss, has_aux=True)(local, batch)
            return (self._mean(nats), aux), self._of_replicas(gradient)

        gradient_specs = data_parallel.rows(specs) if self.averages_spikes else specs
        return self._shard(run, params, batch, ((PartitionSpec(), seen), gradient_specs))

    def _of_replicas(self, gradient: PyTree) -> PyTree:
        """Their mean, or a row of each."""
        if self.averages_spikes:
            return jax.tree.map(lambda g: g[None], gradient)
        with jax.named_scope(data_parallel.SCOPE):
            return lax.pmean(gradient, DATA)

    def _mean(self, loss: Array) -> Array:
        return lax.pmean(loss, DATA) if self._has_data else loss
