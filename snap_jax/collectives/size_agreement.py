"""How devices agree on one of a wire's sizes, and send only its bytes.

Invariant: every device takes the same rung, the largest that any of them needs. What crosses is its bytes, what follows
them, and one byte for the agreement. A wire with one size agrees on nothing.

A `lax.switch` has a collective for each length of a message. Compiling one takes as long as two kernels. So a payload
of many sizes is two messages, each of few lengths; see `wires.size_grid`. One of few sizes is one message. An
accelerator waits for the host before each switch.
"""

import functools
from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap
from jaxtyping import Array, UInt8

from snap_jax._compat import as_varying, varying_axes
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
    """Return `move(body)` and `move(tail)`, where the rung's bytes of the body move and the tail with them.

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
    pairs = size_grid.two_messages(sizes)
    if pairs is None:
        return _one_of(tail, body, sizes, rung, move)
    firsts, seconds = (sorted(set(lengths)) for lengths in zip(*pairs, strict=True))
    first, second = (jnp.asarray(lengths, jnp.int32)[rung] for lengths in zip(*pairs, strict=True))
    payload, arrived_tail = _one_of(tail, body[..., : firsts[-1]], firsts, _place(first, firsts), move)
    rest = lax.dynamic_slice_in_dim(body, first, seconds[-1], -1)
    silent = as_varying(jnp.zeros((*payload.shape[:-1], seconds[-1]), jnp.uint8), tuple(varying_axes(payload)))
    branches = [lambda _: silent, *(functools.partial(_cross, nbytes, seconds[-1], move) for nbytes in seconds[1:])]
    rest = lax.switch(_place(second, seconds), branches, rest)
    payload = _pad(payload, sizes[-1])
    return lax.dynamic_update_slice_in_dim(payload, rest, first, -1), arrived_tail


def _place(nbytes: Array, lengths: list[int]) -> Array:
    """The place of a length among them."""
    return jnp.sum(nbytes > jnp.asarray(lengths[:-1], jnp.int32), dtype=jnp.int32)


def _one_of(tail: Array, body: Array, lengths: Sequence[int], which: Array, move: Move) -> tuple[Array, Array]:
    """Move the tail and as many bytes of the body as the length says."""
    beside, payload = tail.shape[-1], jnp.concatenate([tail, body], -1)
    branches = [functools.partial(_cross, beside + nbytes, beside + lengths[-1], move) for nbytes in lengths]
    arrived = lax.switch(which, branches, payload)
    return arrived[..., beside:], arrived[..., :beside]


def _cross(nbytes: int, room: int, move: Move, payload: Array) -> Array:
    return _pad(move(payload[..., :nbytes]), room)


def _pad(arrived: Array, length: int) -> Array:
    return jnp.pad(arrived, [(0, 0)] * (arrived.ndim - 1) + [(0, length - arrived.shape[-1])])
