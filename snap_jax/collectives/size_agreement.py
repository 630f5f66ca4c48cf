"""How devices agree on one of a wire's sizes, and send only its bytes.

Invariant: every device takes the same rung, the largest that any of them needs. What crosses is its bytes, what follows
them, and one byte for the agreement. A wire with one size agrees on nothing.
"""

import functools
from collections.abc import Callable

import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap
from jaxtyping import Array, UInt8

from snap_jax.collectives.scale_exchange import AxisName


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
    move: Callable[[Array], Array],
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
    beside, most = tail.shape[-1], sizes[-1]

    def cross(nbytes: int, payload: Array) -> Array:
        arrived = move(payload[..., : beside + nbytes])
        return jnp.pad(arrived, [(0, 0)] * (arrived.ndim - 1) + [(0, most - nbytes)])

    branches = [functools.partial(cross, nbytes) for nbytes in sizes]
    arrived = lax.switch(rung, branches, jnp.concatenate([tail, body], -1))
    return arrived[..., beside:], arrived[..., :beside]
