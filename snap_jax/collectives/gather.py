"""all_gather and psum_scatter, each the other's transpose."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from snap_jax.codecs.codec import Codec
from snap_jax.collectives.autodiff import Codecs, Groups, T, coded
from snap_jax.collectives.payload import arrivals, deal_out, group_size, post, put_together, read_each, receive
from snap_jax.collectives.scale_exchange import AxisName
from snap_jax.collectives.size_agreement import agreed_rung, ship
from snap_jax.encodings import saturate


def all_gather(
    x: T,
    axis_name: AxisName,
    *,
    axis_index_groups: Groups = None,
    axis: int = 0,
    tiled: bool = False,
    to: str = "varying",
    codec: Codec | None = None,
    grad_codec: Codec | None = None,
) -> T:
    """`lax.all_gather(codec.quantize(x), axis_name)`, sent as spikes.

    Args:
      x: pytree of float arrays, on each device its own.
      axis_name: mesh axis, or a tuple of them.
      axis_index_groups: as in `lax.all_gather`.
      axis: where the devices go, or with `tiled` along which dimension their parts are joined.
      tiled: join instead of stack.
      to: as in `lax.all_gather`: whether the result is typed as varying or as the same on all devices.
      codec: how to send `x`; `None` sends it as it is.
      grad_codec: how to send the cotangent (a coded `psum_scatter`); `None` sends it as it is. With `to="invarying"`
        the cotangent does not travel.

    Raises:
      UsageError: if an array is not of a float dtype, or forward-mode differentiation meets a `grad_codec`.
    """
    plain = functools.partial(
        lax.all_gather, axis_name=axis_name, axis_index_groups=axis_index_groups, axis=axis, tiled=tiled, to=to
    )
    if codec is None and grad_codec is None:
        return plain(x)

    def move(payload: jax.Array) -> jax.Array:
        return lax.all_gather(payload, axis_name, axis_index_groups=axis_index_groups, to=to)

    def wire(codecs: Codecs, x: jax.Array) -> jax.Array:
        rung = agreed_rung(codecs[0], codecs[0].spikes(x), axis_name)
        rows = ship(codecs[0], x.size, post(codecs[0], x, rung, axis_name), rung, move)
        parts = read_each(lambda row: receive(codecs[0], row, x, rung, axis_name), rows, rung, x.size)
        return put_together(parts, axis, tiled)

    def back(cotangent: jax.Array, codec: Codec) -> jax.Array:
        return psum_scatter(
            cotangent, axis_name, scatter_dimension=axis, axis_index_groups=axis_index_groups, tiled=tiled, codec=codec
        )

    home = None if to == "invarying" else back
    return coded("all_gather", x, axis_name, (codec,), plain=plain, wire=wire, back=home, grad_codec=grad_codec)


def psum_scatter(
    x: T,
    axis_name: AxisName,
    *,
    scatter_dimension: int = 0,
    axis_index_groups: Groups = None,
    tiled: bool = False,
    codec: Codec | None = None,
    grad_codec: Codec | None = None,
) -> T:
    """`lax.psum_scatter(codec.quantize(x), axis_name)`, sent as spikes; decoded, then summed where they arrive.

    Args:
      x: pytree of float arrays, on each device its own.
      axis_name: mesh axis, or a tuple of them.
      scatter_dimension: the dimension that is dealt out, as in `lax.psum_scatter`.
      axis_index_groups: as in `lax.psum_scatter`.
      tiled: as in `lax.psum_scatter`.
      codec: how to send `x`; `None` sends it as it is.
      grad_codec: how to send the cotangent (a coded `all_gather`); `None` sends it as it is.

    Raises:
      UsageError: if an array is not of a float dtype, its dimension cannot be dealt out evenly, or forward-mode
        differentiation meets a `grad_codec`.
    """
    plain = functools.partial(
        lax.psum_scatter,
        axis_name=axis_name,
        scatter_dimension=scatter_dimension,
        axis_index_groups=axis_index_groups,
        tiled=tiled,
    )
    if codec is None and grad_codec is None:
        return plain(x)
    group = group_size(axis_name, axis_index_groups)

    def deal(y: jax.Array) -> jax.Array:
        return deal_out("psum_scatter", y, scatter_dimension, group, tiled)

    def wire(codecs: Codecs, x: jax.Array) -> jax.Array:
        parts = arrivals(codecs[0], x, deal, axis_name, axis_index_groups, scatter_dimension)
        return saturate(parts.sum(0), jnp.dtype(x.dtype))

    def back(cotangent: jax.Array, codec: Codec) -> jax.Array:
        return all_gather(
            cotangent, axis_name, axis_index_groups=axis_index_groups, axis=scatter_dimension, tiled=tiled, codec=codec
        )

    return coded("psum_scatter", x, axis_name, (codec,), plain=plain, wire=wire, back=back, grad_codec=grad_codec)
