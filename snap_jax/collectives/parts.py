"""How an array is scattered to devices and joined again.

Invariant: `join(scatter(x, ...), ...)` is `x`; only shapes change.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from snap_jax.collectives.scale_exchange import AxisName
from snap_jax.errors import UsageError
from snap_jax.wires import Shape

Groups = Sequence[Sequence[int]] | None


class Parts(NamedTuple):
    """How arrays are cut into one part per device.

    Attributes:
      cut: array -> its parts, stacked along a new first dimension.
      mine: the part that belongs to this device.
      dimension: along which dimension arrays are cut; `None` if they are flattened first.
      join: (parts, shape) -> the array of `shape` that was cut, where it was flattened first.
    """

    cut: Callable[[jax.Array], jax.Array]
    mine: jax.Array
    dimension: int | None = None
    join: Callable[[jax.Array, Shape], jax.Array] | None = None

    def shape(self, shape: Shape) -> Shape:
        """Return the shape of a part of an array of `shape`."""
        return jax.eval_shape(self.cut, jax.ShapeDtypeStruct(shape, jnp.float32)).shape[1:]

    def take(self, index: jax.Array | int, shape: Shape) -> Callable[[jax.Array], jax.Array]:
        """Return the function that takes part `index` of what broadcasts against an array of `shape`."""

        def of_leaf(leaf: jax.Array | float) -> jax.Array:
            if not jnp.ndim(leaf):
                return jnp.asarray(leaf)
            return self.cut(jnp.broadcast_to(leaf, self._least_shape(jnp.shape(leaf), shape)))[index]

        return of_leaf

    def _least_shape(self, leaf: Shape, shape: Shape) -> Shape:
        """The shape to which a leaf must be broadcast to be cut as an array of `shape` is."""
        if self.dimension is None:
            return shape
        wide, cut = (*(1 for _ in shape[len(leaf) :]), *leaf), self.dimension % len(shape)
        return (*wide[:cut], shape[cut], *wide[cut + 1 :])


def along(name: str, dimension: int, axis_name: AxisName, groups: Groups, tiled: bool) -> Parts:
    """Return the parts along `dimension`, as `lax.psum_scatter` and `lax.all_to_all` cut them.

    Raises:
      UsageError: when used, if a dimension cannot be cut evenly.
    """
    group = group_size(axis_name, groups)
    cut = lambda x: scatter(name, x, dimension, group, tiled)  # noqa: E731
    return Parts(cut, index_in_group(axis_name, groups), dimension)


def flattened(axis_name: AxisName) -> Parts:
    """Return equal parts of the flattened array, the last one padded with zeros."""
    group = group_size(axis_name, None)

    def cut(x: jax.Array) -> jax.Array:
        part = math.ceil(x.size / group)
        return jnp.pad(x.reshape(-1), (0, group * part - x.size)).reshape(group, part)

    return Parts(cut, lax.axis_index(axis_name), join=unflatten)


def mixed(axis_name: AxisName) -> Parts:
    """Return equal parts of the flattened array that are alike, wherever in it the large numbers are.

    Of every `group` neighbors each part takes one. Which one moves on by the golden ratio of the group from one set of
    neighbors to the next, so that a part meets all rows and all channels about equally often (Fibonacci hashing).
    """
    group = group_size(axis_name, None)

    def cut(x: jax.Array) -> jax.Array:
        rows = jnp.pad(x.reshape(-1), (0, -x.size % group)).reshape(-1, group)
        return _rolled(rows, _golden(len(rows), group)).T

    def join(parts: jax.Array, shape: Shape) -> jax.Array:
        return unflatten(_rolled(parts.T, -_golden(parts.shape[1], group)), shape)

    return Parts(cut, lax.axis_index(axis_name), join=join)


def _golden(count: int, group: int) -> jax.Array:
    """`floor(group * frac(i * golden ratio))` for i up to `count`."""
    hashed = (lax.iota(jnp.uint32, count) * jnp.uint32(0x9E3779B9)) >> 16  # 2^32 / golden ratio
    return ((hashed * jnp.uint32(group)) >> 16).astype(jnp.int32)


def _rolled(rows: jax.Array, by: jax.Array) -> jax.Array:
    """Each row moved to the left by its number of places, around the end."""
    place = (jnp.arange(rows.shape[1], dtype=jnp.int32)[None] + by[:, None]) % rows.shape[1]
    return jnp.take_along_axis(rows, place, axis=1, mode="promise_in_bounds")


def unflatten(parts: jax.Array, shape: Shape) -> jax.Array:
    """Return the array that `flattened` has cut."""
    return parts.reshape(-1)[: math.prod(shape)].reshape(shape)


def scatter(name: str, x: jax.Array, dimension: int, group: int, tiled: bool) -> jax.Array:
    """Return the `group` parts of `x` along `dimension`, stacked along dimension 0; one row each without `tiled`."""
    dimension = dimension_of(name, dimension, x.ndim)
    if x.shape[dimension] % group or (not tiled and x.shape[dimension] != group):
        fix = f"a multiple of {group}" if tiled else f"{group}, or tiled=True"
        raise UsageError(f"{name}: dimension {dimension} of shape {x.shape} cannot be cut into {group}: use {fix}")
    if not tiled:
        return jnp.moveaxis(x, dimension, 0)
    rows = x.reshape(*x.shape[:dimension], group, x.shape[dimension] // group, *x.shape[dimension + 1 :])
    return jnp.moveaxis(rows, dimension, 0)


def dimension_of(name: str, dimension: int, ndim: int) -> int:
    """Return a dimension counted from 0, where it may be counted from the end.

    Raises:
      UsageError: if an array of so many dimensions has no such dimension.
    """
    if not -ndim <= dimension < ndim:
        have = f"use {-ndim} to {ndim - 1}" if ndim else "a number has none"
        raise UsageError(f"{name}: there is no dimension {dimension} in an array of {ndim} dimensions: {have}")
    return dimension % ndim


def join(name: str, parts: jax.Array, axis: int, tiled: bool) -> jax.Array:
    """Return parts stacked along dimension 0 joined along `axis` of each if `tiled`, or stacked there."""
    if not tiled:
        return jnp.moveaxis(parts, 0, dimension_of(name, axis, parts.ndim))
    axis = dimension_of(name, axis, parts.ndim - 1)
    moved = jnp.moveaxis(parts, 0, axis)
    joined = moved.shape[axis] * moved.shape[axis + 1]
    return moved.reshape(*moved.shape[:axis], joined, *moved.shape[axis + 2 :])


def group_size(axis_name: AxisName, groups: Groups) -> int:
    """Return how many devices take part in one group."""
    return len(groups[0]) if groups else lax.axis_size(axis_name)


def index_in_group(axis_name: AxisName, groups: Groups) -> jax.Array:
    """Return the place of this device in its group."""
    index = lax.axis_index(axis_name)
    if not groups:
        return index
    places = sorted((device, place) for group in groups for place, device in enumerate(group))
    return jnp.asarray([place for _, place in places])[index]


def to_each(axis_name: AxisName, groups: Groups) -> Callable[[jax.Array], jax.Array]:
    """Return the collective that sends row i to device i of the group, and stacks what arrives."""
    return lambda rows: lax.all_to_all(rows, axis_name, 0, 0, axis_index_groups=groups)
