"""What one device computes for a task, inside `shard_map`.

Invariant: with dense links the sum over stages of what a program gives does not depend on how many stages there are.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PyTree

from snap_jax.boundary.boundary import Boundary
from snap_jax.boundary.rate_control import RatePenalty, boundary_stats
from snap_jax.boundary.telemetry import Telemetry
from snap_jax.errors import UsageError
from snap_jax.models.stages import Stages
from snap_jax.parallel.mesh import DATA, STAGE
from snap_jax.parallel.pipeline import Inspect, report_nothing
from snap_jax.parallel.schedule import Schedule
from snap_jax.training.tasks.losses import Batch, Distilled, Scores, losses, scores, teacher_logits
from snap_jax.training.tasks.step_sums import psum_together

Seen = tuple[Float[Array, "*replica"], Telemetry]


@dataclasses.dataclass(frozen=True)
class Program:
    """Functions of the parameters that lie on one device, `[1, ...]` each, and of its part of a batch.

    Attributes:
      stages: the structure of the model.
      schedule: of the pipeline.
      penalty: on the rate of the boundaries; None for none.
      replicas: whether there is a mesh axis `data`; telemetry is summed over it.
    """

    stages: Stages
    schedule: Schedule
    penalty: RatePenalty | None
    replicas: bool

    def loss(self, params: PyTree, batch: Batch) -> tuple[Array, tuple[Array, tuple]]:
        """Return what to minimize, and the cross-entropy of this replica's part; they are one without a teacher.

        Both add up over stages to means over labels.
        """
        minimized, own, _ = self._losses(params, batch)
        return minimized, (own, ())

    def observed_loss(self, params: PyTree, batch: Batch) -> tuple[Array, Seen]:
        """Return the same, and the telemetry of this stage."""
        minimized, own, seen = self._losses(params, batch, observe=True)
        return minimized, (own, self._of_this_stage(seen))

    def penalized_loss(self, params: PyTree, batch: Batch, state: Array) -> tuple[Array, Seen]:
        """Return the same, with the penalty in what is to be minimized, as a mean over microbatches."""
        penalty = self.penalty
        assert penalty is not None

        def inspect(boundary: Boundary, sent: Array) -> tuple[Array, tuple]:
            assert boundary.codec is not None
            stats = boundary_stats(boundary.codec.encoding, sent)
            stats = stats._replace(bits=stats.bits * boundary.share)
            return penalty.loss(state[0], stats) / len(batch.classes), ()

        minimized, own, seen = self._losses(params, batch, inspect=inspect, observe=True)
        return minimized, (own, self._of_this_stage(seen))

    def teacher_logits(self, params: PyTree, batch: Batch, weight: float) -> Array:
        """Return the targets that this model sets as a teacher; zeros on all stages but the last."""

        def leave(logits: Array, batch: Batch) -> tuple[Array, Array]:
            return jnp.zeros(()), teacher_logits(logits, jnp.asarray(batch.classes), weight)

        _, (targets, _), _ = self._run(params, batch, leave)
        return targets[None]

    def evaluate(self, params: PyTree, batch: Batch) -> tuple[Scores, Telemetry]:
        """Return the scores of each row, and the telemetry of this stage."""

        def leave(logits: Array, batch: Batch) -> tuple[Array, Scores]:
            return jnp.zeros(()), scores(logits, jnp.asarray(batch.classes))

        _, (found, _), seen = self._run(params, batch, leave, observe=True)
        return lax.psum(found, STAGE), self._of_this_stage(seen)

    def not_finite(self, params: PyTree, batch: Batch) -> Array:
        """Count the numbers of the stream that leaves this stage that are NaN or infinite."""

        def inspect(_: Boundary, sent: Array) -> tuple[float, Array]:
            return 0.0, jnp.sum(~jnp.isfinite(sent))

        _, (_, bad), _ = self._run(params, batch, _no_score, inspect=inspect)
        return self._of_this_stage(bad.sum(0))

    def spikes(self, params: PyTree, batch: Batch) -> list[Array]:
        """Return the spikes that leave each stage but the last, summed over microbatches; zeros for other stages.

        Rows that cross sorted come by token again, for one microbatch.
        """

        def inspect(boundary: Boundary, sent: Array) -> tuple[float, Array]:
            if boundary.codec is None:
                raise UsageError("Task.spikes: floats cross these boundaries: give them a codec")
            return 0.0, boundary.sender.unsort(boundary.codec.spikes(sent), batch.inputs[0])

        _, (_, each), _ = self._run(params, batch, _no_score, inspect=inspect, apart=True)
        return [spikes.sum(0)[None] for spikes in each]

    def _losses(
        self, params: PyTree, batch: Batch, *, inspect: Inspect = report_nothing, observe: bool = False
    ) -> tuple[Array, Array, PyTree]:
        """Return what to minimize, the part of this stage in the mean cross-entropy, and what was observed."""
        size = batch.classes.size

        def leave(logits: Array, batch: Batch) -> tuple[Array, Array]:
            found = losses(logits, batch.labels)  # pyright: ignore[reportArgumentType]
            return found[-1] / size, found[0]

        minimized, (own, _), seen = self._run(params, batch, leave, inspect=inspect, observe=observe)
        return minimized, own.sum() / size, seen

    def _run(
        self,
        params: PyTree,
        batch: Batch,
        leave: Callable[[Array, Batch], tuple[Array, PyTree]],
        *,
        inspect: Inspect = report_nothing,
        apart: bool = False,
        observe: bool = False,
    ) -> tuple[Array, PyTree, PyTree]:
        if isinstance(batch.labels, Distilled):  # of this stage
            labels = batch.labels._replace(teacher_logits=batch.labels.teacher_logits[0])
            batch = batch._replace(labels=labels)
        work = self.stages.work(leave, inspect=inspect, apart=apart, observe=observe)
        return self.schedule.run(work, params, batch)

    def _of_this_stage(self, seen: PyTree) -> PyTree:
        total = psum_together(seen, DATA) if self.replicas else seen
        return jax.tree.map(lambda a: a[None], total)


def _no_score(logits: Array, batch: Batch) -> tuple[Array, tuple]:
    return jnp.zeros(()), ()
