"""psum and pmean in two shots: spikes are scattered and added as integers, then the sums go to all.

Invariant: nothing is lost in the sum; `ceil(log2(n (levels - 1) + 1))` bits hold every sum of n devices. A sum that is
too large for its dtype becomes infinite, as in `lax`.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from snap_jax.codecs.codec import Codec
from snap_jax.codecs.link_spec import as_codec
from snap_jax.codecs.payload import FINITE, judge
from snap_jax.collectives.autodiff import Arrays, Line, coded
from snap_jax.collectives.message import Message, Rows, Sent, deliver, fire, per_array
from snap_jax.collectives.parts import Groups, flattened, group_size, to_each, unflatten
from snap_jax.collectives.scale_exchange import AxisName, Codecs, agree, gather_to_all, part_of, stopped
from snap_jax.encodings import Encoding, Spikes, learnable
from snap_jax.errors import UsageError
from snap_jax.wires import Packed


def psum(
    x: Any,
    axis_name: AxisName,
    *,
    axis_index_groups: Groups = None,
    codec: Any = None,
    sum_codec: Codec | str | None = None,
    return_sent: bool = False,
) -> Any:
    """Return `lax.psum(codec.quantize(x), axis_name)`, sent as spikes in two shots.

    First every device receives its 1/n of everybody's spikes (`all_to_all`) and adds them as integers; then the sums
    go to all (`all_gather`), packed in just enough bits, `ceil(log2(n (levels - 1) + 1))`. Nothing is lost in the sum.
    There is no `grad_codec`: the cotangent of a sum is on every device already, nothing travels.

    Args:
      x: pytree of float arrays, on each device its own.
      axis_name: mesh axis, or a tuple of them.
      axis_index_groups: only `None` can be coded.
      codec: as in `all_gather`; its threshold must be the same on all devices, or the sum is NaN.
      sum_codec: codes the sums again for the second shot, each 1/n of the flattened sum by itself: fewer bytes, lossy.
        Its gradient is straight-through: `x` gets that of the exact sum, its own threshold none.
      return_sent: whether to return `(result, Sent)`, for a single array; of the first shot.

    Raises:
      UsageError: if spikes of different devices do not add up (absmax steps, float bits) and there is no `sum_codec`,
        if an array is not of a float dtype, or if `axis_index_groups` is given.
    """
    plain = functools.partial(lax.psum, axis_name=axis_name, axis_index_groups=axis_index_groups)
    line = _line("psum", axis_name, axis_index_groups, codec, sum_codec)
    return coded("psum", x, axis_name, codec, plain=plain, line=line, return_sent=return_sent)


def pmean(
    x: Any,
    axis_name: AxisName,
    *,
    axis_index_groups: Groups = None,
    codec: Any = None,
    sum_codec: Codec | str | None = None,
    return_sent: bool = False,
) -> Any:
    """Return `lax.pmean(codec.quantize(x), axis_name)`: `psum` over the number of devices; see there.

    Args:
      x: pytree of float arrays, on each device its own.
      axis_name: mesh axis, or a tuple of them.
      axis_index_groups: only `None` can be coded.
      codec: as in `psum`.
      sum_codec: as in `psum`: codes the sums, before they are divided.
      return_sent: as in `psum`.

    Raises:
      UsageError: as `psum`.
    """
    plain = functools.partial(lax.pmean, axis_name=axis_name, axis_index_groups=axis_index_groups)
    total = _line("pmean", axis_name, axis_index_groups, codec, sum_codec)

    def line(codecs: Codecs, xs: Arrays) -> tuple[Arrays, Sent]:
        ys, sent = total(codecs, xs)
        return tuple(y / group_size(axis_name, None) for y in ys), sent

    return coded("pmean", x, axis_name, codec, plain=plain, line=line, return_sent=return_sent)


def _line(name: str, axis_name: AxisName, groups: Groups, codec: Any, sum_codec: Codec | str | None) -> Line:
    """The message of a sum, in the dtypes of the arrays."""
    recoder = as_codec(sum_codec)
    if codec is None and recoder is not None:
        raise UsageError(f"{name}: sum_codec= needs a codec= for the first shot: give one")

    def line(codecs: Codecs, xs: Arrays) -> tuple[Arrays, Sent]:
        if groups is not None:
            raise UsageError(f"{name}: axis_index_groups cannot be coded: split the mesh axis in two instead")
        if recoder is None:
            _require_summable(name, codecs)
            return _sum_spikes(codecs, xs, axis_name)
        return _sum_decoded(codecs, stopped((recoder,))[0], xs, axis_name)

    return line


def _require_summable(name: str, codecs: Codecs) -> None:
    for codec in codecs:
        if not codec.encoding.summable:
            raise UsageError(
                f"{name}: spikes of {type(codec.encoding).__name__} do not add up, each device has its own scale: "
                "give sum_codec=, or an encoding with a shared threshold"
            )


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


def _sum_spikes(codecs: Codecs, xs: Arrays, axis_name: AxisName) -> tuple[Arrays, Sent]:
    """The exact second shot: integer sums in just enough bits, decoded at the very end."""
    codecs, agreed = agree(codecs, axis_name)
    first = Message(codecs, tuple(x.shape for x in xs), axis_name, flattened(axis_name), known=True)
    spikes = fire(codecs, xs)
    rows, rung = first.send(spikes, to_each(axis_name, None))
    parts = jax.vmap(lambda row: first.read(row, rung)[1])(rows)
    sums = tuple(
        Spikes(part.values.sum(0, dtype=jnp.int32), (), jnp.all(part.header == FINITE) & agreed) for part in parts
    )
    adders = tuple(Codec(Sums(c.encoding, lax.axis_size(axis_name)), Packed()) for c in codecs)
    second = Message(adders, first.part_shapes, axis_name, known=True)
    rows, none = second.send(sums, functools.partial(gather_to_all, axis_name=axis_name))
    totals = jax.vmap(lambda row: second.read(row, none)[1])(rows)
    ys = [
        judge(c.encoding.decode(unflatten(total.values, x.shape)), total.header.max()).astype(x.dtype)
        for c, total, x in zip(per_array(codecs, len(xs)), totals, xs, strict=True)
    ]
    return tuple(ys), Sent(spikes, rung)


def _sum_decoded(codecs: Codecs, recoder: Codec, xs: Arrays, axis_name: AxisName) -> tuple[Arrays, Sent]:
    """The lossy second shot: sums of decoded spikes, coded again; NaN everywhere if the recoders disagree."""
    (recoder,), agreed = agree((recoder,), axis_name)
    parts = flattened(axis_name)
    rows, sent = deliver(codecs, xs, axis_name, to_each(axis_name, None), parts=parts)
    sums = tuple(jnp.where(agreed, row.sum(0).astype(x.dtype), jnp.nan) for row, x in zip(rows, xs, strict=True))

    def recoders(index: jax.Array) -> Codecs:
        return tuple(part_of(recoder, parts.take(index, x.shape)) for x in xs)

    second = Message(recoders(parts.mine), tuple(s.shape for s in sums), axis_name, known=True)
    rows, rung = second.send(fire(second.codecs, sums), functools.partial(gather_to_all, axis_name=axis_name))

    def value(index: jax.Array, row: Rows) -> Arrays:
        return second.value(recoders(index), second.read(row, rung)[1])

    totals = jax.vmap(value)(jnp.arange(lax.axis_size(axis_name)), rows)
    return tuple(unflatten(total, x.shape) for total, x in zip(totals, xs, strict=True)), sent
