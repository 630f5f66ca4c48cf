"""How devices agree on the rung of a ladder, and send only its bytes.

Law: every device takes the same rung, the largest that any of them needs; what crosses is its bytes and what comes
behind them, and one byte for the agreement. A wire with a single rung agrees on nothing.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Integer, UInt8

from snap_jax.codecs.codec import Codec
from snap_jax.collectives.scale_exchange import AxisName


def agreed_rung(
    codec: Codec, spikes: Integer[Array, "..."], axis_name: AxisName, *, parts: bool = False
) -> UInt8[Array, ""] | None:
    """The rung that all devices of the axis take for `spikes`, or for each of its `parts` along dimension 0.

    Returns `None` for a wire with a single rung.
    """
    size = spikes.size // spikes.shape[0] if parts else spikes.size
    if len(codec.body_bytes(size)) == 1:
        return None
    mine = jax.vmap(codec.rung)(spikes).max() if parts else codec.rung(spikes)
    return lax.pmax(_over_batch(mine), axis_name)


@custom_vmap
def _over_batch(rung: UInt8[Array, ""]) -> UInt8[Array, ""]:
    """The largest over whatever `vmap` maps: a switch must not depend on the mapped index, or it takes every branch."""
    return rung


@_over_batch.def_vmap
def _(axis_size, in_batched, rung):
    return _over_batch(rung.max()), False


def ship(
    codec: Codec,
    size: int,
    sealed: UInt8[Array, "*rows most"],
    rung: UInt8[Array, ""] | None,
    move: Callable[[Array], Array],
) -> UInt8[Array, "*senders most"]:
    """`move(sealed)`, where only the rung's bytes of the packed spikes and all that is behind them cross.

    Args:
      codec: whose wire packed `size` spikes a row.
      size: spikes a row.
      sealed: payloads, each in the space of the largest rung.
      rung: the one agreed on; `None` moves all bytes.
      move: the collective.

    Returns:
      What arrived, again in the space of the largest rung; the bytes in between are zeros.
    """
    if rung is None:
        return move(sealed)
    sizes = codec.body_bytes(size)
    body, behind = sealed[..., : sizes[-1]], sealed[..., sizes[-1] :]

    beside = behind.shape[-1]
    small_first = jnp.concatenate([behind, body], -1)

    def cross(nbytes: int, payload: Array) -> Array:
        arrived = move(payload[..., : beside + nbytes])
        return jnp.pad(arrived, [(0, 0)] * (arrived.ndim - 1) + [(0, sizes[-1] - nbytes)])

    arrived = lax.switch(rung, [functools.partial(cross, nbytes) for nbytes in sizes], small_first)
    return jnp.concatenate([arrived[..., beside:], arrived[..., :beside]], -1)
