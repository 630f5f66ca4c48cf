"""Exact sums of short arrays: one `lax.psum` of the spikes, as integers.

Invariant: the values are those of two shots. Each of these sends every device at least a byte and a header, so that an
array of few elements per device would cost more than its floats. Which is used is known from shapes alone.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from snap_jax.codecs import payload
from snap_jax.collectives.scale_exchange import AxisName
from snap_jax.encodings import Spikes
from snap_jax.wires import Shape


class IntegerSum(NamedTuple):
    """How arrays of spikes are added in one `psum`.

    Attributes:
      dtype: the integers, wide enough for all sums.
      bound: the largest magnitude of a sum.
      mark: what a device adds to the first element of an array that is not finite, `2 bound + 1`: then its sum is past
        the bound, and stays so if it wraps around. 0 if marks of all devices would come around to a sum within the
        bound; then a flag per array follows the spikes.
      nbytes: what is added, per device.
    """

    dtype: str
    bound: int
    mark: int
    nbytes: int


def integer_sum(symbols: range, shapes: tuple[Shape, ...], devices: int) -> IntegerSum | None:
    """Return the cheapest way to add spikes in `symbols` of so many devices; `None` if 32 bits do not hold the sums.

    >>> integer_sum(range(-1, 2), ((128,),), devices=1024)
    IntegerSum(dtype='int16', bound=1024, mark=0, nbytes=258)
    >>> integer_sum(range(-1, 2), ((128,),), devices=4)
    IntegerSum(dtype='int8', bound=4, mark=9, nbytes=128)
    """
    bound = devices * max(abs(symbols[0]), abs(symbols[-1]), 1)
    mark, size, ways = 2 * bound + 1, sum(map(math.prod, shapes)), []
    for dtype in ("int8", "int16", "int32"):
        room, width = jnp.iinfo(dtype).max, jnp.iinfo(dtype).bits // 8
        if bound <= room and (devices + 1) * mark <= 2 ** (8 * width):
            ways.append(IntegerSum(dtype, bound, mark, width * size))
        elif bound <= room:
            ways.append(IntegerSum(dtype, bound, 0, width * (size + len(shapes))))
    return min(ways, key=lambda way: way.nbytes, default=None)


def add_integers(way: IntegerSum, spikes: tuple[Spikes, ...], axis_name: AxisName) -> tuple[Spikes, ...]:
    """Return the sums of the spikes of all devices."""
    shapes = tuple(s.values.shape for s in spikes)
    bad = [~jnp.asarray(s.finite) for s in spikes]
    flat = [s.values.reshape(-1).astype(way.dtype) for s in spikes]
    if way.mark:
        flat = [v.at[:1].add(jnp.where(b, way.mark, 0).astype(way.dtype)) for v, b in zip(flat, bad, strict=True)]
    flags = [] if way.mark else [jnp.stack(bad).astype(way.dtype)]
    total = lax.psum(jnp.concatenate([*flat, *flags]), axis_name)
    sums = payload.split(total[: sum(map(math.prod, shapes))], shapes)
    counted = [jnp.any(_past(s.reshape(-1)[:1], way.bound)) for s in sums] if way.mark else list(total[-len(bad) :] > 0)
    return tuple(Spikes(s, (), ~b) for s, b in zip(sums, counted, strict=True))


def _past(sums: jax.Array, bound: int) -> jax.Array:
    return (sums > bound) | (sums < -bound)
