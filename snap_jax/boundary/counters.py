"""Counters that do not wrap, and histograms of spikes.

Invariant: adding counters element by element adds what they count, exactly, up to a million summands and 2^56 in all.

A counter is three digits of base 4096, the lowest first, each in a uint32. A digit has room for a million carries that
nobody carries, so `jnp.add`, `sum`, `lax.psum` and `lax.scan` add counters as they add any array.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int, Num, UInt32

_BASE = 4096
_WEIGHTS = (1, _BASE, _BASE**2)


def counter(number: Any) -> UInt32[Array, "*shape 3"]:
    """Return counters that start at a Python integer, or at an array of integers; none of them negative.

    >>> counter(5 * 2**24 + 4096 + 7).tolist()
    [7, 1, 5]
    """
    digits = (number % _BASE, number // _BASE % _BASE, number // _BASE**2)
    return jnp.stack([jnp.asarray(digit).astype(jnp.uint32) for digit in digits], -1)


def counted(counters: Any) -> Any:
    """Return what counters count: float32 while tracing or where other processes hold a part, else exact int64.

    >>> counted(counter(2**40) + counter(1)).item() - 2**40
    1
    """
    traced = isinstance(counters, Tracer)
    if isinstance(counters, np.ndarray) or (not traced and counters.is_fully_addressable):
        return (np.asarray(counters, np.int64) * _WEIGHTS).sum(-1)
    return (counters.astype(jnp.float32) * jnp.asarray(_WEIGHTS, jnp.float32)).sum(-1)


def ratio(count: Any, total: Any) -> Float[Array, "..."]:
    """Return `count / total` of what `counted` returned; NaN where there is nothing.

    >>> ratio(np.array([1, 0]), np.array([4, 0])).tolist()
    [0.25, nan]
    """
    with np.errstate(invalid="ignore"):
        return jnp.asarray(count / total, jnp.float32)


def histogram(spikes: Num[Array, "..."], symbols: range, columns: int) -> Int[Array, "columns levels"]:
    """Return how often each symbol occurs, apart for the elements `i`, `columns + i`, ... of the flat array.

    Each element adds one to a place in memory, whatever the number of symbols; a comparison and a sum per symbol costs
    hundreds of times as much for 255 (`benchmarks.telemetry_overhead`).

    >>> histogram(jnp.array([[0, 1], [0, 1], [1, 1]]), range(2), columns=2).tolist()
    [[2, 1], [0, 3]]
    """
    levels = len(symbols)
    codes = (spikes.reshape(-1).astype(jnp.int32) - symbols.start) // symbols.step
    places = codes + levels * (jnp.arange(codes.size) % columns)
    return jnp.zeros(columns * levels, jnp.int32).at[places].add(1).reshape(columns, levels)
