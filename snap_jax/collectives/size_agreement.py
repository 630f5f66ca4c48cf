"""How devices agree on one of a wire's sizes, and send only its bytes.

Invariant: every device takes the same rung, the largest that any of them needs. What crosses is its bytes, what follows
them, and one byte for the agreement. A wire with one size agrees on nothing.

Compiling a collective takes time, so a wire of many sizes does not get one for each: where its sizes lie on a grid, a
payload travels in parts, each sent or not under a `lax.cond` of its own. At most 9 messages make 256 sizes; on average
half of them are sent. An accelerator waits for the host before each `cond`. A ladder of few wires has one `lax.switch`.
"""

import functools
from collections.abc import Callable

import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap
from jaxtyping import Array, UInt8

from snap_jax.collectives.scale_exchange import AxisName
from snap_jax.wires import size_grid

Move = Callable[[Array], Array]
"""A collective of one array of bytes."""


def agreed_rung(least: UInt8[Array, ""], sizes: tuple[int, ...], axis_name: AxisName) -> UInt8[Array, ""]:
    """Return the rung that all devices of the axis take, where this one needs at least `least`."""
    return least if len(sizes) == 1 else lax.pmax(_over_batch(least), axis_name)


@custom_vmap
def _over_batch(rung: UInt8[Array, ""]) -> UInt8[Array, ""]:
    """The largest over what `vmap` maps: a switch on a mapped index would take every branch."""
    return rung


@_over_batch.def_vmap
def _(axis_size, in_batched, rung):
    return _over_batch(rung.max()), False


def ship(
    body: UInt8[Array, "*rows most"],
    tail: UInt8[Array, "*rows tail"],
    sizes: tuple[int, ...],
    rung: UInt8[Array, ""],
    move: Move,
) -> tuple[UInt8[Array, "*senders most"], UInt8[Array, "*senders tail"]]:
    """Return `move(body)` and `move(tail)`, where one call moves the rung's bytes of the body, and the tail.

    Args:
      body: packed spikes, each row in the space of the largest size.
      tail: what follows them.
      sizes: bytes of the body for each rung.
      rung: the one agreed on.
      move: the collective; a function of one array of bytes.

    Returns:
      What arrived, the body again in the space of the largest size; bytes past the rung's are zeros.
    """
    if len(sizes) == 1:
        arrived = move(jnp.concatenate([body, tail], -1))
        return arrived[..., : sizes[0]], arrived[..., sizes[0] :]
    parts = size_grid.parts(sizes)
    if parts is None or len(parts) >= len(sizes):
        return _split(_one_of(jnp.concatenate([tail, body], -1), tail.shape[-1], sizes, rung, move), tail.shape[-1])
    return _in_parts(body, tail, sizes, parts, rung, move)


def _in_parts(body: Array, tail: Array, sizes: tuple[int, ...], parts: tuple[int, ...], rung: Array, move: Move):
    """Move the tail and the first part, then the other parts of the size, the longest first."""
    first, *others = parts
    payload, arrived_tail = _split(move(jnp.concatenate([tail, body[..., :first]], -1)), tail.shape[-1])
    payload = _pad(payload, sizes[-1])
    rest = jnp.asarray(sizes, jnp.int32)[rung] - first  # a sum of some of the others, each of them at most once
    for part in reversed(others):
        start = first + rest // (2 * part) * (2 * part)

        def add(payload: Array, body: Array, start: Array, part: int = part) -> Array:
            arrived = move(lax.dynamic_slice_in_dim(body, start, part, -1))
            return lax.dynamic_update_slice_in_dim(payload, arrived, start, -1)

        payload = lax.cond(rest // part % 2 == 1, add, lambda payload, *_: payload, payload, body, start)
    return payload, arrived_tail


def _one_of(payload: Array, beside: int, sizes: tuple[int, ...], rung: Array, move: Move) -> Array:
    """Move so many bytes of each row as the rung says, and those `beside`; one collective per size."""

    def cross(nbytes: int, payload: Array) -> Array:
        return _pad(move(payload[..., : beside + nbytes]), beside + sizes[-1])

    return lax.switch(rung, [functools.partial(cross, nbytes) for nbytes in sizes], payload)


def _pad(arrived: Array, length: int) -> Array:
    return jnp.pad(arrived, [(0, 0)] * (arrived.ndim - 1) + [(0, length - arrived.shape[-1])])


def _split(arrived: Array, beside: int) -> tuple[Array, Array]:
    """Return body and tail of what arrived, tail first."""
    return arrived[..., beside:], arrived[..., :beside]
