"""ppermute and all_to_all: each its own transpose."""

import functools
from collections.abc import Sequence
from typing import Any

from jax import lax

from snap_jax.codecs.codec import Codec
from snap_jax.collectives.autodiff import Arrays, coded
from snap_jax.collectives.message import Sent, deliver
from snap_jax.collectives.parts import Groups, along, join, to_each
from snap_jax.collectives.scale_exchange import AxisName, Codecs, stopped


def ppermute(
    x: Any,
    axis_name: AxisName,
    perm: Sequence[tuple[int, int]],
    *,
    codec: Any = None,
    grad_codec: Codec | str | None = None,
    sender_codec: Codec | None = None,
    return_sent: bool = False,
) -> Any:
    """Return `lax.ppermute(codec.quantize(x), axis_name, perm)`, sent as spikes; zeros where nothing is sent to.

    Args:
      x: pytree of float arrays, on each device its own.
      axis_name: mesh axis, or a tuple of them.
      perm: (source, target) pairs.
      codec: as in `all_gather`.
      grad_codec: how to send the cotangent back along the pairs; `None` sends it as it is.
      sender_codec: the codec of the device that sends to this one, as `handshake` has brought it here; then thresholds
        that vary over the axis do not travel with every call.
      return_sent: whether to return `(result, Sent)`, for a single array.

    Raises:
      UsageError: if an array is not of a float dtype, or forward-mode differentiation meets a `grad_codec`.
    """
    plain = functools.partial(lax.ppermute, axis_name=axis_name, perm=perm)
    sender_codecs = None if sender_codec is None else stopped((sender_codec,))

    def line(codecs: Codecs, xs: Arrays) -> tuple[Arrays, Sent]:
        return deliver(codecs, xs, axis_name, plain, senders=False, sender_codecs=sender_codecs)

    def back(cotangents: Arrays, codec: Codec) -> Arrays:
        return ppermute(cotangents, axis_name, [(target, source) for source, target in perm], codec=codec)

    return coded(
        "ppermute",
        x,
        axis_name,
        codec,
        plain=plain,
        line=line,
        back=back,
        grad_codec=grad_codec,
        return_sent=return_sent,
    )


def all_to_all(
    x: Any,
    axis_name: AxisName,
    split_axis: int,
    concat_axis: int,
    *,
    axis_index_groups: Groups = None,
    tiled: bool = False,
    codec: Any = None,
    grad_codec: Codec | str | None = None,
    return_sent: bool = False,
) -> Any:
    """Return `lax.all_to_all(codec.quantize(x), axis_name, split_axis, concat_axis)`, sent as spikes.

    Args:
      x: pytree of float arrays, on each device its own.
      axis_name: mesh axis, or a tuple of them.
      split_axis: the dimension whose parts are scattered, as in `lax.all_to_all`.
      concat_axis: where what arrives is joined, as in `lax.all_to_all`.
      axis_index_groups: as in `lax.all_to_all`.
      tiled: as in `lax.all_to_all`.
      codec: as in `all_gather`; there is one payload per part.
      grad_codec: how to send the cotangent (the coded `all_to_all` back); `None` sends it as it is.
      return_sent: whether to return `(result, Sent)`, for a single array.

    Raises:
      UsageError: if an array is not of a float dtype, its dimension cannot be scattered evenly, the wire may be too
        small for a part, or forward-mode differentiation meets a `grad_codec`.
    """
    plain = functools.partial(
        lax.all_to_all,
        axis_name=axis_name,
        split_axis=split_axis,
        concat_axis=concat_axis,
        axis_index_groups=axis_index_groups,
        tiled=tiled,
    )

    def line(codecs: Codecs, xs: Arrays) -> tuple[Arrays, Sent]:
        parts = along("all_to_all", split_axis, axis_name, axis_index_groups, tiled)
        rows, sent = deliver(codecs, xs, axis_name, to_each(axis_name, axis_index_groups), parts=parts)
        return tuple(join("all_to_all", row, concat_axis, tiled) for row in rows), sent

    def back(cotangents: Arrays, codec: Codec) -> Arrays:
        axes, groups = (concat_axis, split_axis), axis_index_groups
        return all_to_all(cotangents, axis_name, *axes, axis_index_groups=groups, tiled=tiled, codec=codec)

    return coded(
        "all_to_all",
        x,
        axis_name,
        codec,
        plain=plain,
        line=line,
        back=back,
        grad_codec=grad_codec,
        return_sent=return_sent,
    )
