"""psum and pmean in two shots: spikes are dealt out and added as integers, then the sums go to all.

Law: nothing is lost in the sum; `ceil(log2(n (levels - 1) + 1))` bits hold every sum of n devices.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from snap_jax.codecs.codec import FINITE, Codec, judge, seal
from snap_jax.collectives.autodiff import Codecs, Groups, T, coded
from snap_jax.collectives.payload import Reshape, arrivals, exchange, group_size
from snap_jax.collectives.scale_exchange import AxisName, agree, restrict
from snap_jax.collectives.size_agreement import agreed_rung, ship
from snap_jax.encodings import saturate
from snap_jax.errors import UsageError
from snap_jax.wires import Packed


def psum(
    x: T,
    axis_name: AxisName,
    *,
    axis_index_groups: Groups = None,
    codec: Codec | None = None,
    sum_codec: Codec | None = None,
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
      sum_codec: codes the sums again for the second shot, each 1/n of the flattened sum by itself: fewer bytes, lossy;
        its gradient is straight-through.

    Raises:
      UsageError: if spikes of different devices do not add up (absmax steps, float bits) and there is no
      `sum_codec`, if
        an array is not of a float dtype, or if `axis_index_groups` is given.
    """
    plain = functools.partial(lax.psum, axis_name=axis_name, axis_index_groups=axis_index_groups)
    if codec is None and sum_codec is None:
        return plain(x)
    _require_summable("psum", axis_index_groups, codec, sum_codec)
    return coded("psum", x, axis_name, (codec, sum_codec), plain=plain, wire=functools.partial(_two_shot, axis_name))


def pmean(
    x: T,
    axis_name: AxisName,
    *,
    axis_index_groups: Groups = None,
    codec: Codec | None = None,
    sum_codec: Codec | None = None,
) -> T:
    """`lax.pmean(codec.quantize(x), axis_name)`: `psum` over the number of devices; see there.

    Args:
      x: pytree of float arrays, on each device its own.
      axis_name: mesh axis, or a tuple of them.
      axis_index_groups: only `None` can be coded.
      codec: as in `psum`.
      sum_codec: as in `psum`: codes the sums, before they are divided.

    Raises:
      UsageError: as `psum`.
    """
    plain = functools.partial(lax.pmean, axis_name=axis_name, axis_index_groups=axis_index_groups)
    if codec is None and sum_codec is None:
        return plain(x)
    _require_summable("pmean", axis_index_groups, codec, sum_codec)

    def wire(codecs: Codecs, x: jax.Array) -> jax.Array:
        return _two_shot(axis_name, codecs, x) / group_size(axis_name, None)

    return coded("pmean", x, axis_name, (codec, sum_codec), plain=plain, wire=wire)


def _require_summable(name: str, groups: Groups, codec: Codec | None, sum_codec: Codec | None) -> None:
    if groups is not None:
        raise UsageError(f"{name}: axis_index_groups cannot be coded: split the mesh axis in two instead")
    if codec is None:
        raise UsageError(f"{name}: sum_codec= needs a codec= for the first shot: give one")
    if sum_codec is None and not codec.encoding.summable:
        raise UsageError(
            f"{name}: spikes of {type(codec.encoding).__name__} do not add up, each device has its own scale: "
            "give sum_codec=, or an encoding with a shared threshold"
        )


def _two_shot(axis_name: AxisName, codecs: Codecs, x: jax.Array) -> jax.Array:
    """All-to-all of spikes, a sum on each device of its part (1/n of the flattened tensor), all-gather of the sums."""
    codec, sum_codec = codecs
    group = group_size(axis_name, None)
    part = math.ceil(x.size / group)

    def deal(y: jax.Array) -> jax.Array:
        return jnp.pad(y.reshape(-1), (0, group * part - y.size)).reshape(group, part)

    def join(parts: jax.Array) -> jax.Array:
        return parts.reshape(-1)[: x.size].reshape(x.shape)

    if sum_codec is None:
        return _sum_spikes(codec, x, deal, join, axis_name)
    return join(_sum_decoded(codec, sum_codec, x, deal, axis_name))


def _sum_spikes(codec: Codec, x: jax.Array, deal: Reshape, join: Reshape, axis_name: AxisName) -> jax.Array:
    """The exact second shot: integer sums in just enough bits, decoded at the very end."""
    codec, agreed = agree(codec, axis_name)
    group, part = jax.eval_shape(deal, x).shape
    arrived, rung = exchange(codec, x, deal, axis_name, None)
    spikes, _, headers = jax.vmap(lambda row: codec.open(row, (part,), rung))(arrived)
    known = codec.encoding.symbols
    sums = range(group * known.start, group * (known.stop - 1) + 1)
    packed = Packed().pack(spikes.sum(0, dtype=jnp.int32), sums)
    rows = lax.all_gather(seal(packed, (), jnp.all(headers == FINITE) & agreed), axis_name, to="invarying")
    total = join(jax.vmap(lambda row: Packed().unpack(row[:-1], (part,), sums))(rows))
    return judge(saturate(codec.encoding.value(total), x.dtype), rows[:, -1].max())


def _sum_decoded(codec: Codec, sum_codec: Codec, x: jax.Array, deal: Reshape, axis_name: AxisName) -> jax.Array:
    """The lossy second shot: sums of decoded spikes, coded again; NaN everywhere if the recoders disagree."""
    sum_codec, agreed = agree(sum_codec, axis_name)
    sums = saturate(arrivals(codec, x, deal, axis_name, None).sum(0), jnp.dtype(x.dtype))
    mine = restrict(sum_codec, x.shape, deal, lax.axis_index(axis_name))
    rung = agreed_rung(mine, mine.spikes(sums), axis_name)

    def move(payload: jax.Array) -> jax.Array:
        return lax.all_gather(payload, axis_name, to="invarying")

    rows = ship(mine, sums.size, mine.encode(jnp.where(agreed, sums, jnp.nan), rung), rung, move)

    def read(j: jax.Array, row: jax.Array) -> jax.Array:
        return restrict(sum_codec, x.shape, deal, j).decode(row, shape=sums.shape, dtype=x.dtype, rung=rung)

    return jax.vmap(read)(jnp.arange(rows.shape[0]), rows)
