"""Collectives: `jax.lax` with one more keyword; what crosses between devices is spikes.

Law 1: `codec=None` gives the very jaxpr of `lax`.
Law 2: `C(x, axis, codec=c)` equals `lax.C(c.quantize(x), axis)`, in value and in the gradient with respect to `x` and
to every threshold; bit-equal where data only moves, equal to float rounding where it is summed.
Law 5: a NaN or an infinity in the input comes out as NaN at every receiver.
Law 7: the cotangent travels dense unless `grad_codec=` is given.

How: a `custom_jvp` sends the packed spikes, and its tangent is the plain collective of the quantised tangent, which
JAX transposes by itself. With `grad_codec` a `custom_vjp` sends the cotangent through the transposed coded collective.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from snap_jax._jax import as_varying
from snap_jax.codecs import FINITE, Codec, judge, require_float, seal
from snap_jax.encodings import Side, all_finite, saturate
from snap_jax.errors import UsageError
from snap_jax.rungs import agreed_rung, ship
from snap_jax.thresholds import AxisName, agree, axes_of, cut, luggage, restrict, unpack_luggage, vary
from snap_jax.wires import Packed

T = TypeVar("T")
Groups = Sequence[Sequence[int]] | None
Codecs = tuple[Any, ...]  # one or two Codec | None
Reshape = Callable[[jax.Array], jax.Array]


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
      UsageError: if an array is not of a float dtype.
    """
    plain = functools.partial(
        lax.all_gather,
        axis_name=axis_name,
        axis_index_groups=axis_index_groups,
        axis=axis,
        tiled=tiled,
        to=to,
    )
    if codec is None and grad_codec is None:
        return plain(x)

    def wire(codecs: Codecs, x: jax.Array) -> jax.Array:
        def move(payload: jax.Array) -> jax.Array:
            return lax.all_gather(payload, axis_name, axis_index_groups=axis_index_groups, to=to)

        rung = agreed_rung(codecs[0], codecs[0].spikes(x), axis_name)
        payload = ship(codecs[0], x.size, _post(codecs[0], x, rung, axis_name), rung, move)
        parts = jax.vmap(lambda p: _receive(codecs[0], p, x, rung, axis_name))(payload)
        return _join(parts, axis) if tiled else jnp.moveaxis(parts, 0, axis)

    def back(cotangent: jax.Array, codec: Codec) -> jax.Array:
        return psum_scatter(
            cotangent,
            axis_name,
            axis_index_groups=axis_index_groups,
            scatter_dimension=axis,
            tiled=tiled,
            codec=codec,
        )

    grad_codec = None if to == "invarying" else grad_codec
    return _coded("all_gather", plain, wire, back, x, axis_name, (codec,), grad_codec)


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
      UsageError: if an array is not of a float dtype.
    """
    plain = functools.partial(lax.ppermute, axis_name=axis_name, perm=perm)
    if codec is None and grad_codec is None:
        return plain(x)

    def wire(codecs: Codecs, x: jax.Array) -> jax.Array:
        def move(payload: jax.Array) -> jax.Array:
            return lax.ppermute(payload, axis_name, perm)

        rung = agreed_rung(codecs[0], codecs[0].spikes(x), axis_name)
        if codecs[1] is None:
            payload = ship(codecs[0], x.size, _post(codecs[0], x, rung, axis_name), rung, move)
            return _receive(codecs[0], payload, x, rung, axis_name)
        payload = ship(codecs[0], x.size, codecs[0].encode(x, rung), rung, move)
        return codecs[1].decode(payload, shape=x.shape, dtype=x.dtype, rung=rung)

    def back(cotangent: jax.Array, codec: Codec) -> jax.Array:
        return ppermute(cotangent, axis_name, [(target, source) for source, target in perm], codec=codec)

    return _coded("ppermute", plain, wire, back, x, axis_name, (codec, sender), grad_codec)


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
      UsageError: if an array is not of a float dtype, or its dimension cannot be dealt out evenly.
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
    group = _group_size(axis_name, axis_index_groups)

    def deal(y: jax.Array) -> jax.Array:
        return _deal(y, scatter_dimension, group, tiled)

    def wire(codecs: Codecs, x: jax.Array) -> jax.Array:
        part = jax.eval_shape(deal, x).shape[1:]
        own = codecs[0].encoding.side_parts(x.shape, scatter_dimension % x.ndim, part)
        return _sum_parts(codecs[0], x, deal, axis_name, axis_index_groups, own)

    def back(cotangent: jax.Array, codec: Codec) -> jax.Array:
        return all_gather(
            cotangent,
            axis_name,
            axis_index_groups=axis_index_groups,
            axis=scatter_dimension,
            tiled=tiled,
            codec=codec,
        )

    return _coded("psum_scatter", plain, wire, back, x, axis_name, (codec,), grad_codec)


def _sum_parts(codec: Codec, x: jax.Array, deal: Reshape, axis_name: AxisName, groups: Groups, own: bool) -> jax.Array:
    """The sum of what everybody sends of my part of `x`; `own`: a part comes with its part of the side, not all."""
    arrived, rung = _exchange(codec, x, deal, axis_name, groups, own)
    mine, shape = _index_in_group(axis_name, groups), jax.eval_shape(deal, x).shape[1:]
    whole = shape if own else x.shape

    def read(sealed: jax.Array) -> jax.Array:
        sender, payload = unpack_luggage(codec, sealed, axis_name)
        spikes, side, header = sender.open(payload, shape, rung, whole)
        side = sender.encoding.spread(side, whole)
        side = side if own else tuple(jnp.asarray(cut(leaf, x.shape, deal, mine)) for leaf in side)
        return judge(restrict(sender, x.shape, deal, mine).encoding.value(spikes, side), header)

    return saturate(jax.vmap(read)(arrived).sum(0), x.dtype)


def psum(
    x: T,
    axis_name: AxisName,
    *,
    axis_index_groups: Groups = None,
    codec: Codec | None = None,
    recode: Codec | None = None,
) -> T:
    """`lax.psum(codec.quantize(x), axis_name)`, sent as spikes in two shots.

    First every device receives its 1/n of everybody's spikes (`all_to_all`) and adds them as integers; then the sums
    go to all (`all_gather`), packed in just enough bits, `ceil(log2(n (levels - 1) + 1))`. Nothing is lost in the sum.
    There is no `grad_codec`: the cotangent of a sum is on every device already, nothing travels.

    Args:
      x: pytree of float arrays, on each device its own.
      axis_name: mesh axis, or a tuple of them.
      axis_index_groups: only `None` can be coded.
      codec: how to send `x`; its threshold must be the same on all devices, or the sum is NaN. `None` sends `x` as is.
      recode: codes the sums again for the second shot, each 1/n of the flattened sum by itself: fewer bytes, lossy;
        its gradient is straight-through.

    Raises:
      UsageError: if spikes of different devices do not add up (absmax steps, float bits) and there is no `recode`, if
        an array is not of a float dtype, or if `axis_index_groups` is given.
    """
    plain = functools.partial(lax.psum, axis_name=axis_name, axis_index_groups=axis_index_groups)
    if codec is None and recode is None:
        return plain(x)
    if axis_index_groups is not None:
        raise UsageError("psum: axis_index_groups cannot be coded: split the mesh axis in two instead")
    if codec is None:
        raise UsageError("psum: recode= needs a codec= for the first shot: give one")
    if recode is None and not codec.encoding.summable:
        raise UsageError(
            f"psum: spikes of {type(codec.encoding).__name__} do not add up, only decoded ones do: "
            "give recode=, or an encoding that is summable"
        )

    def wire(codecs: Codecs, x: jax.Array) -> jax.Array:
        return _two_shot(codecs[0], codecs[1], x, axis_name)

    return _coded("psum", plain, wire, None, x, axis_name, (codec, recode), None)


def _two_shot(codec: Codec, recode: Codec | None, x: jax.Array, axis_name: AxisName) -> jax.Array:
    """All-to-all of spikes, a sum on each device of its part (1/n of the flattened tensor), all-gather of the sums."""
    group = _group_size(axis_name, None)
    part = math.ceil(x.size / group)

    def deal(y: jax.Array) -> jax.Array:
        return jnp.pad(y.reshape(-1), (0, group * part - y.size)).reshape(group, part)

    def join(parts: jax.Array) -> jax.Array:
        return parts.reshape(-1)[: x.size].reshape(x.shape)

    if recode is None:
        return _sum_spikes(codec, x, deal, join, axis_name)
    return join(_sum_decoded(codec, recode, x, deal, axis_name))


def _sum_spikes(codec: Codec, x: jax.Array, deal: Reshape, join: Reshape, axis_name: AxisName) -> jax.Array:
    """The exact second shot: integer sums in just enough bits, decoded at the very end."""
    codec, agreed = agree(codec, axis_name)
    group, part = jax.eval_shape(deal, x).shape
    arrived, rung = _exchange(codec, x, deal, axis_name, None)
    spikes, _, headers = jax.vmap(lambda row: codec.open(row, (part,), rung))(arrived)
    known = codec.encoding.symbols
    sums = range(group * known.start, group * (known.stop - 1) + 1)
    packed = Packed().pack(spikes.sum(0, dtype=jnp.int32), sums)
    rows = lax.all_gather(seal(packed, (), jnp.all(headers == FINITE) & agreed), axis_name, to="invarying")
    total = join(jax.vmap(lambda row: Packed().unpack(row[:-1], (part,), sums))(rows))
    return judge(saturate(codec.encoding.value(total), x.dtype), rows[:, -1].max())


def _sum_decoded(codec: Codec, recode: Codec, x: jax.Array, deal: Reshape, axis_name: AxisName) -> jax.Array:
    """The lossy second shot: sums of decoded spikes, coded again; NaN everywhere if the recoders disagree."""
    recode, agreed = agree(recode, axis_name)
    sums = _sum_parts(codec, x, deal, axis_name, None, own=False)
    mine = restrict(recode, x.shape, deal, lax.axis_index(axis_name))
    rung = agreed_rung(mine, mine.spikes(sums), axis_name)

    def move(payload: jax.Array) -> jax.Array:
        return lax.all_gather(payload, axis_name, to="invarying")

    rows = ship(mine, sums.size, mine.encode(jnp.where(agreed, sums, jnp.nan), rung), rung, move)

    def read(j: jax.Array, row: jax.Array) -> jax.Array:
        return restrict(recode, x.shape, deal, j).decode(row, shape=sums.shape, dtype=x.dtype, rung=rung)

    return jax.vmap(read)(jnp.arange(rows.shape[0]), rows)


def _coded(
    name: str,
    plain: Callable[[jax.Array], jax.Array],
    wire: Callable[[Codecs, jax.Array], jax.Array],
    back: Callable[[jax.Array, Codec], jax.Array] | None,
    tree: T,
    axis_name: AxisName,
    codecs: Codecs,
    grad_codec: Codec | None,
) -> T:
    """`wire` with the gradient of `plain(codecs[0].quantize(x))`, for each array of a pytree."""

    def one(x: jax.Array) -> jax.Array:
        require_float(name, x)
        x = as_varying(x, axes_of(axis_name))
        if grad_codec is None or back is None:
            return _with_plain_tangent(plain, wire)(codecs, x)
        return _with_coded_cotangent(plain, wire, back)(vary(codecs[0], axis_name), codecs, grad_codec, x)

    with jax.named_scope(f"snap.{name}"):
        return jax.tree.map(one, tree)


def _with_plain_tangent(plain: Callable, wire: Callable) -> Callable:
    @jax.custom_jvp
    def send(codecs: Codecs, x: jax.Array) -> jax.Array:
        return wire(codecs, x)

    @send.defjvp
    def _(primals, tangents):
        (codecs, x), (dcodecs, dx) = primals, tangents
        _, dq = jax.jvp(_quantize, (codecs[0], x), (dcodecs[0], dx))
        return send(codecs, x), plain(dq)

    return send


def _with_coded_cotangent(plain: Callable, wire: Callable, back: Callable) -> Callable:
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


def _post(codec: Codec, x: jax.Array, rung: jax.Array | None, axis_name: AxisName) -> jax.Array:
    """The payload of `x`, with the thresholds that only the sender knows behind it."""
    return jnp.concatenate([codec.encode(x, rung), luggage(codec, axis_name)])


def _receive(
    codec: Codec, sealed: jax.Array, like: jax.Array, rung: jax.Array | None, axis_name: AxisName
) -> jax.Array:
    sender, payload = unpack_luggage(codec, sealed, axis_name)
    return sender.decode(payload, shape=like.shape, dtype=like.dtype, rung=rung)


def _exchange(
    codec: Codec, x: jax.Array, deal: Reshape, axis_name: AxisName, groups: Groups, own: bool = False
) -> tuple[jax.Array, jax.Array | None]:
    """Everybody's payload of my part of `x`, one row a sender, and the rung they took."""
    if not codec.wire.holds(1.0):
        raise UsageError(
            f"psum_scatter, psum: {codec.wire} may be too small for a part of a tensor, which can fire everywhere: "
            f"use Ladder(({codec.wire}, Packed()))"
        )
    side, bags, finite = codec.encoding.fire(x)[1], luggage(codec, axis_name), all_finite(x)
    parts = deal(codec.spikes(x))
    rung = agreed_rung(codec, parts, axis_name, parts=True)

    def post(part: jax.Array, side: Side) -> jax.Array:
        return jnp.concatenate([seal(codec.pack(part, rung), side, finite), bags])

    rows = jax.vmap(post, (0, 0 if own else None))(parts, tuple(map(deal, side)) if own else side)

    def move(rows: jax.Array) -> jax.Array:
        return lax.all_to_all(rows, axis_name, 0, 0, axis_index_groups=groups)

    return ship(codec, parts[0].size, rows, rung, move), rung


def _group_size(axis_name: AxisName, groups: Groups) -> int:
    return len(groups[0]) if groups else lax.axis_size(axis_name)


def _index_in_group(axis_name: AxisName, groups: Groups) -> jax.Array:
    index = lax.axis_index(axis_name)
    if not groups:
        return index
    places = sorted((device, place) for group in groups for place, device in enumerate(group))
    return jnp.asarray([place for _, place in places])[index]


def _join(parts: jax.Array, axis: int) -> jax.Array:
    """Parts stacked along dimension 0, joined along `axis` of each."""
    return jnp.concatenate(list(parts), axis)


def _deal(x: jax.Array, dimension: int, group: int, tiled: bool) -> jax.Array:
    """The `group` parts of `x` along `dimension`, stacked along a new dimension 0; one row each without `tiled`."""
    size = x.shape[dimension]
    if size % group or (not tiled and size != group):
        fix = f"a multiple of {group}" if tiled else f"{group}, or tiled=True"
        raise UsageError(
            f"psum_scatter: dimension {dimension} of shape {x.shape} cannot be dealt to {group}: use {fix}"
        )
    if not tiled:
        return jnp.moveaxis(x, dimension, 0)
    return jnp.stack(jnp.split(x, group, dimension))
