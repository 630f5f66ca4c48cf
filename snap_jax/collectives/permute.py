"""ppermute and all_to_all: each its own transpose."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from snap_jax.codecs.codec import Codec
from snap_jax.collectives.autodiff import Codecs, Groups, T, coded
from snap_jax.collectives.payload import arrivals, deal_out, group_size, post, put_together, receive
from snap_jax.collectives.scale_exchange import AxisName
from snap_jax.collectives.size_agreement import agreed_rung, ship
from snap_jax.encodings import saturate


def ppermute(
    x: T,
    axis_name: AxisName,
    perm: Sequence[tuple[int, int]],
    *,
    codec: Codec | None = None,
    grad_codec: Codec | None = None,
    sender: Codec | None = None,
) -> T:
    """`lax.ppermute(codec.quantize(x), axis_name, perm)`, sent as spikes; who is sent nothing gets zeros.

    Args:
      x: pytree of float arrays, on each device its own.
      axis_name: mesh axis, or a tuple of them.
      perm: (source, target) pairs.
      codec: how to send `x`; `None` sends it as it is.
      grad_codec: how to send the cotangent back along the pairs; `None` sends it as it is.
      sender: the codec of who sends to this device, where `thresholds.handshake` has brought it here before; then
        thresholds that vary over the axis do not travel with every call.

    Raises:
      UsageError: if an array is not of a float dtype, or forward-mode differentiation meets a `grad_codec`.
    """
    plain = functools.partial(lax.ppermute, axis_name=axis_name, perm=perm)
    if codec is None and grad_codec is None:
        return plain(x)

    def wire(codecs: Codecs, x: jax.Array) -> jax.Array:
        codec, sender = codecs
        rung = agreed_rung(codec, codec.spikes(x), axis_name)
        if sender is None:
            return receive(codec, ship(codec, x.size, post(codec, x, rung, axis_name), rung, plain), x, rung, axis_name)
        payload = ship(codec, x.size, codec.encode(x, rung), rung, plain)
        return sender.decode(payload, shape=x.shape, dtype=x.dtype, rung=rung)

    def back(cotangent: jax.Array, codec: Codec) -> jax.Array:
        return ppermute(cotangent, axis_name, [(target, source) for source, target in perm], codec=codec)

    return coded("ppermute", x, axis_name, (codec, sender), plain=plain, wire=wire, back=back, grad_codec=grad_codec)


def all_to_all(
    x: T,
    axis_name: AxisName,
    split_axis: int,
    concat_axis: int,
    *,
    axis_index_groups: Groups = None,
    tiled: bool = False,
    codec: Codec | None = None,
    grad_codec: Codec | None = None,
) -> T:
    """`lax.all_to_all(codec.quantize(x), axis_name, split_axis, concat_axis)`, sent as spikes, a payload a part.

    Args:
      x: pytree of float arrays, on each device its own.
      axis_name: mesh axis, or a tuple of them.
      split_axis: the dimension whose parts are dealt to the devices, as in `lax.all_to_all`.
      concat_axis: where what arrives is put together, as in `lax.all_to_all`.
      axis_index_groups: as in `lax.all_to_all`.
      tiled: as in `lax.all_to_all`.
      codec: how to send `x`; `None` sends it as it is.
      grad_codec: how to send the cotangent (the coded `all_to_all` back); `None` sends it as it is.

    Raises:
      UsageError: if an array is not of a float dtype, its dimension cannot be dealt out evenly, or forward-mode
        differentiation meets a `grad_codec`.
    """
    plain = functools.partial(
        lax.all_to_all,
        axis_name=axis_name,
        split_axis=split_axis,
        concat_axis=concat_axis,
        axis_index_groups=axis_index_groups,
        tiled=tiled,
    )
    if codec is None and grad_codec is None:
        return plain(x)
    group = group_size(axis_name, axis_index_groups)

    def deal(y: jax.Array) -> jax.Array:
        return deal_out("all_to_all", y, split_axis, group, tiled)

    def wire(codecs: Codecs, x: jax.Array) -> jax.Array:
        parts = arrivals(codecs[0], x, deal, axis_name, axis_index_groups, split_axis)
        return put_together(saturate(parts, jnp.dtype(x.dtype)), concat_axis, tiled)

    def back(cotangent: jax.Array, codec: Codec) -> jax.Array:
        return all_to_all(
            cotangent, axis_name, concat_axis, split_axis, axis_index_groups=axis_index_groups, tiled=tiled, codec=codec
        )

    return coded("all_to_all", x, axis_name, (codec,), plain=plain, wire=wire, back=back, grad_codec=grad_codec)
