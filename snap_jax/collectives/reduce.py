"""psum and pmean in two shots: spikes are scattered and added as integers, then the sums go to all.

Invariant: nothing is lost in the sum, see `sums`. A sum that is too large for its dtype becomes infinite, as in `lax`.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from snap_jax.codecs.codec import Codec
from snap_jax.codecs.link_spec import as_codec
from snap_jax.collectives.autodiff import Arrays, Line, coded
from snap_jax.collectives.hierarchical import psum_over_fast, slow_axes
from snap_jax.collectives.message import Sent
from snap_jax.collectives.parts import Groups, group_size
from snap_jax.collectives.recode import sum_codec_gradient, sum_decoded
from snap_jax.collectives.scale_exchange import (
    AxisName,
    Codecs,
    axes_of,
    is_per_axis,
    stopped,
)
from snap_jax.collectives.sums import sum_spikes
from snap_jax.errors import UsageError


def psum(
    x: Any,
    axis_name: AxisName | list[str],
    *,
    axis_index_groups: Groups = None,
    codec: Any = None,
    sum_codec: Codec | str | None = None,
    return_sent: bool = False,
) -> Any:
    """Return `lax.psum(codec.quantize(x), axis_name)`, sent as spikes in two shots.

    First every device receives its 1/n of everybody's spikes (`all_to_all`) and adds them as integers; then the sums
    go to all (`all_gather`), on the wire of the codec: in `ceil(log2(n (levels - 1) + 1))` bits with `Packed`, close to
    their entropy with `Rans`. Nothing is lost in the sum. Over several axes the last is taken as the fastest: the
    others carry 1/n of the data, n the devices along the last.
    There is no `grad_codec`: the cotangent of a sum is on every device already, nothing travels.

    Args:
      x: pytree of float arrays, on each device its own.
      axis_name: mesh axis, or a tuple or list of them.
      axis_index_groups: only `None` can be coded.
      codec: as in `all_gather`; its threshold must be the same on all devices, or the sum is NaN. Or a dict from mesh
        axis to codec, `{"pod": "ternary"}`: then the other axes send floats, and what is quantized is the sum over
        them, `lax.psum(c.quantize(lax.psum(x, "device")), "pod")`. A dict with the keys of `x` is a pytree of codecs.
      sum_codec: codes the sums again for the second shot, each 1/n of the flattened sum by itself: fewer bytes, lossy.
        Its gradient is straight-through: `x` gets that of the exact sum. Its own threshold gets that of
        `sum_codec.quantize` of the sum.
      return_sent: whether to return `(result, Sent)`, for a single array; of the first shot.

    Raises:
      UsageError: if spikes of different devices do not add up (absmax steps, float bits) and there is no `sum_codec`,
        if an array is not of a float dtype, if `axis_index_groups` is given, or if a dict
        names different codecs.
    """
    axis_name = axis_name if isinstance(axis_name, str) else tuple(axis_name)
    if is_per_axis(codec, axis_name, x):
        return _per_axis("psum", x, axis_name, axis_index_groups, codec, sum_codec, return_sent)
    plain = functools.partial(lax.psum, axis_name=axis_name, axis_index_groups=axis_index_groups)
    line = _line("psum", axis_name, axis_index_groups, codec, sum_codec)
    finish = sum_codec_gradient(as_codec(sum_codec), axis_name)
    return coded("psum", x, axis_name, codec, plain=plain, line=line, return_sent=return_sent, finish=finish)


def pmean(
    x: Any,
    axis_name: AxisName | list[str],
    *,
    axis_index_groups: Groups = None,
    codec: Any = None,
    sum_codec: Codec | str | None = None,
    return_sent: bool = False,
) -> Any:
    """Return `lax.pmean(codec.quantize(x), axis_name)`: `psum` over the number of devices; see there.

    Args:
      x: pytree of float arrays, on each device its own.
      axis_name: mesh axis, or a tuple or list of them.
      axis_index_groups: only `None` can be coded.
      codec: as in `psum`.
      sum_codec: as in `psum`: codes the sums, before they are divided.
      return_sent: as in `psum`.

    Raises:
      UsageError: as `psum`.
    """
    axis_name = axis_name if isinstance(axis_name, str) else tuple(axis_name)
    if is_per_axis(codec, axis_name, x):
        total = _per_axis("pmean", x, axis_name, axis_index_groups, codec, sum_codec, return_sent)
        return jax.tree.map(lambda y: y / group_size(axis_name, None), total)
    plain = functools.partial(lax.pmean, axis_name=axis_name, axis_index_groups=axis_index_groups)
    total = _line("pmean", axis_name, axis_index_groups, codec, sum_codec)

    def line(codecs: Codecs, xs: Arrays) -> tuple[Arrays, Sent]:
        ys, sent = total(codecs, xs)
        return tuple(y / group_size(axis_name, None) for y in ys), sent

    finish = sum_codec_gradient(as_codec(sum_codec), axis_name, mean=True)
    return coded("pmean", x, axis_name, codec, plain=plain, line=line, return_sent=return_sent, finish=finish)


def _per_axis(
    name: str, x: Any, axis_name: AxisName, groups: Groups, codec: Any, sum_codec: Any, return_sent: bool
) -> Any:
    """The sum with a codec on some axes and floats on the others."""
    slow, coder = slow_axes(name, codec, axis_name)
    sum_codec = as_codec(sum_codec)
    if groups is not None or return_sent:
        raise UsageError(f"{name}: codec={codec} codes some axes only, without axis_index_groups= or return_sent=")
    if sum_codec is not None and any(map(jnp.ndim, jax.tree.leaves(sum_codec))):
        raise UsageError(f"{name}: with a codec per axis the threshold of sum_codec= must be one number")
    if coder is None:
        return lax.psum(x, axis_name)
    if set(slow) == set(axes_of(axis_name)):
        return psum(x, axis_name, codec=coder, sum_codec=sum_codec)
    over_slow = lambda parts, codecs: psum(parts, slow, codec=codecs, sum_codec=sum_codec)  # noqa: E731
    return psum_over_fast(x, slow, coder, axis_name, over_slow)


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
            return sum_spikes(codecs, xs, axis_name)
        return sum_decoded(codecs, stopped((recoder,))[0], xs, axis_name)

    return line


def _require_summable(name: str, codecs: Codecs) -> None:
    for codec in codecs:
        if not codec.encoding.summable:
            raise UsageError(
                f"{name}: spikes of {type(codec.encoding).__name__} do not add up, each device has its own scale: "
                "give sum_codec=, or an encoding with a shared threshold"
            )
