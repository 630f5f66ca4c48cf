"""Exact sums of spikes: scattered and added as integers, axis by axis, then sent to all.

Invariant: every device gets the integer sum of the spikes of all devices. Nothing is lost in it.

Over one mesh axis each device receives its part of everybody's spikes (`all_to_all`), adds them, and sends the sums to
all (`all_gather`). Over several axes the last counts as the fastest: spikes are scattered over it, their sums over the
axis before it, and so on, so that a slow axis carries the part of one device only.

Short arrays are added by one `psum` of integers instead, where that sends fewer bytes; see `short_sums`.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from snap_jax.codecs import payload
from snap_jax.codecs.codec import Codec
from snap_jax.codecs.payload import FINITE
from snap_jax.collectives.autodiff import Arrays
from snap_jax.collectives.message import Message, Sent, fire, per_array
from snap_jax.collectives.parts import flattened, group_size, mixed, to_each
from snap_jax.collectives.scale_exchange import AxisName, Codecs, agree, axes_of, gather_to_all
from snap_jax.collectives.shards import other_axes, per_shard
from snap_jax.collectives.short_sums import add_integers, integer_sum
from snap_jax.encodings import Encoding, Spikes, learnable
from snap_jax.errors import UsageError
from snap_jax.wires import Packed, Shape, Wire, spike_dtype
from snap_jax.wires.symbols import contiguous
from snap_jax.wires.wide_symbols import Digits

HEADER_BYTES = 1


@learnable("each")
@dataclasses.dataclass(frozen=True)
class Sums(Encoding):
    """The sums of spikes of `count` devices.

    Attributes:
      each: the encoding of every device; its spikes add up.
      count: how many devices.
    """

    each: Any
    count: int

    @property
    def symbols(self):
        """All sums of `count` symbols."""
        one = self.each.symbols
        return range(self.count * one[0], self.count * one[-1] + one.step, one.step)

    def encode(self, x):
        """The spikes of one device."""
        return self.each.encode(x)

    def decode(self, values, side=()):
        """The sum of what the spikes stand for."""
        return self.each.decode(values, side)


def wire_of_sums(wire: Wire, size: int, symbols: range) -> Wire:
    """Return what carries `size` sums in `symbols`: `wire`, its digits where it cannot code so many, or `Packed`.

    What is returned never takes more bytes than `Packed`.

    >>> from snap_jax.wires import Bitplanes, Rans
    >>> [wire_of_sums(Rans(), 4096, range(-n, n + 1)) == Rans() for n in (8, 1024)]
    [True, False]
    >>> wire_of_sums(Bitplanes(), 4096, range(-8, 9))
    Packed(radix=False)
    """
    try:
        sizes = wire.sizes(size, symbols)
    except UsageError:  # it cannot send so many symbols
        return Packed()
    if len(sizes) == 1 < len(Digits(wire).sizes(size, symbols)):
        return Digits(wire)
    return wire if wire.holds(1.0) and sizes[-1] <= Packed().sizes(size, symbols)[-1] else Packed()


def sum_spikes(codecs: Codecs, xs: Arrays, axis_name: AxisName) -> tuple[Arrays, Sent]:
    """Return the sums of the quantized arrays, and what was sent first; NaN everywhere if thresholds differ."""
    codecs, agreed = agree(codecs, axis_name)
    spikes = fire(codecs, xs)
    totals, rung = (_totals_of_shards if other_axes() else _totals)(codecs[:1], spikes, axis_name)
    ys = [
        jnp.where(total.finite & agreed, c.encoding.decode(total.values), jnp.nan).astype(x.dtype)
        for c, total, x in zip(per_array(codecs, len(xs)), totals, xs, strict=True)
    ]
    return tuple(ys), Sent(spikes, rung)


def _totals(codec: Codecs, spikes: tuple[Spikes, ...], axis_name: AxisName) -> tuple[tuple[Spikes, ...], jax.Array]:
    """The sums of all devices, in the way that sends fewer bytes, and the rung of what was sent first."""
    symbols, devices = codec[0].encoding.symbols, lax.axis_size(axis_name)
    joined, shapes = _join(spikes, symbols), tuple(s.values.shape for s in spikes)
    way, two_shots = integer_sum(symbols, shapes, devices), _most_bytes(codec, joined, axis_name)
    if way is not None and 2 * (devices - 1) * way.nbytes < devices * two_shots:  # what a ring sends
        return add_integers(way, spikes, axis_name), jnp.zeros((), jnp.uint8)
    (total,), rung = _two_shots(codec, (joined,), axes_of(axis_name))
    return _split(total, shapes, symbols, devices), rung


def _totals_of_shards(
    codec: Codecs, spikes: tuple[Spikes, ...], axis_name: AxisName
) -> tuple[tuple[Spikes, ...], jax.Array]:
    """The same where other mesh axes divide the spikes: each device sends its part."""

    def add(spikes: tuple[Spikes, ...], _: Any) -> tuple[Arrays, Any]:
        totals, rung = _totals(codec, spikes, axis_name)
        return tuple(t.values for t in totals), ([~jnp.asarray(t.finite) for t in totals], rung)

    values, (bad, rung) = per_shard(add, spikes, (), axis_name, leading=0)
    return tuple(Spikes(v, (), ~b) for v, b in zip(values, bad, strict=True)), rung


def _two_shots(
    codecs: Codecs, spikes: tuple[Spikes, ...], axes: tuple[str, ...]
) -> tuple[tuple[Spikes, ...], jax.Array]:
    """The sums of all devices, and the rung of what was sent first."""
    sums, count, messages, rungs = spikes, 1, [], []
    for axis in reversed(axes):
        messages.insert(0, _message(_adders(codecs, count), tuple(s.values.shape for s in sums), axis, cut=True))
        sums, rung = _scatter(messages[0], sums)
        rungs.append(rung)
        count *= group_size(axis, None)
    for axis, message in zip(axes, messages, strict=True):
        sums = _gather(_adders(codecs, count), sums, axis, message)
    return sums, rungs[0]


def _join(spikes: tuple[Spikes, ...], symbols: range) -> Spikes:
    """One array as it is; several as one, followed by a spike per array that says whether it was finite.

    So the bytes do not grow with arrays times devices, as headers of every array in every part would.
    """
    if len(spikes) == 1:
        return spikes[0]
    good, bad = _flags(symbols)
    flags = jnp.where(jnp.stack([jnp.asarray(s.finite) for s in spikes]), good, bad).astype(spikes[0].values.dtype)
    return Spikes(payload.join((*(s.values for s in spikes), flags)))


def _split(total: Spikes, shapes: tuple[Shape, ...], symbols: range, devices: int) -> tuple[Spikes, ...]:
    """The sums of each array, from the sum of what `_join` returned."""
    if len(shapes) == 1:
        return (total,)
    *sums, flags = payload.split(total.values, (*shapes, (len(shapes),)))
    finite = total.finite & (flags == devices * _flags(symbols)[0])
    return tuple(Spikes(values, (), finite[i]) for i, values in enumerate(sums))


def _flags(symbols: range) -> tuple[int, int]:
    """Symbols for an array that is finite, no spike if there is such a symbol, and for one that is not."""
    good = 0 if 0 in symbols else symbols[0]
    return good, symbols[-1] if symbols[-1] != good else symbols[0]


def _most_bytes(codecs: Codecs, joined: Spikes, axis_name: AxisName) -> int:
    """The most bytes that one device sends in two shots."""
    count, total, back, shapes = 1, 0, [], (joined.values.shape,)
    for axis in reversed(axes_of(axis_name)):
        message = _message(_adders(codecs, count), shapes, axis, cut=True)
        total += (group_size(axis, None) - 1) * (message.sizes[-1] + HEADER_BYTES)
        count, shapes = count * group_size(axis, None), message.part_shapes
        back.append((axis, shapes))
    for axis, part in back:
        sizes = _message(_adders(codecs, count), part, axis, cut=False).sizes
        total += (group_size(axis, None) - 1) * (sizes[-1] + HEADER_BYTES)
    return total


def _adders(codecs: Codecs, count: int) -> Codecs:
    """Codecs of the sums of `count` devices."""
    return codecs if count == 1 else tuple(Codec(Sums(c.encoding, count), c.wire) for c in codecs)


def _message(codecs: Codecs, shapes: tuple[Shape, ...], axis: str, cut: bool) -> Message:
    """The message of spikes or sums of these shapes, on a wire that suits their number."""
    message = Message(codecs, shapes, axis, flattened(axis) if cut else None, known=True)
    if isinstance(codecs[0].encoding, Sums):
        size, symbols = sum(map(math.prod, message.part_shapes)), contiguous(codecs[0].encoding.symbols)
        wire = wire_of_sums(codecs[0].wire, size, symbols)
        message = dataclasses.replace(message, codecs=tuple(Codec(c.encoding, wire) for c in codecs))
    # All parts take the size of the largest: they had better be alike.
    return dataclasses.replace(message, parts=mixed(axis)) if cut and len(message.sizes) > 1 else message


def _scatter(message: Message, spikes: tuple[Spikes, ...]) -> tuple[tuple[Spikes, ...], jax.Array]:
    """The sums of this device's part over the axis of the message, and the rung of what was sent."""
    rows, rung = message.send(spikes, to_each(message.axis_name, None))
    parts = jax.vmap(lambda row: message.read(row, rung)[0])(rows)
    # It holds the last sum, so one that wraps around on the way comes back.
    dtype = spike_dtype(Sums(message.codec.encoding, group_size(message.axis_name, None)).symbols)
    return tuple(Spikes(part.values.sum(0, dtype=dtype), (), jnp.all(part.header == FINITE)) for part in parts), rung


def _gather(codecs: Codecs, sums: tuple[Spikes, ...], axis: str, scattered: Message) -> tuple[Spikes, ...]:
    """The sums of all devices along `axis`, joined as they were cut when they were scattered."""
    join = scattered.parts and scattered.parts.join
    assert join, "sums are cut from flattened arrays"
    message = _message(codecs, tuple(s.values.shape for s in sums), axis, cut=False)
    rows, rung = message.send(sums, functools.partial(gather_to_all, axis_name=axis))
    totals = jax.vmap(lambda row: message.read(row, rung)[0])(rows)
    return tuple(
        Spikes(join(total.values, shape), (), jnp.all(total.header == FINITE))
        for total, shape in zip(totals, scattered.shapes, strict=True)
    )
