"""What a payload carries beyond `Codec.encode`, and how parts of a tensor are dealt out.

Law: a receiver opens a parcel with the threshold of its sender, cut to the part that came.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from snap_jax.codecs.codec import Codec, judge, seal
from snap_jax.collectives.autodiff import Groups
from snap_jax.collectives.scale_exchange import AxisName, cut, luggage, restrict, unpack_luggage
from snap_jax.collectives.size_agreement import agreed_rung, ship
from snap_jax.encodings import Side, all_finite
from snap_jax.errors import UsageError

Reshape = Callable[[jax.Array], jax.Array]


def post(codec: Codec, x: jax.Array, rung: jax.Array | None, axis_name: AxisName) -> jax.Array:
    """The payload of `x`, with the thresholds that only the sender knows behind it."""
    return jnp.concatenate([codec.encode(x, rung), luggage(codec, axis_name)])


def receive(codec: Codec, sealed: jax.Array, like: jax.Array, rung: jax.Array | None, axis_name: AxisName) -> jax.Array:
    """The tensor that `post` was given, as its sender quantised it."""
    sender, payload = unpack_luggage(codec, sealed, axis_name)
    return sender.decode(payload, shape=like.shape, dtype=like.dtype, rung=rung)


def read_each(read: Callable[[jax.Array], jax.Array], rows: jax.Array, rung: jax.Array | None, size: int) -> jax.Array:
    """`read` of each row, stacked.

    XLA:CPU writes long tensors a fifth faster when a few are decoded one by one; the switch of a ladder compiles too
    long to be there many times.
    """
    if rung is not None or rows.shape[0] > 16 or size < 2**16:
        return jax.vmap(read)(rows)
    return jnp.stack([read(row) for row in rows])


def exchange(
    codec: Codec, x: jax.Array, deal: Reshape, axis_name: AxisName, groups: Groups, own: bool = False
) -> tuple[jax.Array, jax.Array | None]:
    """Everybody's payload of my part of `x`, one row a sender, and the rung they took; `own` as in `arrivals`."""
    _require_room_for_parts(codec)
    side, bags, finite = codec.encoding.fire(x)[1], luggage(codec, axis_name), all_finite(x)
    parts = deal(codec.spikes(x))
    rung = agreed_rung(codec, parts, axis_name, parts=True)

    def post(part: jax.Array, side: Side) -> jax.Array:
        return jnp.concatenate([seal(codec.pack(part, rung), side, finite), bags])

    rows = jax.vmap(post, (0, 0 if own else None))(parts, tuple(map(deal, side)) if own else side)

    def move(rows: jax.Array) -> jax.Array:
        return lax.all_to_all(rows, axis_name, 0, 0, axis_index_groups=groups)

    return ship(codec, parts[0].size, rows, rung, move), rung


def arrivals(
    codec: Codec, x: jax.Array, deal: Reshape, axis_name: AxisName, groups: Groups, dimension: int | None = None
) -> jax.Array:
    """Everybody's part of `x` that was dealt to me, decoded (f32), one row a sender.

    Where `x` is dealt along one `dimension`, a part may come with its own part of the side instead of all of it.
    """
    shape, mine = jax.eval_shape(deal, x).shape[1:], _index_in_group(axis_name, groups)
    own = dimension is not None and codec.encoding.side_parts(x.shape, dimension % x.ndim, shape)
    whole = shape if own else x.shape
    arrived, rung = exchange(codec, x, deal, axis_name, groups, own)

    def read(sealed: jax.Array) -> jax.Array:
        sender, payload = unpack_luggage(codec, sealed, axis_name)
        spikes, side, header = sender.open(payload, shape, rung, whole)
        side = sender.encoding.spread(side, whole)
        side = side if own else tuple(jnp.asarray(cut(leaf, x.shape, deal, mine)) for leaf in side)
        return judge(restrict(sender, x.shape, deal, mine).encoding.value(spikes, side), header)

    return jax.vmap(read)(arrived)


def _require_room_for_parts(codec: Codec) -> None:
    if not codec.wire.holds(1.0):
        raise UsageError(
            f"psum_scatter, psum, all_to_all: {codec.wire} may be too small for a part of a tensor, which can fire "
            f"everywhere: use Ladder(({codec.wire}, Packed()))"
        )


def deal_out(name: str, x: jax.Array, dimension: int, group: int, tiled: bool) -> jax.Array:
    """The `group` parts of `x` along `dimension`, stacked along a new dimension 0; one row each without `tiled`."""
    size = x.shape[dimension]
    if size % group or (not tiled and size != group):
        fix = f"a multiple of {group}" if tiled else f"{group}, or tiled=True"
        raise UsageError(f"{name}: dimension {dimension} of shape {x.shape} cannot be dealt to {group}: use {fix}")
    if not tiled:
        return jnp.moveaxis(x, dimension, 0)
    return jnp.stack(jnp.split(x, group, dimension))


def put_together(parts: jax.Array, axis: int, tiled: bool) -> jax.Array:
    """Parts stacked along dimension 0: joined along `axis` of each if `tiled`, or stacked there."""
    return jnp.concatenate(list(parts), axis) if tiled else jnp.moveaxis(parts, 0, axis)


def group_size(axis_name: AxisName, groups: Groups) -> int:
    """Devices that take part in one group."""
    return len(groups[0]) if groups else lax.axis_size(axis_name)


def _index_in_group(axis_name: AxisName, groups: Groups) -> jax.Array:
    index = lax.axis_index(axis_name)
    if not groups:
        return index
    places = sorted((device, place) for group in groups for place, device in enumerate(group))
    return jnp.asarray([place for _, place in places])[index]
