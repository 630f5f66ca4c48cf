"""Sums that are coded again before they go to all: fewer bytes, one more rounding, any encoding.

Invariant: each device quantizes its part of the sum, so all receive the same. `x` gets the gradient of the exact sum;
the learnable arrays of the second codec get that of its `quantize`.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import Tracer
from jax.custom_derivatives import SymbolicZero

from snap_jax._compat import tracks_varying
from snap_jax.codecs.codec import Codec
from snap_jax.collectives.autodiff import Arrays, Finish
from snap_jax.collectives.message import Message, Rows, Sent, deliver, fire
from snap_jax.collectives.parts import Parts, along, flattened, group_size, to_each, unflatten
from snap_jax.collectives.scale_exchange import AxisName, Codecs, agree, axes_of, gather_to_all, part_of, vary
from snap_jax.collectives.shards import refuse_other_axes


def sum_decoded(codecs: Codecs, recoder: Codec, xs: Arrays, axis_name: AxisName) -> tuple[Arrays, Sent]:
    """Return sums of decoded spikes, coded again, and what was sent first; NaN everywhere if the recoders disagree."""
    refuse_other_axes("sum_codec=")
    (recoder,), agreed = agree((recoder,), axis_name)
    parts = flattened(axis_name)
    rows, sent = deliver(codecs, xs, axis_name, to_each(axis_name, None), parts=_first_parts(xs, axis_name))
    sums = tuple(
        jnp.where(agreed, row.sum(0).astype(x.dtype).reshape(-1), jnp.nan) for row, x in zip(rows, xs, strict=True)
    )

    def recoders(index: jax.Array) -> Codecs:
        return tuple(part_of(recoder, parts.take(index, x.shape)) for x in xs)

    second = Message(recoders(parts.mine), tuple(s.shape for s in sums), axis_name, known=True)
    rows, rung = second.send(fire(second.codecs, sums), functools.partial(gather_to_all, axis_name=axis_name))

    def value(index: jax.Array, row: Rows) -> Arrays:
        return second.value(recoders(index), second.read(row, rung)[0])

    totals = jax.vmap(value)(jnp.arange(lax.axis_size(axis_name)), rows)
    return tuple(unflatten(total, x.shape) for total, x in zip(totals, xs, strict=True)), sent._replace(sums=sums)


def _first_parts(xs: Arrays, axis_name: AxisName) -> Parts:
    """Equal parts of the flattened arrays; as rows where these come out even, so that a part has its own steps only."""
    even = all(x.ndim and x.shape[0] % group_size(axis_name, None) == 0 for x in xs)
    return along("psum", 0, axis_name, None, tiled=True) if even else flattened(axis_name)


def sum_codec_gradient(recoder: Codec | None, axis_name: AxisName, mean: bool = False) -> Finish | None:
    """Return what attaches the gradient of the recoder's arrays to a sum or mean; `None` if it has none."""
    if recoder is None or not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(recoder)):
        return None
    return lambda ys, sent: _with_recoder(axis_name, group_size(axis_name, None) if mean else 1, ys, recoder, sent.sums)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _with_recoder(axis_name: AxisName, over: int, ys: Arrays, recoder: Codec, sums: Arrays) -> Arrays:
    return ys


@functools.partial(_with_recoder.defjvp, symbolic_zeros=True)
def _with_recoder_jvp(axis_name, over, primals, tangents):
    """Each device differentiates `quantize` of its part; backward, it reads its part of the cotangent."""
    (ys, recoder, sums), (dys, drecoder, _) = primals, tangents
    changes = jax.tree.leaves(drecoder, is_leaf=lambda leaf: isinstance(leaf, SymbolicZero))
    if all(isinstance(change, SymbolicZero) for change in changes):
        return ys, dys
    filled = [
        jnp.zeros_like(leaf) if isinstance(change, SymbolicZero) else change
        for leaf, change in zip(jax.tree.leaves(recoder), changes, strict=True)
    ]
    parts = flattened(axis_name)

    def quantize(recoder: Codec) -> Arrays:
        recoder, pairs = vary(recoder, axis_name), zip(sums, ys, strict=True)
        return tuple(part_of(recoder, parts.take(parts.mine, y.shape)).quantize(s) for s, y in pairs)

    _, dparts = jax.jvp(quantize, (recoder,), (jax.tree.unflatten(jax.tree.structure(recoder), filled),))
    more = [unflatten(_gather(part, axis_name) / over, y.shape) for part, y in zip(dparts, ys, strict=True)]
    return ys, tuple(m if isinstance(dy, SymbolicZero) else dy + m for dy, m in zip(dys, more, strict=True))


def _gather(part: jax.Array, axis_name: AxisName) -> jax.Array:
    """The tangents of all parts; where types do not say that a cotangent is the same everywhere, it is summed."""
    tracked = tracks_varying(axes_of(axis_name))
    return gather_to_all(part, axis_name) if tracked else lax.all_gather(part, axis_name)
