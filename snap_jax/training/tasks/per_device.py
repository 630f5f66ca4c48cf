"""Programs: what one chip computes for a task, inside `shard_map`.

Law: with dense links the sum over dies of what a program gives does not depend on how many dies there are.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float, PyTree

from snap_jax.boundary.boundary import Boundary
from snap_jax.boundary.rate_control import BoundaryStats, RatePenalty, boundary_stats
from snap_jax.boundary.telemetry import Telemetry, observe
from snap_jax.errors import UsageError
from snap_jax.models.hetero_stages import Layers
from snap_jax.models.pipeline_stages import Graph
from snap_jax.parallel.mesh import DATA, STAGE
from snap_jax.parallel.pipeline import pipeline
from snap_jax.training.tasks import hetero_per_device
from snap_jax.training.tasks.losses import Batch, Distilled, Scores, losses, nats, scores, teacher_logits

Seen = tuple[Float[Array, ""], Telemetry]


@dataclasses.dataclass(frozen=True)
class Program:
    """Functions of the parameters that lie on one chip, `[1, ...]` each, and of its part of a batch.

    Attributes:
      graph: the structure of what one chip holds, the same for all dies; or of what each die holds.
      penalty: what makes the spikes fewer, from die to die; `None` where nothing does.
      replicas: whether there is a mesh axis `data`; what was seen is summed over it.
    """

    graph: Graph
    penalty: RatePenalty | None
    replicas: bool

    def loss(self, params: PyTree, batch: Batch) -> tuple[Array, tuple[Array, tuple]]:
        """What to minimise; and, to look at, the mean cross-entropy of this replica's part of the batch.

        They are one where nobody teaches.
        """
        found, _ = self._run(params, batch, losses)
        minimised, own = _means_over_dies(found, batch)
        return minimised, (own, ())

    def observed_loss(self, params: PyTree, batch: Batch) -> tuple[Array, Seen]:
        """The same, and what left this die."""
        found, seen = self._run(params, batch, losses, _observe)
        minimised, own = _means_over_dies(found, batch)
        return minimised, (own, self._of_this_die(seen))

    def penalized_loss(self, params: PyTree, batch: Batch, state: Array) -> tuple[Array, Seen]:
        """The same, with the pressure in what is to be minimised."""

        def watch(boundary: Boundary, sent: Array) -> tuple[Telemetry, BoundaryStats]:
            assert boundary.codec is not None
            seen = boundary_stats(boundary.codec.encoding, sent)
            return _observe(boundary, sent), seen._replace(bits=seen.bits * boundary.share)

        assert self.penalty is not None
        found, (seen, crossings) = self._run(params, batch, losses, watch)
        mean = jax.tree.map(lambda total: total / len(batch.classes), crossings)
        sends = lax.axis_index(STAGE) < lax.axis_size(STAGE) - 1
        pressed = jnp.where(sends, self.penalty.loss(state[0], mean), 0.0)
        minimised, own = _means_over_dies(found, batch)
        return minimised + lax.psum(pressed, STAGE), (own, self._of_this_die(seen))

    def teacher_logits(self, params: PyTree, batch: Batch, weight: float) -> Array:
        """What this model, as a teacher, wants logits to be; zeros on all dies but the last, which has computed it."""
        found, _ = self._run(params, batch, functools.partial(teacher_logits, weight=weight))
        return found[None]

    def evaluate(self, params: PyTree, batch: Batch) -> tuple[Scores, Telemetry]:
        """How each row did, and what left this die."""
        found, seen = self._run(params, batch, scores, _observe)
        return lax.psum(found, STAGE), self._of_this_die(seen)

    def not_finite(self, params: PyTree, batch: Batch) -> Array:
        """How many numbers of the stream that leaves this die are NaN or infinite."""
        _, bad = self._run(params, batch, nats, lambda _, stream: jnp.sum(~jnp.isfinite(stream)))
        return self._of_this_die(bad)

    def spikes(self, params: PyTree, batch: Batch) -> list[Array]:
        """The spikes that leave each die, of which this die knows its own; those that cross sorted, by token again.

        Of one microbatch.
        """

        def watch(boundary: Boundary, stream: Array) -> Array:
            if boundary.codec is None:
                raise UsageError("Task.spikes: floats cross these boundaries: give them a codec")
            return boundary.sender.unsort(boundary.codec.spikes(stream), batch.inputs[0])

        if isinstance(self.graph, Layers):
            _, each = hetero_per_device.run(self.graph, params, batch, nats, watch, apart=True)
        else:
            _, own = self._run(params, batch, nats, watch)
            each = [own] * lax.axis_size(STAGE)
        return [spikes[None] for spikes in each]

    def _run(
        self, params: PyTree, batch: Batch, leave: Callable, watch: Callable | None = None
    ) -> tuple[PyTree, PyTree]:
        """`leave` reads logits and labels; `watch`, the boundary and what it is about to send."""
        if isinstance(batch.labels, Distilled):
            batch = batch._replace(
                labels=batch.labels._replace(teacher_logits=batch.labels.teacher_logits[0])
            )  # of this die
        if isinstance(self.graph, Layers):
            return hetero_per_device.run(self.graph, params, batch, leave, watch)
        stage = nnx.merge(self.graph, jax.tree.map(lambda p: p[0], params))
        model, boundary = stage.model, stage.boundary

        def end(stream: Array, batch: Batch) -> PyTree:
            return leave(model.leave(stream).astype(jnp.float32), batch.labels)

        return pipeline(
            lambda b: model.enter(b.inputs),
            model.body,
            end,
            batch,
            STAGE,
            boundary,
            context=lambda b: b.inputs,
            watch=None if watch is None else lambda sent: watch(boundary, sent),
        )

    def _of_this_die(self, seen: PyTree) -> PyTree:
        total = lax.psum(seen, DATA) if self.replicas else seen
        return jax.tree.map(lambda a: a[None], total)


def _observe(boundary: Boundary, sent: Array) -> Telemetry:
    return observe(boundary.codec, sent, STAGE)


def _means_over_dies(found: tuple[Array, ...], batch: Batch) -> tuple[Array, Array]:
    """Of `losses`: the last, which is to be minimised, and the first."""
    means = [lax.psum(total.sum(), STAGE) / batch.classes.size for total in found]
    return means[-1], means[0]
