"""One message: arrays that share a codec, on their way between devices.

    x --fire--> Spikes --agree--> size --write--> bytes --move (lax)--> bytes --read--> Spikes --value--> y

Invariant: spikes are computed once per message, and every receiver decodes an array exactly as its sender quantized it:
`deliver` returns `codec.quantize(x)` of the sender.

All collectives share this line; each adds how parts are scattered and joined. A new collective that moves whole arrays
is one call of `deliver` inside `autodiff.coded`, see there.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt8

from snap_jax.codecs import payload
from snap_jax.codecs.codec import Codec
from snap_jax.codecs.payload import Arrived
from snap_jax.collectives.parts import Parts
from snap_jax.collectives.scale_exchange import AxisName, Codecs, part_of, read_scales, scales
from snap_jax.collectives.shards import other_axes, per_shard, take_arrays
from snap_jax.collectives.size_agreement import agreed_rung, ship
from snap_jax.encodings import Spikes
from snap_jax.encodings.base import in_range
from snap_jax.errors import UsageError
from snap_jax.wires import Shape
from snap_jax.wires.wire_checks import checked_payload

Move = Callable[[Array], Array]
"""A collective of one array of bytes."""


class Sent(NamedTuple):
    """What a collective sent.

    Attributes:
      spikes: the `Spikes` of the array; a tuple of them inside a collective, one per array.
      rung: index of the size that all devices agreed on, in `codec.payload_sizes(shape)`.
      sums: inside a sum that is coded again, this device's part of the sum of each array.
    """

    spikes: Any
    rung: Array
    sums: Any = ()


class Rows(NamedTuple):
    """Payloads as they arrived: one, or one per sender along dimension 0."""

    body: UInt8[Array, "*senders most"]
    tail: UInt8[Array, "*senders tail"]


@dataclasses.dataclass(frozen=True)
class Message:
    """The steps from spikes to spikes.

    Attributes:
      codecs: one for all arrays or one per array, of one structure.
      shapes: of the arrays.
      axis_name: the mesh axes that the message crosses.
      parts: how arrays are cut, one payload per part; `None` sends whole arrays.
      known: whether receivers know all learnable arrays already, so that none travels.
      shards: the shapes of what this device holds of the spikes, where other mesh axes divide them.
    """

    codecs: Codecs
    shapes: tuple[Shape, ...]
    axis_name: AxisName
    parts: Parts | None = None
    known: bool = False
    shards: tuple[Shape, ...] | None = None

    @property
    def codec(self) -> Codec:
        """A codec whose wire and symbols are those of all arrays."""
        return self.codecs[0]

    @property
    def part_shapes(self) -> tuple[Shape, ...]:
        """The shape of what one payload holds of each array."""
        return tuple(shape if self.parts is None else self.parts.shape(shape) for shape in self.shards or self.shapes)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Bytes of the packed spikes of one payload, for each rung."""
        return self.codec.sizes(sum(map(math.prod, self.part_shapes)))

    def send(self, spikes: tuple[Spikes, ...], move: Move) -> tuple[Rows, Array]:
        """Agree on a size, write the payloads and move them; return what arrived, and the rung."""
        each = jax.vmap if self.parts else _once
        spikes = tuple(map(self._scatter, spikes, self.shapes))
        least, drafts = each(self.codec.draft)(each(payload.join)(tuple(s.values for s in spikes)))
        # A wire that has no size for its spikes names one past the last; they do not fit, and become NaN.
        rung = jnp.minimum(agreed_rung(jnp.max(least), self.sizes, self.axis_name), len(self.sizes) - 1)
        body = each(lambda draft: checked_payload(self.codec.wire, self.codec.write(draft, rung), self.sizes))(drafts)
        tail = each(payload.tail)(spikes, least <= rung)
        return Rows(*ship(body, self._with_scales(tail), self.sizes, rung, move)), rung

    def read(self, row: Rows, rung: Array) -> tuple[tuple[Arrived, ...], Array]:
        """Return the spikes, side arrays and headers of one payload, and what follows them, for `codecs_of_sender`."""
        encoding = self.codec.encoding
        sides = [self._side_shape(shape) for shape in self.shapes]
        sent = row.tail[payload.tail_bytes(encoding, tuple(sides)) :]
        joined = self.codec.read(row.body, payload.joined_shape(self.part_shapes), rung)
        arrived = zip(
            payload.split(joined, self.part_shapes), payload.read_tail(encoding, row.tail, tuple(sides)), strict=True
        )
        return tuple(Arrived(values, side, header) for values, (side, header) in arrived), sent

    def codecs_of_sender(self, sent: Array) -> Codecs:
        """Return the codecs of the sender, given what `read` returned last."""
        return self.codecs if self.known else read_scales(self._codecs_of(), sent, self.axis_name, self.codecs)

    def value(self, codecs: Codecs, arrived: tuple[Arrived, ...]) -> tuple[Array, ...]:
        """Return the f32 arrays that arrived; the part of this device, where arrays are cut."""
        codecs = per_array(codecs, len(self.shapes))
        return tuple(map(self._value, codecs, arrived, self.shapes))

    def _value(self, codec: Codec, arrived: Arrived, shape: Shape) -> Array:
        side = codec.encoding.expand_side(arrived.side, self._side_shape(shape))
        if self.parts is not None:
            cut = self.parts.take(self.parts.mine, shape)
            codec = codec if self._cuts_scales else part_of(codec, cut)
            side = side if self._cuts_side(shape) else tuple(map(cut, side))
        return payload.judge(codec.encoding.decode(arrived.values, side), arrived.header)

    def _scatter(self, spikes: Spikes, shape: Shape) -> Spikes:
        """The spikes of every part; what all parts need is repeated."""
        if self.parts is None:
            return spikes
        values = self.parts.cut(spikes.values)
        repeat = lambda leaf: jnp.broadcast_to(leaf, (len(values), *jnp.shape(leaf)))  # noqa: E731
        side = tuple(map(self.parts.cut if self._cuts_side(shape) else repeat, spikes.side))
        return Spikes(values, side, repeat(spikes.finite))

    def _with_scales(self, tail: UInt8[Array, "..."]) -> UInt8[Array, "..."]:
        if self.known:
            return tail
        if not self._cuts_scales:
            sent = scales(self.codecs, self.axis_name)
            return jnp.concatenate([tail, jnp.broadcast_to(sent, (*tail.shape[:-1], sent.size))], -1)
        of_part = lambda index: scales(self._codecs_of(index), self.axis_name, self.codecs)  # noqa: E731
        return jnp.concatenate([tail, jax.vmap(of_part)(jnp.arange(len(tail)))], -1)

    @property
    def _cuts_scales(self) -> bool:
        """Whether each payload holds its part of the learnable arrays only: where that is less than all of them."""
        if self.known or self.parts is None or len(self.codecs) != len(self.shapes):
            return False
        sizes = lambda codecs: sum(map(np.size, jax.tree.leaves(codecs)))  # noqa: E731
        return sizes(jax.eval_shape(self._part_codecs, 0)) < sizes(self.codecs)

    def _codecs_of(self, index: Array | None = None) -> Codecs:
        """The codecs of what part `index` holds, or that of this device."""
        assert self.parts is not None or index is None
        if self.parts is None or not self._cuts_scales:
            return self.codecs
        return self._part_codecs(self.parts.mine if index is None else index)

    def _part_codecs(self, index: Array | int) -> Codecs:
        assert self.parts is not None, "whole arrays have no parts"
        return tuple(
            part_of(codec, self.parts.take(index, shape)) for codec, shape in zip(self.codecs, self.shapes, strict=True)
        )

    def _cuts_side(self, shape: Shape) -> bool:
        if self.parts is None or self.parts.dimension is None:
            return False
        return self.codec.encoding.splits_side(shape, self.parts.dimension % len(shape), self.parts.shape(shape))

    def _side_shape(self, shape: Shape) -> Shape:
        """The shape of the array whose side arrays one payload holds."""
        return self.parts.shape(shape) if self.parts is not None and self._cuts_side(shape) else shape


def deliver(
    codecs: Codecs,
    xs: tuple[Array, ...],
    axis_name: AxisName,
    move: Move,
    *,
    parts: Parts | None = None,
    senders: bool = True,
    sender_codecs: Codecs | None = None,
) -> tuple[tuple[Array, ...], Sent]:
    """Return `codec.quantize(x)` of other devices in f32, not yet rounded to its dtype, and what this device sent.

    Args:
      codecs: one for all arrays or one per array.
      xs: float arrays, on each device its own.
      axis_name: mesh axis, or a tuple of them.
      move: the collective of `lax` that moves bytes; with `parts`, of one row of bytes per part.
      parts: how arrays are cut, one payload per part.
      senders: whether `move` stacks what several devices sent along dimension 0.
      sender_codecs: those of the sender, if they are known here; then none travels.
    """
    if parts is not None and not codecs[0].wire.holds(1.0):
        wire = codecs[0].wire
        raise UsageError(
            f"psum_scatter, psum, all_to_all: {wire} may be too small for a part of a tensor, which can fire "
            f"everywhere: use Ladder(({wire}, Packed()))"
        )
    message = Message(codecs, tuple(x.shape for x in xs), axis_name, parts, known=sender_codecs is not None)
    spikes = fire(codecs, xs)
    each = jax.vmap if senders else _once

    def value(arrived: tuple[Arrived, ...], sent: Array) -> tuple[Array, ...]:
        ys = message.value(sender_codecs or message.codecs_of_sender(sent), arrived)
        return tuple(in_range(y, x.dtype) for y, x in zip(ys, xs, strict=True))

    if other_axes():
        arrived, sent, rung = _cross_in_shards(message, spikes, move, each)
        return each(value)(arrived, sent), Sent(spikes, rung)
    rows, rung = message.send(spikes, move)
    return each(lambda row: value(*message.read(row, rung)))(rows), Sent(spikes, rung)


def _cross_in_shards(
    message: Message, spikes: tuple[Spikes, ...], move: Move, each: Callable
) -> tuple[tuple[Arrived, ...], Array, Array]:
    """Send a payload for each part of the spikes that other mesh axes hold; return what `read` does, and the rung."""
    arrays, rebuild = take_arrays(message.codecs)

    def cross(spikes: tuple[Spikes, ...], arrays: list[Array]) -> tuple[tuple[Array, ...], Any]:
        part = dataclasses.replace(message, codecs=rebuild(arrays), shards=tuple(s.values.shape for s in spikes))
        rows, rung = part.send(spikes, move)
        arrived, sent = each(lambda row: part.read(row, rung))(rows)
        return tuple(a.values for a in arrived), ([(a.side, a.header) for a in arrived], sent, rung)

    cut = None if message.parts is None else message.parts.dimension
    shape = message.shapes[0]
    values, (rest, sent, rung) = per_shard(
        cross,
        spikes,
        arrays,
        message.axis_name,
        leading=1 if each is jax.vmap else 0,
        cut=None if cut is None else cut % len(shape),
        removed=message.parts is not None and len(message.parts.shape(shape)) < len(shape),
    )
    return tuple(Arrived(v, *others) for v, others in zip(values, rest, strict=True)), sent, rung


def fire(codecs: Codecs, xs: tuple[Array, ...]) -> tuple[Spikes, ...]:
    """Return the spikes of each array."""
    return tuple(codec.fire(x) for codec, x in zip(per_array(codecs, len(xs)), xs, strict=True))


def per_array(codecs: Codecs, count: int) -> Codecs:
    """Return one codec per array, where there may be one for all."""
    return codecs * (count // len(codecs))


def _once(function: Callable) -> Callable:
    return function
