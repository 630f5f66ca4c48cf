"""all_gather and psum_scatter, each the other's transpose."""

import functools
from typing import Any

from jax import lax

from snap_jax.codecs.codec import Codec
from snap_jax.collectives.autodiff import Arrays, coded
from snap_jax.collectives.message import Sent, deliver
from snap_jax.collectives.parts import Groups, along, join, to_each
from snap_jax.collectives.scale_exchange import AxisName, Codecs
from snap_jax.errors import UsageError


def all_gather(
    x: Any,
    axis_name: AxisName,
    *,
    axis_index_groups: Groups = None,
    axis: int = 0,
    tiled: bool = False,
    to: str = "varying",
    codec: Any = None,
    grad_codec: Codec | str | None = None,
    return_sent: bool = False,
) -> Any:
    """Return `lax.all_gather(codec.quantize(x), axis_name)`, sent as spikes.

    Args:
      x: pytree of float arrays, on each device its own.
      axis_name: mesh axis, or a tuple of them.
      axis_index_groups: as in `lax.all_gather`.
      axis: where the devices go, or with `tiled` along which dimension their parts are joined.
      tiled: join instead of stack.
      to: as in `lax.all_gather`, "varying" or "invarying": how the result is typed.
      codec: how to send `x`: a `Codec`, words for one such as "count:3+rans", a pytree of these with one per array;
        `None` sends `x` as it is. Arrays that share a codec travel in one payload.
      grad_codec: how to send the cotangent (a coded `psum_scatter`); `None` sends it as it is. With `to="invarying"`
        the cotangent does not travel.
      return_sent: whether to return `(result, Sent)`, for a single array.

    Raises:
      UsageError: if an array is not of a float dtype, `to` is something else, or forward-mode differentiation meets a
        `grad_codec`.
    """
    plain = functools.partial(
        lax.all_gather, axis_name=axis_name, axis_index_groups=axis_index_groups, axis=axis, tiled=tiled, to=to
    )

    def line(codecs: Codecs, xs: Arrays) -> tuple[Arrays, Sent]:
        if to not in ("varying", "invarying"):
            raise UsageError(f"all_gather: to={to!r} cannot be coded: use 'varying' or 'invarying'")
        move = functools.partial(lax.all_gather, axis_name=axis_name, axis_index_groups=axis_index_groups, to=to)
        rows, sent = deliver(codecs, xs, axis_name, move)
        return tuple(join("all_gather", parts, axis, tiled) for parts in rows), sent

    def back(cotangents: Arrays, codec: Codec) -> Arrays:
        return psum_scatter(
            cotangents, axis_name, scatter_dimension=axis, axis_index_groups=axis_index_groups, tiled=tiled, codec=codec
        )

    return coded(
        "all_gather",
        x,
        axis_name,
        codec,
        plain=plain,
        line=line,
        back=None if to == "invarying" else back,
        grad_codec=grad_codec,
        return_sent=return_sent,
    )


def psum_scatter(
    x: Any,
    axis_name: AxisName,
    *,
    scatter_dimension: int = 0,
    axis_index_groups: Groups = None,
    tiled: bool = False,
    codec: Any = None,
    grad_codec: Codec | str | None = None,
    return_sent: bool = False,
) -> Any:
    """Return `lax.psum_scatter(codec.quantize(x), axis_name)`, sent as spikes; decoded and summed where they arrive.

    Args:
      x: pytree of float arrays, on each device its own.
      axis_name: mesh axis, or a tuple of them.
      scatter_dimension: the dimension that is scattered, as in `lax.psum_scatter`.
      axis_index_groups: as in `lax.psum_scatter`.
      tiled: as in `lax.psum_scatter`.
      codec: as in `all_gather`.
      grad_codec: how to send the cotangent (a coded `all_gather`); `None` sends it as it is.
      return_sent: whether to return `(result, Sent)`, for a single array.

    Raises:
      UsageError: if an array is not of a float dtype, its dimension cannot be scattered evenly, the wire may be too
        small for a part, or forward-mode differentiation meets a `grad_codec`.
    """
    plain = functools.partial(
        lax.psum_scatter,
        axis_name=axis_name,
        scatter_dimension=scatter_dimension,
        axis_index_groups=axis_index_groups,
        tiled=tiled,
    )

    def line(codecs: Codecs, xs: Arrays) -> tuple[Arrays, Sent]:
        parts = along("psum_scatter", scatter_dimension, axis_name, axis_index_groups, tiled)
        rows, sent = deliver(codecs, xs, axis_name, to_each(axis_name, axis_index_groups), parts=parts)
        return tuple(row.sum(0) for row in rows), sent

    def back(cotangents: Arrays, codec: Codec) -> Arrays:
        return all_gather(
            cotangents, axis_name, axis_index_groups=axis_index_groups, axis=scatter_dimension, tiled=tiled, codec=codec
        )

    return coded(
        "psum_scatter",
        x,
        axis_name,
        codec,
        plain=plain,
        line=line,
        back=back,
        grad_codec=grad_codec,
        return_sent=return_sent,
    )
