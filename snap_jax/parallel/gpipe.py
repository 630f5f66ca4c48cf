"""GPipe: all forward passes, then all backward passes (Huang et al. 2019, arXiv:1811.06965).

Stage i works on microbatch t - i at tick t, and sends to stage i + 1. The backward pass is the derivative of this loop,
so what a stage keeps for it grows with the number of microbatches; `remat="full"` keeps the messages only.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, PyTree

from snap_jax.parallel.schedule import Schedule, masked, microbatch_at, rematerialized, switch, varying, zeros
from snap_jax.parallel.stage_work import StageWork


@dataclasses.dataclass(frozen=True)
class GPipe(Schedule):
    """The schedule of M + n - 1 ticks; a stage is idle for n - 1 of them.

    A stage without a microbatch computes nothing. It still sends, since a collective is one program on all devices:
    `(n - 1) (M + n - 1)` messages cross in each direction.

    >>> schedule = GPipe(microbatches=3, stages=2)
    >>> [[schedule.microbatch(t, stage) for t in range(schedule.ticks)] for stage in range(2)]
    [[0, 1, 2, 3], [-1, 0, 1, 2]]
    >>> schedule.busy(0, 1)
    False
    """

    @property
    def ticks(self):
        """`M + n - 1`."""
        return self.microbatches + self.stages - 1

    def microbatch(self, t: Any, stage: Any) -> Any:
        """Return which microbatch a stage works on; out of range where it is idle."""
        return t - stage

    def busy(self, t: Any, stage: Any) -> Any:
        """Return whether a stage has a microbatch."""
        return self.exists(self.microbatch(t, stage))

    @property
    def tables(self):
        """One scope, `stage_work`."""
        t, stage = np.ogrid[: self.ticks, : self.stages]
        return {"stage_work": self.busy(t, stage)}

    def run(self, work: StageWork, params: PyTree, microbatches: PyTree) -> tuple[Array, PyTree, PyTree]:
        """Run the pipeline as one `lax.scan` over ticks.

        Parameters and microbatches that all stages share are cast to varying before: their gradient is a sum over
        stages, which would deadlock in a branch that one stage takes alone. What functions close over is not seen here:
        `assert_no_deadlocks` finds it.
        """
        axis, stage = work.axis_name, lax.axis_index(work.axis_name)
        params, microbatches = varying((params, microbatches), axis)
        links, compute = work.connect(params, self.hops), rematerialized(work.compute, self.remat)

        def at(t: Array) -> PyTree:
            return microbatch_at(microbatches, self.microbatch(t, stage), axis)

        first = zeros(work.message(params, at(jnp.zeros((), jnp.int32))))
        shapes = jax.eval_shape(work.compute, params, stage, at(jnp.zeros((), jnp.int32)), first)

        def tick(arriving: PyTree, t: Array) -> tuple[PyTree, PyTree]:
            busy = self.busy(t, stage)
            branches = {
                "idle": lambda t, arriving: zeros(shapes),
                "stage_work": lambda t, arriving: compute(params, stage, at(t), arriving),
            }
            sent, loss, report = switch(busy.astype(jnp.int32), branches, t, arriving)
            arriving, seen = work.send(params, links, sent, self.hops)
            return arriving, (loss, report, masked(busy, seen))

        _, (losses, reports, seen) = lax.scan(tick, first, jnp.arange(self.ticks))
        own = stage + jnp.arange(self.microbatches)  # the ticks at which this stage was busy
        reports = jax.tree.map(lambda r: lax.stop_gradient(r)[own], reports)
        return lax.psum(losses.sum(), axis), reports, jax.tree.map(lambda s: s.sum(0), seen)
