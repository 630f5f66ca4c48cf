"""Which elements share a scale: all of a tensor, a channel, a token, or a block of neighbors.

Invariant: `spread(grouped(x, per).max(-1), x.shape, per)` broadcasts against `x`, and holds for each element the
largest of its group.

A channel is an index of the last axis, a token all of the last axis at one place of the others. Of blocks along the
last axis the last one may be short.
"""

import math

import jax.numpy as jnp
from jaxtyping import Array, Shaped

from snap_jax.wires import Shape

Groups = str | int
NAMES = ("tensor", "channel", "token")


def is_groups(per: object) -> bool:
    """Return whether `per` names groups: "tensor", "channel", "token", or the size of a block."""
    return per >= 1 if isinstance(per, int) else per in NAMES


def grid(shape: Shape, per: Groups) -> Shape:
    """Return the shape of an array with one number per group of a tensor of `shape`.

    >>> [grid((2, 5), per) for per in ("tensor", "channel", "token", 2)]
    [(), (1, 5), (2, 1), (2, 3)]
    """
    *rows, size = shape or (1,)
    if per == "tensor":
        return ()
    return (*(1 for _ in rows), size) if per == "channel" else (*rows, math.ceil(size / _block(size, per)))


def grouped(x: Shaped[Array, "..."], per: Groups) -> Shaped[Array, "... members"]:
    """Return `x` as `[*grid, member]`; a short block ends with zeros.

    >>> grouped(jnp.arange(1, 6), 2).tolist()
    [[1, 2], [3, 4], [5, 0]]
    """
    if per == "tensor":
        return x.reshape(-1)
    x = x if x.ndim else x[None]
    *rows, size = x.shape
    if per == "channel":
        return x.reshape(math.prod(rows), size).T.reshape(*grid(x.shape, per), math.prod(rows))
    block = _block(size, per)
    filled = jnp.pad(x, [(0, 0)] * len(rows) + [(0, -size % block)])
    return filled.reshape(*grid(x.shape, per), block)


def spread(scales: Shaped[Array, "..."], shape: Shape, per: Groups) -> Shaped[Array, "..."]:
    """Return the numbers of groups, in the shape `grid(shape, per)`, so that they broadcast against `shape`.

    >>> spread(jnp.array([1, 2, 3]), (5,), 2).tolist()
    [1, 1, 2, 2, 3]
    """
    if per == "tensor" or (per == "token" and shape):
        return scales
    if per == "channel":
        return scales.reshape(shape[-1:])
    size = shape[-1] if shape else 1
    return jnp.repeat(scales, _block(size, per), axis=-1)[..., :size].reshape(shape)


def splits(shape: Shape, dimension: int, part: Shape, per: Groups) -> bool:
    """Return whether parts of shape `part`, cut along `dimension` of `shape`, need only their part of the scales.

    So it is where the parts have other channels, or no group falls into two of them.

    >>> [splits((4, 6), 0, (2, 6), per) for per in ("tensor", "channel", "token", 3)]
    [False, False, True, True]
    """
    across = dimension < len(shape) - 1
    if per == "tensor" or (not across and len(part) < len(shape)):
        return False
    if per == "channel":
        return not across
    return across or (per != "token" and part[-1] % _block(shape[-1], per) == 0)


def _block(size: int, per: Groups) -> int:
    return per if isinstance(per, int) else max(size, 1)
