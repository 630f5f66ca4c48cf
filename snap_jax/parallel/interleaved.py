"""Interleaved stages: each device holds several, so that the pipeline fills and drains faster.

With k stages per device a tick is 1 / k of the work of a device, and a device is idle for n - 1 of such ticks
(Narayanan et al. 2021, arXiv:2104.04473). The price is k times as many messages. The backward pass is the derivative of
this loop, as in `GPipe`.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, PyTree

from snap_jax.errors import UsageError
from snap_jax.parallel.schedule import Schedule, masked, microbatch_at, rematerialized, switch, varying, zeros
from snap_jax.parallel.stage_work import StageWork


@dataclasses.dataclass(frozen=True)
class Interleaved(Schedule):
    """The schedule of M k + n - 1 ticks on n devices in a ring; device d holds the stages d, n + d, 2 n + d, ...

    Parameters of a device are `[chunks, ...]`; `order` says which stage of the model lies in which row.

    Attributes:
      chunks: k, stages per device.

    Raises:
      UsageError: unless the devices divide the microbatches.

    >>> Interleaved(microbatches=4, stages=2, chunks=2).order
    (0, 2, 1, 3)
    """

    chunks: int = 2

    def __post_init__(self):
        super().__post_init__()
        if self.microbatches % self.stages or self.chunks < 1:
            raise UsageError(
                f"Interleaved: microbatches={self.microbatches}, stages={self.stages}, chunks={self.chunks}: "
                "use a multiple of stages for microbatches, and chunks of 1 or more"
            )

    @property
    def ticks(self):
        """`M k + n - 1`."""
        return self.microbatches * self.chunks + self.stages - 1

    @property
    def order(self) -> tuple[int, ...]:
        """The stages of the model, in the order in which their parameters lie on the devices."""
        return tuple(chunk * self.stages + device for device in range(self.stages) for chunk in range(self.chunks))

    @property
    def hops(self):
        """A ring: the last device hands on to the next chunk of the first."""
        return tuple((device, (device + 1) % self.stages) for device in range(self.stages))

    def turn(self, t: Any, device: Any) -> tuple[Any, Any]:
        """Return the microbatch and the chunk of a device: n microbatches through one chunk, then through the next."""
        step, n = t - device, self.stages
        return step // (n * self.chunks) * n + step % n, step % (n * self.chunks) // n

    @property
    def tables(self):
        """One scope, `stage_work`."""
        t, device = np.ogrid[: self.ticks, : self.stages]
        return {"stage_work": self.exists(self.turn(t, device)[0])}

    def run(self, work: StageWork, params: PyTree, microbatches: PyTree) -> tuple[Array, PyTree, PyTree]:
        """Run the pipeline as one `lax.scan` over ticks."""
        axis, device, n = work.axis_name, lax.axis_index(work.axis_name), self.stages
        params, microbatches = varying((params, microbatches), axis)
        each = [jax.tree.map(lambda p, c=c: p[c : c + 1], params) for c in range(self.chunks)]
        links = jax.tree.map(lambda *a: jnp.stack(a), *(work.connect(own, self.hops) for own in each))
        compute, start = rematerialized(work.compute, self.remat), microbatch_at(microbatches, jnp.zeros((), int), axis)
        first = zeros(work.message(each[0], start))
        shapes = jax.eval_shape(work.compute, each[0], device, start, first)

        def tick(arriving: PyTree, t: Array) -> tuple[PyTree, PyTree]:
            m, chunk = self.turn(t, device)
            own = jax.tree.map(lambda p: lax.dynamic_slice_in_dim(p, chunk, 1), params)
            branches = {
                "idle": lambda own, arriving: zeros(shapes),
                "stage_work": lambda own, arriving: compute(
                    own, chunk * n + device, microbatch_at(microbatches, m, axis), arriving
                ),
            }
            sent, loss, report = switch(self.exists(m).astype(jnp.int32), branches, own, arriving)
            # What arrives is for the next tick; the first device gets it from the chunk before its own.
            sender = self.turn(t + 1, device)[1] - (device == 0)
            link = jax.tree.map(lambda a: a[jnp.clip(sender, 0)], links)
            arriving, seen = work.send(own, link, sent, self.hops)
            return arriving, (loss, report, masked(self.exists(m), seen))

        _, (losses, reports, seen) = lax.scan(tick, first, jnp.arange(self.ticks))
        m = jnp.arange(self.microbatches)
        begun = device + m // n * n * self.chunks + m % n  # the ticks of the first chunk
        rows = jax.tree.map(lambda r: lax.stop_gradient(r)[begun + n * jnp.arange(self.chunks)[:, None]], reports)
        reports = jax.tree.map(lambda r: r.sum(0, dtype=r.dtype), rows)
        return lax.psum(losses.sum(), axis), reports, jax.tree.map(lambda s: s.sum(0), seen)
