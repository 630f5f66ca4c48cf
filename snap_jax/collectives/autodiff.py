"""What all coded collectives share: one message per codec, and how it is differentiated.

Invariant: the value is what the message delivers, the gradient that of `plain(codec.quantize(x))`.

The message is sent without any gradient. A `custom_jvp` attaches to its result the plain collective of the quantized
tangent, which JAX transposes by itself. With `grad_codec` a `custom_vjp` sends the cotangent through the transposed
coded collective instead.

To add a collective that moves whole arrays, say how `lax` moves an array and how bytes move:

    def pshuffle(x, axis_name, perm, *, codec=None):
        plain = functools.partial(lax.pshuffle, axis_name=axis_name, perm=perm)

        def line(codecs, xs):
            return deliver(codecs, xs, axis_name, plain, senders=False)

        return coded("pshuffle", x, axis_name, codec, plain=plain, line=line)
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from snap_jax._compat import as_varying
from snap_jax.codecs.codec import Codec, check_input, check_sizes
from snap_jax.codecs.link_spec import as_codec
from snap_jax.collectives.hierarchical import codec_of_all_axes
from snap_jax.collectives.message import Sent
from snap_jax.collectives.pytree_messages import messages
from snap_jax.collectives.reverse_only import reverse_only
from snap_jax.collectives.scale_exchange import AxisName, Codecs, axes_of, is_per_axis, stopped, vary
from snap_jax.encodings import Encoding
from snap_jax.errors import UsageError

MaybeCodecs = tuple[Codec | None, ...]  # as `Codecs`
Arrays = tuple[jax.Array, ...]
Plain = Callable[[Any], Any]
Line = Callable[[Codecs, Arrays], tuple[Arrays, Sent]]
Back = Callable[[Arrays, Codec], Arrays]
Finish = Callable[[Arrays, Sent], Arrays]


def coded(
    name: str,
    tree: Any,
    axis_name: AxisName,
    codec: Any,
    *,
    plain: Plain,
    line: Line,
    back: Back | None = None,
    grad_codec: Codec | str | None = None,
    return_sent: bool = False,
    finish: Finish | None = None,
) -> Any:
    """Return `plain` of the quantized arrays of `tree`, sent by `line`: one message for arrays that share a codec.

    Args:
      name: of the collective, for errors and for paths in traces.
      tree: pytree of float arrays.
      axis_name: mesh axis, or a tuple of them.
      codec: how to send the arrays: a `Codec`, words for one such as "count:3+rans", `None` for as they are, or a
        pytree of these with one per array.
      plain: the collective of `lax`, of a pytree.
      line: sends a tuple of arrays with their codecs, one for all or one per array; returns what arrived, in the
        dtypes of the arrays or in f32, and what was sent.
      back: the collective that sends cotangents back, given a codec; `None` if they do not travel.
      grad_codec: for `back`; `None` sends cotangents as they are.
      return_sent: whether to return `(result, Sent)`, for a single array; `Sent` is `None` where nothing was coded.
      finish: what adds gradients of its own to the results of a message, given what was sent.

    Raises:
      UsageError: if an array is not of a float dtype, `return_sent` is asked for several arrays, or forward-mode
        differentiation meets a `grad_codec`; if a codec per mesh axis is not the same for all of `axis_name`.
    """
    if is_per_axis(codec, axis_name, tree):
        codec = codec_of_all_axes(name, codec, axis_name)
    arrays, structure = jax.tree.flatten(tree)
    one = codec is None or isinstance(codec, Codec | Encoding | str)  # no encoding will do: `as_codec` says so
    codecs = [as_codec(c) for c in ([codec] * len(arrays) if one else structure.flatten_up_to(codec))]
    grad_codec = as_codec(grad_codec) if back is not None else None
    if return_sent and len(arrays) != 1:
        raise UsageError(f"{name}: return_sent=True needs a single array, got {len(arrays)}: call it for each array")
    if not axes_of(axis_name):
        tree = jax.tree.unflatten(structure, _quantize(tuple(codecs), tuple(map(jnp.asarray, arrays))))
    if not axes_of(axis_name) or (grad_codec is None and not any(codecs)):  # nothing is sent, or nothing coded
        return (plain(tree), None) if return_sent else plain(tree)

    results, sent = list(arrays), None
    with jax.named_scope(f"snap.{name}"):
        for places in messages(codecs, arrays):
            group = tuple(codecs[i] for i in places[: 1 if one else None])
            xs = tuple(arrays[i] for i in places)
            if group[0] is not None or grad_codec is not None:
                xs = tuple(_checked(name, codecs[i], arrays[i], axis_name) for i in places)
            ys, sent = _send(name, group, xs, axis_name, plain, line, back, grad_codec)
            ys = ys if finish is None or sent is None else finish(ys, sent)
            for place, y in zip(places, ys, strict=True):
                results[place] = y
    result = jax.tree.unflatten(structure, results)
    return (result, sent and Sent(sent.spikes[0], sent.rung)) if return_sent else result


def _checked(name: str, codec: Codec | None, x: Any, axis_name: AxisName) -> jax.Array:
    x = jnp.asarray(x)
    check_input(name, codec, x)
    check_sizes(name, x)
    return as_varying(x, axes_of(axis_name))


def _send(
    name: str,
    codecs: MaybeCodecs,
    xs: Arrays,
    axis_name: AxisName,
    plain: Plain,
    line: Line,
    back: Back | None,
    grad_codec: Codec | None,
) -> tuple[Arrays, Sent | None]:
    if codecs[0] is None and grad_codec is None:
        return plain(xs), None
    values = lax.stop_gradient(xs)
    ys, sent = (plain(values), None) if codecs[0] is None else line(stopped(tuple(filter(None, codecs))), values)
    ys = tuple(y.astype(x.dtype) for x, y in zip(xs, ys, strict=True))
    if grad_codec is None or back is None:
        return _with_plain_tangent(plain, ys, codecs, xs), sent
    xs = tuple(reverse_only(x, name) for x in xs)
    return _with_coded_cotangent(back, ys, vary(codecs, axis_name), grad_codec, xs), sent


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _with_plain_tangent(plain: Plain, ys: Arrays, codecs: MaybeCodecs, xs: Arrays) -> Arrays:
    return ys


@_with_plain_tangent.defjvp
def _with_plain_tangent_jvp(plain, primals, tangents):
    (ys, codecs, xs), (_, dcodecs, dxs) = primals, tangents
    _, dqs = jax.jvp(_quantize, (codecs, xs), (dcodecs, dxs))
    return _with_plain_tangent(plain, ys, codecs, xs), plain(dqs)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _with_coded_cotangent(back: Back, ys: Arrays, codecs: MaybeCodecs, grad_codec: Codec, xs: Arrays) -> Arrays:
    """`codecs` are typed varying: JAX sums their cotangents over the axis where they were made so."""
    return ys


def _keep(back, ys, codecs, grad_codec, xs):
    return ys, (codecs, grad_codec, xs)


def _send_back(back, saved, cotangents):
    codecs, grad_codec, xs = saved
    _, pull = jax.vjp(_quantize, codecs, xs)
    dcodecs, dxs = pull(back(cotangents, grad_codec))
    return jax.tree.map(jnp.zeros_like, cotangents), dcodecs, jax.tree.map(jnp.zeros_like, grad_codec), dxs


_with_coded_cotangent.defvjp(_keep, _send_back)


def _quantize(codecs: MaybeCodecs, xs: Arrays) -> Arrays:
    return tuple(x if c is None else c.quantize(x) for c, x in zip(codecs * (len(xs) // len(codecs)), xs, strict=True))
