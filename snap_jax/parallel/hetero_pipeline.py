"""Relays: a pipeline whose dies differ in what they compute, and whose stream has another shape behind each of them.

Law: the same numbers as the stages one after the other. Every hop is a message of its own size, and of no more.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, PyTree

from snap_jax._compat import as_varying, varying_axes
from snap_jax.boundary.boundary import Boundary
from snap_jax.parallel.stage_branches import each_its_own, while_busy


def relay(
    enter: Callable[[PyTree], Array],
    bodies: Sequence[Callable[[Array], Array]],
    leave: Callable[[Array, PyTree], PyTree],
    microbatches: PyTree,
    axis_name: str,
    boundaries: Sequence[Boundary],
    *,
    watch: Callable[[Sequence[Array]], PyTree] | None = None,
) -> tuple[PyTree, PyTree]:
    """`pipelines.pipeline`, where die i computes `bodies[i]`.

    Ticks and messages are those of `pipeline`. A hop from die i to die i + 1 is a `ppermute` of that one pair: on the
    other dies it moves nothing, though they code and decode zeros. A body may hold collectives over axes along which
    all devices are on one die, as sums of regions that chips divide.

    Args:
      enter: a microbatch -> what the first die starts from.
      bodies: what each die computes; shapes as they like.
      leave: output of the last die and the microbatch -> a pytree of floats.
      microbatches: pytree whose arrays have the M microbatches first; the same on all dies.
      axis_name: the mesh axis of the dies.
      boundaries: how the stream leaves each die; of `boundaries[i]` the sending end counts as it is on die i, the
        receiving end as it is on die i + 1. The last sends nothing.
      watch: what to note, as a pytree of numbers, of what each die is about to send: a list with a place for every
        boundary, zeros but for the die's own. May be differentiated and hold collectives, as in `pipeline`.

    Returns:
      What `leave` gave, stacked over microbatches (zeros on all dies but the last), and the sum of what `watch` noted
      on this die.
    """
    dies, die = len(bodies), lax.axis_index(axis_name)
    count = jax.tree.leaves(microbatches)[0].shape[0]
    watch = watch or (lambda _: ())

    def at(t: Array) -> PyTree:
        return jax.tree.map(lambda a: varying(a)[jnp.clip(t - die, 0, count - 1)], microbatches)

    def varying(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda a: as_varying(jnp.asarray(a), (axis_name,)), tree)

    def zeros(like: PyTree) -> PyTree:
        return varying(jax.tree.map(_zeros, like))

    microbatch = at(jnp.zeros((), jnp.int32))
    crossing, stream = [], jax.eval_shape(enter, microbatch)
    for body, boundary in zip(bodies, boundaries, strict=True):
        stream = jax.eval_shape(body, stream)
        crossing.append(jax.eval_shape(boundary.prepare, stream))
    ending = jax.eval_shape(leave, stream, microbatch)

    def work(i: int) -> Callable[..., tuple[list[Array], PyTree]]:
        def on_die(microbatch: PyTree, arriving: list[Array]) -> tuple[list[Array], PyTree]:
            stream = bodies[i](enter(microbatch) if i == 0 else boundaries[i - 1].restore(arriving[i - 1]))
            if i == dies - 1:
                return zeros(crossing), varying(leave(stream, microbatch))
            sent = varying(boundaries[i].prepare(stream))
            return [sent if k == i else zeros(s) for k, s in enumerate(crossing)], zeros(ending)

        return on_die

    def tick(arriving: list[Array], t: Array) -> tuple[list[Array], PyTree]:
        busy = (t >= die) & (t - die < count)
        sent, end = while_busy(
            busy,
            lambda *args: each_its_own(die, [work(i) for i in range(dies)], *args),
            lambda *_: (zeros(crossing), zeros(ending)),
            at(t),
            arriving,
            sizes=(count, dies),
        )
        note = jax.tree.map(lambda n: jnp.where(busy, n, jnp.zeros_like(n)), watch(sent))
        return hand_on(sent), (end, note)

    hops = [[(i, i + 1)] for i in range(dies - 1)]
    senders = [b.handshake(axis_name, hop) for b, hop in zip(boundaries, hops, strict=False)]

    def hand_on(sent: list[Array]) -> list[Array]:
        each = zip(boundaries, sent, hops, senders, strict=False)
        return [boundary.send(stream, axis_name, hop, sender_codec=sender) for boundary, stream, hop, sender in each]

    _, (ends, notes) = lax.scan(tick, zeros(crossing[:-1]), jnp.arange(count + dies - 1))
    return jax.tree.map(lambda e: e[dies - 1 :], ends), jax.tree.map(lambda n: n.sum(0), notes)


def _zeros(like: Any) -> Array:
    return as_varying(jnp.zeros(like.shape, like.dtype), tuple(sorted(varying_axes(like))))
