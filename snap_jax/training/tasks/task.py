"""A model that learns to name the label of each input, as functions of parameters that lie on a mesh.

Invariant: with dense links the loss and its gradient do not depend on the layout.

One program holds every layout. Parameters are stacked by stage, `P("stage", ...)`, their layers divided over `tensor`;
a pipeline of one stage is a loop over microbatches; a replica along `data` takes its part of each microbatch.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, Integer, PyTree

from snap_jax._compat import as_varying
from snap_jax.boundary.rate_control import RatePenalty
from snap_jax.boundary.telemetry import Telemetry
from snap_jax.codecs.codec import Codec
from snap_jax.models.stages import ParamsByStage, Stages
from snap_jax.parallel.data_parallel import SCOPE, compressed_mean, rows
from snap_jax.parallel.local_rows import assembled, rows_here
from snap_jax.parallel.mesh import DATA, STAGE
from snap_jax.parallel.processes import on_host, placed
from snap_jax.parallel.same_arrays import require_same_arrays
from snap_jax.parallel.schedule import Schedule
from snap_jax.training.tasks import step_sums
from snap_jax.training.tasks.losses import Batch, Distilled, Scores, by_microbatch
from snap_jax.training.tasks.per_device import Program, Seen


@dataclasses.dataclass(frozen=True)
class Task:
    """A divided model as functions of its stacked parameters; hashable, so it may be a static argument.

    Attributes:
      stages: the structure of the model.
      mesh: `data x stage x tensor`; axes of one device are left out, except `stage`.
      schedule: of the pipeline; each batch has its own number of microbatches.
      data_codec: how gradients of replicas are averaged; None for floats.
      penalty: on the rate of the boundaries between stages; None for none.
      local: whether replicas take steps of their own: parameters to learn, gradients, losses and telemetry then have a
        new first axis, a row per replica, and nothing is sent along `data`. Other functions take shared parameters.
    """

    stages: Stages
    mesh: Mesh
    schedule: Schedule
    data_codec: Codec | None = None
    penalty: RatePenalty | None = None
    local: bool = False

    @property
    def averages_spikes(self) -> bool:
        """Whether gradients come one row per replica, for the optimizer of `with_average` to average."""
        return self._has_data and self.data_codec is not None and not self.local

    def schedule_of(self, batch: Batch) -> Schedule:
        """Return the schedule that runs this batch, for `collective_traffic` too."""
        return dataclasses.replace(self.schedule, microbatches=len(batch.classes))

    def specs(self, params: PyTree) -> PyTree:
        """Return how parameters lie on the mesh: a `PartitionSpec` for each."""
        return jax.tree.map(self._on_mesh, self.stages.specs(params))

    def place(self, params: PyTree) -> PyTree:
        """Return the parameters, each on its devices; those that several processes hold are there already."""
        if any(isinstance(p, jax.Array) and not p.is_fully_addressable for p in jax.tree.leaves(params)):
            return params
        # From the host: JAX compiles a program for each array that it divides on a device.
        places = jax.tree.map(lambda spec: NamedSharding(self.mesh, spec), self.specs(params))
        whole = on_host(params)
        require_same_arrays("parameter", whole)
        return jax.device_put(whole, places)

    def place_rows(self, rows: ParamsByStage, read: Callable[[Any, tuple[slice, ...]], np.ndarray]) -> PyTree:
        """Return the parameters of all stages, each on its devices, one after the other.

        Args:
          rows: of which only the stages of this process are asked for.
          read: a parameter of a stage, and the part of a device of this process -> that part.
        """
        of = functools.cache(lambda stage: jax.tree.leaves(rows.of(stage)))

        def one(number: int, like: jax.ShapeDtypeStruct, spec: PartitionSpec) -> jax.Array:
            def part(index: Any) -> np.ndarray:
                return np.stack([read(of(s)[number], index[1:]) for s in range(*index[0].indices(like.shape[0]))])

            return jax.make_array_from_callback(like.shape, NamedSharding(self.mesh, spec), part)

        leaves, tree = jax.tree.flatten(rows.like)
        specs = jax.tree.leaves(self.specs(rows.like), is_leaf=lambda spec: isinstance(spec, PartitionSpec))
        placed = [one(number, *each) for number, each in enumerate(zip(leaves, specs, strict=True))]
        return jax.tree.unflatten(tree, placed)

    def place_batch(self, batch: Batch) -> Batch:
        """Return a batch that every process holds, so that each keeps the rows of its replicas."""
        return placed(batch, self.mesh, self._row_spec)

    def read_batch(self, read: Callable[[np.ndarray], Batch], rows: int, microbatches: int) -> Batch:
        """Return a batch of so many rows, `[microbatches, rows / microbatches, ...]`.

        Each process reads those of its replicas: `read` takes their places and returns them, `[places, ...]`.
        """
        here = read(rows_here(self.mesh, self._row_spec, microbatches, rows))
        return assembled(by_microbatch(here, microbatches), self.mesh, self._row_spec, rows // microbatches)

    def with_average(self, optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
        """Return an optimizer for `loss_and_gradient`: it averages rows of replicas as spikes, or is the same.

        Call its `init` outside of `jit`: then moments lie on the devices where their parameters do.
        """
        if not self.averages_spikes:
            return optimizer
        assert self.data_codec is not None
        average = compressed_mean(self.mesh, self.data_codec, self.specs, sizes=self.stages.gradient_sizes)
        return optax.chain(average, optimizer)

    def loss(self, params: PyTree, batch: Batch) -> Float[Array, ""]:
        """Return the mean cross-entropy, nats per label."""

        def mean(params: PyTree, batch: Batch) -> Array:
            _, (own, _) = self._program(batch).loss(params, batch)
            total = lax.psum(own, STAGE)
            return lax.pmean(total, DATA) if self._has_data else total

        return self._shard(mean, params, batch, PartitionSpec())

    def loss_and_gradient(self, params: PyTree, batch: Batch) -> tuple[Float[Array, "*replica"], PyTree]:
        """Return the loss and the gradient of what is minimized: the same, or with a teacher its cross-entropy."""
        (losses, _), gradient = self._both(self._learner(batch).loss, params, batch, seen=())
        return self.total(losses), gradient

    def observed_loss_and_gradient(self, params: PyTree, batch: Batch) -> tuple[Seen, PyTree]:
        """Return the same, and the telemetry of each stage, `[stage]`, summed over replicas, beside the loss."""
        (losses, seen), gradient = self.losses_and_gradient(params, batch)
        return (self.total(losses), seen), gradient

    def penalized_loss_and_gradient(
        self, params: PyTree, batch: Batch, state: Float[Array, " stage"]
    ) -> tuple[Seen, PyTree]:
        """Return the same, the gradient being that of loss and penalty; `state` is that of the penalty.

        With replicas it is the mean of theirs, each with the rate of its own rows.
        """
        (losses, seen), gradient = self.losses_and_gradient(params, batch, state)
        return (self.total(losses), seen), gradient

    def losses_and_gradient(
        self, params: PyTree, batch: Batch, state: Float[Array, " stage"] | None = None
    ) -> tuple[tuple[Float[Array, "replica stage"], Telemetry], PyTree]:
        """Return the same with the part of each device in the loss, `[replica, stage]`, for `loss_and_norm`.

        It is `observed_loss_and_gradient`, or with the state of a penalty `penalized_loss_and_gradient`.
        """
        program, seen = self._learner(batch), PartitionSpec(STAGE)
        if state is None:
            return self._both(program.observed_loss, params, batch, seen=seen)
        return self._both(program.penalized_loss, params, batch, state, seen=seen)

    def loss_and_norm(
        self, losses: Float[Array, "replica stage"], gradient: PyTree
    ) -> tuple[Float[Array, "*replica"], Float[Array, "*replica"]]:
        """Return the loss and the norm of the gradient from what `losses_and_gradient` gives; see `step_sums`."""
        specs = self.specs(gradient)
        if self.local or self.averages_spikes:
            specs = rows(self.specs(jax.tree.map(lambda g: g[0], gradient)))
        return step_sums.loss_and_norm(self.mesh, specs, gradient, losses, alone=self.local)

    def teacher_logits(self, params: PyTree, batch: Batch, weight: float) -> Float[Array, "stage *batch classes"]:
        """Return the targets of `Distilled` that this model sets as a teacher; they stay on the last stage."""
        program, out_spec = self._program(batch), PartitionSpec(STAGE, *self._row_spec)
        return self._shard(lambda p, b: program.teacher_logits(p, b, weight), params, batch, out_spec)

    def evaluate(self, params: PyTree, batch: Batch) -> tuple[Scores, Telemetry]:
        """Return the scores of each row, and the telemetry of each stage, `[stage]`."""
        return self._shard(self._program(batch).evaluate, params, batch, (self._row_spec, PartitionSpec(STAGE)))

    def not_finite(self, params: PyTree, batch: Batch) -> Int[Array, " stage"]:
        """Count the numbers of the stream that leaves each stage that are NaN or infinite."""
        return self._shard(self._program(batch).not_finite, params, batch, PartitionSpec(STAGE))

    def spikes(self, params: PyTree, batch: Batch) -> tuple[Integer[Array, "batch ... channels"], ...]:
        """Return the spikes that leave each stage but the last, summed over microbatches (so give one)."""
        out_spec = PartitionSpec(STAGE, *self._row_spec[1:])
        each = self._shard(self._program(batch).spikes, params, batch, out_spec)
        return tuple(spikes[stage] for stage, spikes in enumerate(each))

    def _program(self, batch: Batch) -> Program:
        return Program(self.stages, self.schedule_of(batch), self.penalty, self._has_data)

    def _learner(self, batch: Batch) -> Program:
        return dataclasses.replace(self._program(batch), replicas=self._has_data and not self.local)

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
        distilled = isinstance(batch.labels, Distilled)
        return Batch(row, Distilled(row, PartitionSpec(STAGE, *row)) if distilled else row)  # pyright: ignore[reportArgumentType]

    def _shard(self, function: Callable, params: PyTree, batch: Batch, out_specs: Any, *by_stage: Array) -> Any:
        specs = (self.specs(params), self._batch_specs(batch), *[PartitionSpec(STAGE)] * len(by_stage))
        return jax.shard_map(function, mesh=self.mesh, in_specs=specs, out_specs=out_specs)(params, batch, *by_stage)

    def _both(
        self, loss: Callable, params: PyTree, batch: Batch, *by_stage: Array, seen: Any
    ) -> tuple[tuple[Array, Any], PyTree]:
        """Return losses, telemetry and gradient; with `averages_spikes` that of each replica, stacked."""
        if self.local:
            return self._local(loss, params, batch, seen)
        specs = self.specs(params)

        def run(params: PyTree, batch: Batch, *by_stage: Array) -> tuple[tuple[Array, Any], PyTree]:
            if not self._has_data:
                (_, (nats, aux)), gradient = jax.value_and_grad(loss, has_aux=True)(params, batch, *by_stage)
                return (nats[None, None], aux), gradient
            local = jax.tree.map(lambda p: as_varying(p, (DATA,)), params)
            (_, (nats, aux)), gradient = jax.value_and_grad(loss, has_aux=True)(local, batch, *by_stage)
            return (nats[None, None], aux), self._of_replicas(gradient)

        gradient_specs = rows(specs) if self.averages_spikes else specs
        return self._shard(run, params, batch, ((self._place_spec, seen), gradient_specs), *by_stage)

    def _local(self, loss: Callable, params: PyTree, batch: Batch, seen: Any) -> tuple[tuple[Array, Any], PyTree]:
        """Return the same of each replica, from its own parameters; all with a row per replica."""
        specs = rows(self.specs(params))

        def run(params: PyTree, batch: Batch) -> tuple[tuple[Array, Any], PyTree]:
            own = jax.tree.map(lambda p: p[0], params)
            (_, (nats, aux)), gradient = jax.value_and_grad(loss, has_aux=True)(own, batch)
            return jax.tree.map(lambda a: a[None], ((nats[None], aux), gradient))

        out_specs = ((self._place_spec, rows(seen)), specs)
        batch_specs = self._batch_specs(batch)
        return jax.shard_map(run, mesh=self.mesh, in_specs=(specs, batch_specs), out_specs=out_specs)(params, batch)

    def _of_replicas(self, gradient: PyTree) -> PyTree:
        """Their mean, or a row of each."""
        if self.averages_spikes:
            return jax.tree.map(lambda g: g[None], gradient)
        with jax.named_scope(SCOPE):
            return lax.pmean(gradient, DATA)

    def total(self, losses: Float[Array, "replica stage"]) -> Float[Array, "*replica"]:
        """Return the mean loss over replicas, or that of each, from what `losses_and_gradient` gives."""
        axes = (DATA, STAGE) if self._has_data and not self.local else (STAGE,)

        def sum_of(own: Array) -> Array:
            with jax.named_scope(step_sums.SCOPE):
                return lax.psum(own[:, 0] if self.local else own[0, 0], axes)

        out_spec = PartitionSpec(DATA) if self.local else PartitionSpec()
        found = jax.shard_map(sum_of, mesh=self.mesh, in_specs=self._place_spec, out_specs=out_spec)(losses)
        return found / self.mesh.shape[DATA] if DATA in axes else found

    @property
    def _place_spec(self) -> PartitionSpec:
        return PartitionSpec(DATA if self._has_data else None, STAGE)
