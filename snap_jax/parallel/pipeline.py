"""Pipelines: a model whose stages are on different dies, and microbatches that follow each other through them.

Law 6: the same numbers for any number of dies.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, PyTree

from snap_jax._compat import as_varying, varying_axes
from snap_jax.boundary.boundary import Boundary
from snap_jax.parallel.stage_branches import while_busy


def pipeline(
    enter: Callable[[PyTree], Array],
    body: Callable[[Array], Array],
    leave: Callable[[Array, PyTree], PyTree],
    microbatches: PyTree,
    axis_name: str,
    boundary: Boundary,
    *,
    context: Callable[[PyTree], Array] | None = None,
    watch: Callable[[Array], PyTree] | None = None,
) -> tuple[PyTree, PyTree]:
    """GPipe inside `shard_map`: die i works on microbatch t - i at tick t and sends what it made to die i + 1.

    `ticks = M + n - 1` for M microbatches on n dies. A die that has no microbatch computes nothing; it still sends,
    since a collective is the same program on every die: `(n - 1) * ticks` messages cross in a run.

    Args:
      enter: a microbatch -> what the first die starts from.
      body: what every die computes; same shape in and out if there are several.
      leave: output of the last die and the microbatch -> a pytree of floats.
      microbatches: pytree whose arrays have the M microbatches first; the same on all dies.
      axis_name: the mesh axis of the dies.
      boundary: how the stream crosses to the next die; each die its own: the sender's side of what leaves it, the
        receiver's side of what arrives.
      context: a microbatch -> what both sides of a boundary know of it, for a boundary that predicts.
      watch: what to note of what each die is about to send, as a pytree of numbers that may be differentiated. All
        dies call it at every tick, so it may hold collectives; what it notes of a die that had no microbatch does not
        count.

    Returns:
      What `leave` gave, stacked over microbatches (zeros on all dies but the last), and the sum of what `watch`
      noted on this die.
    """
    dies, die = lax.axis_size(axis_name), lax.axis_index(axis_name)
    count = jax.tree.leaves(microbatches)[0].shape[0]
    watch = watch or (lambda _: ())

    def at(t: Array) -> PyTree:
        return jax.tree.map(lambda a: as_varying(a, (axis_name,))[jnp.clip(t - die, 0, count - 1)], microbatches)

    def work(t: Array, arriving: Array) -> tuple[Array, PyTree]:
        microbatch = at(t)
        known = context(microbatch) if context else None
        start = lax.cond(die == 0, lambda: varying(enter(microbatch)), lambda: boundary.restore(arriving, known))
        stream = body(start)
        end = lax.cond(
            die == dies - 1,
            lambda: varying(leave(stream, microbatch)),
            lambda: silent(leave, stream, microbatch),
        )
        # The last die sends to nobody, and what others send must not grow by its rung.
        sent = boundary.prepare(stream, known)
        return jnp.where(die < dies - 1, sent, jnp.zeros_like(sent)), end

    def varying(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda a: as_varying(jnp.asarray(a), (axis_name,)), tree)

    def silent(function: Callable, *args: Any) -> PyTree:
        return varying(jax.tree.map(zeros, jax.eval_shape(function, *args)))

    def zeros(like: jax.ShapeDtypeStruct) -> Array:
        return as_varying(jnp.zeros(like.shape, like.dtype), tuple(sorted(varying_axes(like))))

    def tick(arriving: Array, t: Array) -> tuple[Array, PyTree]:
        busy = (t >= die) & (t - die < count)
        sent, end = while_busy(busy, work, lambda *args: silent(work, *args), t, arriving, sizes=(count, dies))
        note = jax.tree.map(lambda n: jnp.where(busy, n, jnp.zeros_like(n)), watch(sent))
        return hand_on(sent, arriving), (end, note)

    onward = [(i, i + 1) for i in range(dies - 1)]
    sender = boundary.handshake(axis_name, onward) if onward else None

    def hand_on(sent: Array, before: Array) -> Array:
        # On one die nothing arrives, so its body may change the shape of the stream.
        return boundary.send(sent, axis_name, onward, sender_codec=sender) if onward else before

    first = silent(lambda m: boundary.prepare(enter(m), context(m) if context else None), at(jnp.zeros((), jnp.int32)))
    _, (ends, notes) = lax.scan(tick, first, jnp.arange(count + dies - 1))
    return jax.tree.map(lambda e: e[dies - 1 :], ends), jax.tree.map(lambda n: n.sum(0), notes)
