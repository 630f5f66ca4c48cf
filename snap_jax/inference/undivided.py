"""A divided model computed on one device: boundaries quantize what they would send.

Invariant: the scores are those of the divided model, to float rounding (invariant 2).
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, PyTree

from snap_jax.boundary.boundary import Boundary
from snap_jax.boundary.telemetry import Telemetry, observe
from snap_jax.errors import UsageError
from snap_jax.models.base import Network
from snap_jax.models.split import cuts
from snap_jax.parallel.processes import count
from snap_jax.training.parallel_job import ParallelJob
from snap_jax.training.tasks.assemble import on_one_device
from snap_jax.training.tasks.losses import Batch, Scores, scores
from snap_jax.training.tasks.task import Task


class UndividedTask(Task):
    """A task whose parameters lie on one device. Payload sizes are those that each message needs alone."""

    def place(self, params):
        """Return the parameters on one device."""
        return on_one_device(params)

    def place_batch(self, batch):
        """Return the same."""
        return batch

    def evaluate(self, params, batch):
        """Return the scores of each row, and the telemetry of each stage, `[stage]`."""
        model, boundaries = self.stages.join(params)

        def one(_: tuple, microbatch: Batch) -> tuple[tuple, tuple[Scores, Telemetry]]:
            logits, seen = forward(model, boundaries, jnp.asarray(microbatch.inputs))
            return (), (scores(logits.astype(jnp.float32), jnp.asarray(microbatch.classes)), seen)

        _, (found, seen) = lax.scan(one, (), batch)
        return found, jax.tree.map(lambda a: a.sum(0), seen)

    def loss(self, params, batch):
        """Return the mean cross-entropy, nats per label."""
        return self.evaluate(params, batch)[0].nats.sum() / batch.classes.size


def forward(model: Network, boundaries: list[Boundary], inputs: Array) -> tuple[Array, Telemetry]:
    """Return logits, and what would leave each stage, `[stage]`; the last one sends zeros to nobody."""
    x, seen, ends = model.enter(inputs), [], cuts(model, len(boundaries))
    for place, block in enumerate(model.blocks, 1):
        x = block(x)
        if place in ends:
            boundary, last = boundaries[ends.index(place)], place == ends[-1]
            context = inputs if jnp.issubdtype(inputs.dtype, jnp.integer) else None
            sent = boundary.prepare(x, context)
            seen.append(observe(boundary.codec, jnp.zeros_like(sent) if last else sent))
            if not last:
                x = boundary.restore(sent if boundary.codec is None else boundary.codec.quantize(sent), context)
    return model.leave(x), jax.tree.map(lambda *each: jnp.stack(each), *seen)


def undivided(job: ParallelJob, params: PyTree) -> tuple[ParallelJob, PyTree]:
    """Return the job on one device, and its parameters there.

    Raises:
      UsageError: in several processes.
    """
    if count() > 1:
        raise UsageError(f"--devices 1 in {count()} processes: start one process, or leave --devices out")
    fields = {field.name: getattr(job.task, field.name) for field in dataclasses.fields(job.task)}
    task = UndividedTask(**fields)
    return dataclasses.replace(job, task=task), task.place(params)
