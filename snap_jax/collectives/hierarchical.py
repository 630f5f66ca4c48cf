"""Sums with a codec on the slow mesh axes only: floats are scattered, summed and gathered over the fast ones.

Invariant: the result is `lax.psum(c.quantize(lax.psum(x, fast)), slow)`, in value, to the rounding of the float sums,
and in its gradients. A slow axis carries 1/n of the data, n the devices along the fast axes.
"""

from typing import Any

import jax
from jax import lax

from snap_jax._compat import as_varying
from snap_jax.codecs.codec import Codec
from snap_jax.codecs.link_spec import as_codec
from snap_jax.collectives.parts import flattened, unflatten
from snap_jax.collectives.scale_exchange import AxisName, axes_of, gather_to_all, part_of
from snap_jax.collectives.shards import refuse_other_axes
from snap_jax.errors import UsageError

SumOverSlow = Any  # (parts, slow axes, their codecs) -> sums


def slow_axes(name: str, codec: dict[str, Any], axis_name: AxisName) -> tuple[tuple[str, ...], Codec | None]:
    """Return the axes that have a codec, and that codec.

    Raises:
      UsageError: if two axes have different codecs.
    """
    given = {axis: codec[axis] for axis in axes_of(axis_name) if codec.get(axis) is not None}
    first = next(iter(given.values()), None)
    if any(other is not first and not (isinstance(other, str) and other == first) for other in given.values()):
        raise UsageError(f"{name}: codec={codec} differs between axes: give one codec, or call {name} once per axis")
    return tuple(given), as_codec(first)


_INSTEAD = {
    "all_gather": "y = all_gather(x, {slow}, codec={codec!r}), then all_gather(y, {fast})",
    "psum_scatter": "y = psum_scatter(x, {fast}), then psum_scatter(y, {slow}, codec={codec!r})",
    "all_to_all": "one all_to_all for {fast}, and one for {slow} with codec={codec!r}",
    "ppermute": "one ppermute for {fast}, and one for {slow} with codec={codec!r}",
}


def codec_of_all_axes(name: str, codec: dict[str, Any], axis_name: AxisName) -> Codec | None:
    """Return the codec of a collective that moves data along all its axes at once; None if no axis has one.

    Raises:
      UsageError: if only some axes have one; says what to write instead.
    """
    slow, coder = slow_axes(name, codec, axis_name)
    fast = tuple(axis for axis in axes_of(axis_name) if axis not in slow)
    if coder is None or not fast:
        return coder
    one = {"slow": _shown(slow), "fast": _shown(fast), "codec": codec[slow[0]]}
    instead = _INSTEAD.get(name, "one call for {fast}, and one for {slow} with codec={codec!r}").format(**one)
    raise UsageError(f"{name}: codec={codec} is for some of the axes {axis_name} only, for which write {instead}")


def _shown(axes: tuple[str, ...]) -> str:
    return repr(axes[0] if len(axes) == 1 else axes)


def psum_over_fast(x: Any, slow: tuple[str, ...], codec: Codec, axis_name: AxisName, psum_slow: SumOverSlow) -> Any:
    """Return the sum of a pytree over all axes, coded by `psum_slow` over those that are slow.

    Args:
      x: pytree of float arrays.
      slow: the axes that have a codec.
      codec: theirs.
      axis_name: all axes.
      psum_slow: the sum of a tuple of parts over `slow`, given one codec per part.
    """
    refuse_other_axes("a codec per mesh axis")
    axes = axes_of(axis_name)
    fast = tuple(axis for axis in axes if axis not in slow)
    arrays, structure = jax.tree.flatten(x)
    parts, shapes = flattened(fast), [jax.numpy.shape(array) for array in arrays]
    rows = tuple(parts.cut(as_varying(jax.numpy.asarray(array), axes)) for array in arrays)
    mine = lax.psum_scatter(rows, fast)
    sums = psum_slow(mine, tuple(part_of(codec, parts.take(parts.mine, shape)) for shape in shapes))
    totals = [unflatten(gather_to_all(total, fast), shape) for total, shape in zip(sums, shapes, strict=True)]
    return jax.tree.unflatten(structure, totals)
