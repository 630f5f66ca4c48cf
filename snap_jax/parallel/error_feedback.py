"""Error feedback: the part of a gradient that its spikes did not express is kept, and added to the next gradient.

Invariant: the sum of all updates is the sum of all mean gradients, except for the last residual,
`sum_t sent_t = mean over devices of (sum_t g_t - residual_T)`.

State is explicit: pytrees that vary over the mesh axis, which `lax.scan` carries and checkpoints hold.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, PyTree

from snap_jax._compat import as_varying, is_mesh_axis, varying_axes
from snap_jax.codecs import payload
from snap_jax.codecs.codec import Codec
from snap_jax.codecs.link_spec import as_codec
from snap_jax.codecs.payload import as_bytes
from snap_jax.collectives import all_gather, pmean
from snap_jax.collectives.scale_exchange import AxisName, axes_of, gather_to_all
from snap_jax.encodings import saturate
from snap_jax.errors import UsageError

Sizes = Callable[[Array, AxisName], Array]
"""`u` and mesh axes -> what a threshold is relative to: a scalar, or one number for each place of the last axis."""
CodecsOf = Callable[[list[Array]], list[Codec]]


class ErrorFeedbackState(NamedTuple):
    """The state of `error_feedback`.

    Attributes:
      residual: for each parameter what this device has not sent yet, f32, with a new first axis for the device. Inside
        `shard_map` its size is 1; outside, with `ErrorFeedbackState(P(axis))` as spec, it is one row per device.
    """

    residual: PyTree


def error_feedback(
    codec: Codec | str, axis_name: AxisName, *, relative: bool = True, sizes: Sizes | None = None
) -> optax.GradientTransformation:
    """Average gradients over a mesh axis, sent as spikes; a residual on each device keeps what its spikes left over.

    `u = g + residual`, `update = pmean(quantize(u))`, `residual' = u - quantize(u)` (Seide et al. 2014; Karimireddy et
    al. 2019, arXiv:1901.09847). A gradient that is NaN or infinite on any device gives NaN on all, and leaves all
    residuals of this parameter as they were: `optax.apply_if_finite` after it skips that step on all devices.

    Spikes that add up are summed as integers (`pmean`). Where each device has a step of its own (`int4:block32`), or
    sends the largest numbers only (`topk:0.01`, chosen among all parameters together), every device gets the payloads
    of all others (`all_gather`) and averages what they stand for: `n / 2` times the bytes of a sum at equal payloads.

    `init` and `update` belong inside `shard_map`; gradients must still vary over the axis, so take them with respect to
    `lax.pcast(params, axis_name, to="varying")`; JAX sums others before.

    Args:
      codec: how to send them, e.g. `"ternary"` or `"topk:0.01"`.
      axis_name: mesh axis, or a tuple of them.
      relative: the codec's threshold, if it has one, is relative to `pmean(mean|u|)` of each parameter array, so it
        needs no tuning. Each device sends its mean to all others, 4 bytes per array. For a Gaussian `u`, the best is
        1.53 for `Ternary` and 0.82 for `Count(3)` (Max 1960: 1.224 and 0.651 standard deviations). Without it, the
        threshold is absolute.
      sizes: what it is relative to instead, where one array holds several parameters.

    Raises:
      UsageError: for `fp32`, gradients that do not vary over the axis, or if there is no such axis.

    >>> error_feedback("fp32", "data")
    Traceback (most recent call last):
    snap_jax.errors.UsageError: error_feedback: fp32 sends everything, nothing is left over: use jax.lax.pmean
    """
    coder = _required(as_codec(codec))
    bounded = relative and coder.encoding.threshold is not None and coder.encoding.summable

    def codecs_of(arrays: list[Array]) -> list[Codec]:
        if not relative or coder.encoding.threshold is None:
            return [coder for _ in arrays]
        count = lax.axis_size(axis_name) if bounded else 1
        return jax.tree.map(lambda size: _in_sizes(coder, size, count), _all_sizes(arrays, axis_name, sizes))

    def init(params: PyTree) -> ErrorFeedbackState:
        _require_axis(axis_name)
        return ErrorFeedbackState(jax.tree.map(lambda p: _zeros(p, axes_of(axis_name))[None], params))

    def update(updates: PyTree, state: Any, params: PyTree | None = None) -> tuple[PyTree, ErrorFeedbackState]:
        _require_axis(axis_name)
        jax.tree.map(lambda g: _require_varying(g, axis_name), updates)
        gradients, structure = jax.tree.flatten(updates)
        residuals, pairs = structure.flatten_up_to(state.residual), [(g, g) for g in gradients]
        for places in _varying_alike(gradients):
            mine = [gradients[i] for i in places], [residuals[i] for i in places]
            means, kept = _exchange(coder, codecs_of, axis_name, *mine, all_or_none=bounded)
            for i, mean, rest in zip(places, means, kept, strict=True):
                pairs[i] = mean, rest
        means, kept = ([pair[side] for pair in pairs] for side in (0, 1))
        return structure.unflatten(means), ErrorFeedbackState(structure.unflatten(kept))

    return optax.GradientTransformation(init, update)


def _exchange(
    coder: Codec,
    codecs_of: CodecsOf,
    axis_name: AxisName,
    updates: list[Array],
    residuals: list[Array],
    *,
    all_or_none: bool,
) -> tuple[list[Array], list[Array]]:
    """The means over devices of updates and residuals that travel in one message, and the next residuals.

    With `all_or_none` a mean whose first number is finite is finite, so that the rest need not be read for that.
    """
    sums = jax.tree.map(lambda g, residual: g.astype(jnp.float32) + residual[0], updates, residuals)
    shapes, sparse = tuple(u.shape for u in sums), not coder.wire.holds(1.0)
    arrays = [payload.join(tuple(sums))] if sparse else sums
    codecs = codecs_of(arrays)
    means, sent = _mean(arrays, axis_name, codecs), [c.quantize(u) for c, u in zip(codecs, arrays, strict=True)]
    if sparse:
        means, sent = (payload.split(one, shapes) for (one,) in (means, sent))
    finite = [jnp.isfinite(mean.reshape(-1)[:1] if all_or_none else mean).all() for mean in means]

    def keep(finite: Array, u: Array, sent: Array, residual: Array) -> Array:
        # A selection element by element would read everything again once the mean is there.
        return lax.cond(finite, lambda new, old: new, lambda new, old: old, u - sent, residual[0])[None]

    kept = [keep(*each) for each in zip(finite, sums, sent, residuals, strict=True)]
    # What is finite in f32 needs no limit there.
    fits = [all_or_none and g.dtype == jnp.float32 for g in updates]
    limited = [mean if fit else saturate(mean, g.dtype) for mean, g, fit in zip(means, updates, fits, strict=True)]
    return limited, kept


def _varying_alike(arrays: list[Array]) -> list[list[int]]:
    """The places of arrays that vary over the same mesh axes: these travel in one message."""
    found: dict[frozenset[str], list[int]] = {}
    for place, array in enumerate(arrays):
        found.setdefault(varying_axes(array), []).append(place)
    return list(found.values())


def _all_sizes(tree: PyTree, axis_name: AxisName, sizes: Sizes | None) -> PyTree:
    return mean_size(tree, axis_name) if sizes is None else jax.tree.map(lambda u: sizes(u, axis_name), tree)


def mean_size(tree: PyTree, axis_name: AxisName) -> PyTree:
    """Return the mean of |u| over all devices, for each array u of a pytree; sent together, 4 bytes per array."""
    leaves, structure = jax.tree.flatten(tree)
    if not leaves:
        return tree
    here = [as_bytes(jnp.abs(u).sum() / max(u.size, 1)) for u in leaves]
    rows = gather_to_all(jnp.concatenate(here), axis_name)
    sizes = lax.bitcast_convert_type(rows.reshape(len(rows), len(leaves), 4), jnp.float32).mean(0)
    return jax.tree.unflatten(structure, list(sizes))


def _mean(arrays: list[Array], axis_name: AxisName, codecs: list[Codec]) -> list[Array]:
    """The mean over devices of the quantized arrays, from integer sums if spikes add up, else from all payloads."""
    if all(codec.encoding.summable for codec in codecs):
        return pmean(arrays, axis_name, codec=codecs)
    to = "invarying" if is_mesh_axis(axes_of(axis_name)) else "varying"
    return [rows.mean(0) for rows in all_gather(arrays, axis_name, codec=codecs, to=to)]


def _required(codec: Codec | None) -> Codec:
    if codec is None:
        raise UsageError("error_feedback: fp32 sends everything, nothing is left over: use jax.lax.pmean")
    return codec


def _in_sizes(codec: Codec, size: Array, count: int) -> Codec:
    """The codec with a threshold relative to `size`; NaN if `count` times the largest spike would be infinite.

    Then the mean is NaN everywhere, as where a number was not finite.
    """
    encoding = codec.encoding.with_threshold(jnp.maximum(codec.encoding.threshold * size, jnp.finfo(jnp.float32).tiny))
    largest = jnp.float32(count * max(abs(encoding.symbols[0]), abs(encoding.symbols[-1]))) * encoding.threshold
    threshold = jnp.where(jnp.isfinite(largest), encoding.threshold, jnp.nan)
    return dataclasses.replace(codec, encoding=encoding.with_threshold(threshold))


def _require_axis(axis_name: AxisName) -> None:
    try:
        lax.axis_size(axis_name)
    except NameError as error:
        raise UsageError(f"error_feedback: no mesh axis {axis_name!r} here: call it inside shard_map") from error


def _require_varying(gradient: Array, axis_name: AxisName) -> None:
    if missing := set(axes_of(axis_name)) - varying_axes(gradient):
        raise UsageError(
            f"error_feedback: a gradient of shape {gradient.shape} is the same on all devices of {sorted(missing)}, so "
            f"JAX has summed it already: take it with respect to lax.pcast(params, {axis_name!r}, to='varying')"
        )


def _zeros(like: Array | jax.ShapeDtypeStruct, axes: tuple[str, ...]) -> Array:
    """Zeros of its shape, f32, varying over the same mesh axes and those given."""
    return as_varying(jnp.zeros(like.shape, jnp.float32), (*axes, *sorted(varying_axes(like) - set(axes))))
