"""What all coded collectives share: how they are differentiated, for each array of a pytree.

Law: the value is what `wire` gives, the gradient that of `plain(codecs[0].quantize(x))`.

A `custom_jvp` sends the packed spikes, and its tangent is the plain collective of the quantised tangent, which JAX
transposes by itself. With `grad_codec` a `custom_vjp` sends the cotangent through the transposed coded collective.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from snap_jax._compat import as_varying
from snap_jax.codecs.codec import Codec, require_float
from snap_jax.collectives.reverse_only import reverse_only
from snap_jax.collectives.scale_exchange import AxisName, axes_of, vary

T = TypeVar("T")
Groups = Sequence[Sequence[int]] | None
Codecs = tuple[Any, ...]  # one or two Codec | None
Plain = Callable[[jax.Array], jax.Array]
Wire = Callable[[Codecs, jax.Array], jax.Array]
Back = Callable[[jax.Array, Codec], jax.Array]


def coded(
    name: str,
    tree: T,
    axis_name: AxisName,
    codecs: Codecs,
    *,
    plain: Plain,
    wire: Wire,
    back: Back | None = None,
    grad_codec: Codec | None = None,
) -> T:
    """`wire(codecs, x)` for each array `x` of `tree`, with the gradient of `plain` after quantising.

    Args:
      name: of the collective, for errors and for paths in traces.
      tree: pytree of float arrays.
      axis_name: mesh axis, or a tuple of them.
      codecs: of `x` first; `None` there means that only the cotangent is coded.
      plain: the collective of `lax`.
      wire: the same, sent as spikes.
      back: the collective that takes the cotangent home, given a codec; `None` where it does not travel.
      grad_codec: for `back`; `None` sends the cotangent as it is.

    Raises:
      UsageError: if an array is not of a float dtype, or forward-mode differentiation meets a `grad_codec`.
    """

    def one(x: jax.Array) -> jax.Array:
        require_float(name, x)
        x = as_varying(x, axes_of(axis_name))
        if grad_codec is None or back is None:
            return _with_plain_tangent(plain, wire)(codecs, x)
        send = _with_coded_cotangent(plain, wire, back)
        return send(vary(codecs[0], axis_name), codecs, grad_codec, reverse_only(x, name))

    with jax.named_scope(f"snap.{name}"):
        return jax.tree.map(one, tree)


def _with_plain_tangent(plain: Plain, wire: Wire) -> Callable:
    @jax.custom_jvp
    def send(codecs: Codecs, x: jax.Array) -> jax.Array:
        return wire(codecs, x)

    @send.defjvp
    def _(primals, tangents):
        (codecs, x), (dcodecs, dx) = primals, tangents
        _, dq = jax.jvp(_quantize, (codecs[0], x), (dcodecs[0], dx))
        return send(codecs, x), plain(dq)

    return send


def _with_coded_cotangent(plain: Plain, wire: Wire, back: Back) -> Callable:
    """`local` is the codec typed varying: JAX sums its cotangent over the axis where it was made so."""

    @jax.custom_vjp
    def send(local: Codec | None, codecs: Codecs, grad_codec: Codec, x: jax.Array) -> jax.Array:
        return plain(x) if local is None else wire(codecs, x)

    def forward(local, codecs, grad_codec, x):
        return send(local, codecs, grad_codec, x), (local, codecs, grad_codec, x)

    def backward(saved, cotangent):
        local, codecs, grad_codec, x = saved
        _, pull = jax.vjp(_quantize, local, x)
        dlocal, dx = pull(back(cotangent, grad_codec))
        return dlocal, *jax.tree.map(jnp.zeros_like, (codecs, grad_codec)), dx

    send.defvjp(forward, backward)
    return send


def _quantize(codec: Codec | None, x: jax.Array) -> jax.Array:
    return x if codec is None else codec.quantize(x)
