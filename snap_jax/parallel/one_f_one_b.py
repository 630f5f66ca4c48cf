"""1F1B: each stage alternates one forward and one backward pass (PipeDream-Flush, Narayanan et al. 2021).

A stage keeps the messages of at most n microbatches, however many there are; GPipe keeps all of them. The backward pass
of a stage computes it again from its message, as GPipe does with `remat="full"`. Bytes and ticks are those of GPipe.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, PyTree

from snap_jax.parallel.gpipe import GPipe
from snap_jax.parallel.schedule import Schedule, masked, microbatch_at, rematerialized, switch, varying, zeros
from snap_jax.parallel.stage_work import StageWork


@dataclasses.dataclass(frozen=True)
class OneFOneB(Schedule):
    """A tick is two slots: even stages work forward and then backward, odd stages backward and then forward.

    So what a stage sends in one slot its neighbor uses in the next, in both directions.
    """

    @property
    def ticks(self):
        """`M + n - 1`."""
        return self.microbatches + self.stages - 1

    @property
    def slots(self):
        """One forward, one backward."""
        return 2

    def forward(self, t: Any, stage: Any) -> Any:
        """Return the microbatch that goes forward; out of range where the stage is idle."""
        return t - stage // 2

    def backward(self, t: Any, stage: Any) -> Any:
        """Return the microbatch that goes backward."""
        return t - self.stages + 1 + stage // 2

    @property
    def tables(self):
        """Scopes `forward_0` and `backward_0` in the first slot, `forward_1` and `backward_1` in the second."""
        t, stage = np.ogrid[: self.ticks, : self.stages]
        found = {}
        for slot in (0, 1):
            turn = stage % 2 == slot
            found[f"forward_{slot}"] = self.exists(self.forward(t, stage)) & turn
            found[f"backward_{slot}"] = self.exists(self.backward(t, stage)) & ~turn
        return found

    def run(self, work: StageWork, params: PyTree, microbatches: PyTree) -> tuple[Array, PyTree, PyTree]:
        """Run forward; where a gradient is asked for, run both directions in one loop."""

        @jax.custom_vjp
        def total(params: PyTree) -> tuple[Array, PyTree, PyTree]:
            return GPipe(self.microbatches, self.stages).run(work, params, microbatches)

        def scaled(gradient: PyTree, cotangents: tuple) -> tuple[PyTree]:
            return (jax.tree.map(lambda g: cotangents[0] * g, gradient),)

        total.defvjp(lambda params: self._both(work, params, microbatches), scaled)
        return total(varying(params, work.axis_name))

    def _both(self, work: StageWork, params: PyTree, microbatches: PyTree) -> tuple[tuple, PyTree]:
        axis, stage = work.axis_name, lax.axis_index(work.axis_name)
        held, links, compute = min(self.stages, self.microbatches), work.connect(params, self.hops), work.compute

        def at(m: Array) -> PyTree:
            return microbatch_at(microbatches, m, axis)

        empty = zeros(work.message(params, at(jnp.zeros((), jnp.int32))))
        sent, loss, report = jax.eval_shape(compute, params, stage, at(jnp.zeros((), jnp.int32)), empty)

        def forward(m, arriving, _, kept, gradient):
            kept = jax.tree.map(lambda k, a: k.at[m % held].set(a), kept, arriving)
            return *compute(params, stage, at(m), arriving), empty, kept, gradient

        def backward(m, _, coming, kept, gradient):
            def again(params: PyTree, message: PyTree) -> tuple[PyTree, Array]:
                sent, loss, _ = rematerialized(compute, self.remat)(params, stage, at(m), message)
                return () if self.stages == 1 else work.decoded(params, sent), loss

            (_, again_loss), pull = jax.vjp(again, params, jax.tree.map(lambda k: k[m % held], kept))
            more, back = pull((coming, jnp.ones_like(again_loss)))
            return *zeros((sent, loss, report)), back, kept, jax.tree.map(jnp.add, gradient, more)

        def idle(_, arriving, coming, kept, gradient):
            return *zeros((sent, loss, report)), empty, kept, gradient

        def half(slot: int, t: Array, carry: tuple) -> tuple[tuple, PyTree]:
            arriving, coming, kept, gradient, total, reports = carry
            turn, ahead, behind = stage % 2 == slot, self.forward(t, stage), self.backward(t, stage)
            m = jnp.where(turn, ahead, behind)
            branches = {f"idle_{slot}": idle, f"forward_{slot}": forward, f"backward_{slot}": backward}
            which = jnp.where(self.exists(m), jnp.where(turn, 1, 2), 0)
            out, loss, report, back, kept, gradient = switch(which, branches, m, arriving, coming, kept, gradient)
            hops = [hop for hop in self.hops if hop[0] % 2 == slot]
            arriving, seen = work.send(params, links, out, hops)
            coming = work.send_back(params, back, hops) if hops else empty
            row = jnp.where(which == 1, m, self.microbatches)  # past the end: dropped
            reports = jax.tree.map(lambda rs, r: rs.at[row].set(r, mode="drop"), reports, report)
            return (arriving, coming, kept, gradient, total + loss, reports), masked(which == 1, seen)

        def tick(carry: tuple, t: Array) -> tuple[tuple, PyTree]:
            carry, first = half(0, t, carry)
            carry, second = half(1, t, carry)
            return carry, jax.tree.map(jnp.add, first, second)

        start = (empty, empty, zeros(empty, held), zeros(params), zeros(loss), zeros(report, self.microbatches))
        (_, _, _, gradient, total, reports), seen = lax.scan(tick, start, jnp.arange(self.ticks))
        seen = jax.tree.map(lambda s: s.sum(0), seen)
        return (lax.psum(total, axis), reports, seen), gradient
