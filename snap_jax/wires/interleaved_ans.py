"""Interleaved asymmetric numeral systems: many entropy coders side by side that write to one string.

Invariant: `decode` returns what `encode` was given, and takes exactly the words that `encode` wrote.

Range asymmetric numeral systems (Duda 2013, arXiv:1311.2540), interleaved (Giesen 2014, arXiv:1402.3392). A state x in
[2^16, 2^32) takes in a symbol whose interval is `begin, width` of TOTAL, `x -> (x // width) TOTAL + x % width + begin`,
after its low 16 bits have gone out if it would grow too large. The decoder reads in reverse, so the encoder
runs backwards.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from snap_jax._compat import as_varying, varying_axes
from snap_jax.wires import bitstring
from snap_jax.wires.frequency_tables import PRECISION, TOTAL

EMPTY = 2**16  # the state of a lane that holds nothing
STATE_WORDS = 2


class Coded(NamedTuple):
    """What all lanes wrote.

    Attributes:
      states: uint32 `[lane]`, where the decoder starts.
      words: uint16 `[step * lane]`, the words.
      place: int32, where each belongs in the string; the decoder reads it in this order.
      out: whether the word was written.
      total: how many were written.
    """

    states: jax.Array
    words: jax.Array
    place: jax.Array
    out: jax.Array
    total: jax.Array


def encode(begin: jax.Array, width: jax.Array) -> Coded:
    """Code intervals `[step, lane]`; one of width TOTAL takes no bits."""

    def step(x: jax.Array, interval: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        begin, width = interval
        out = x >> (32 - PRECISION) >= width
        word, x = x.astype(jnp.uint16), jnp.where(out, x >> 16, x)
        whole = x // width
        return (whole << PRECISION) + (x - whole * width) + begin, (out, word)

    empty = as_varying(jnp.full(begin.shape[1], EMPTY, jnp.uint32), tuple(varying_axes(begin)))
    intervals = begin.astype(jnp.uint32), width.astype(jnp.uint32)
    states, (out, words) = lax.scan(step, empty, intervals, reverse=True)
    out = out.reshape(-1)
    place = bitstring.starts(out.astype(jnp.int32))
    return Coded(states, words.reshape(-1), place, out, place[-1] + out[-1])


def decode(states: jax.Array, string: jax.Array, first: jax.Array, steps: int, edges: Callable) -> jax.Array:
    """Return the symbols `[step, lane]` of what `encode` wrote from `first` on in the string of 16-bit words.

    `edges(step)` returns for each lane where the interval of each symbol begins, and TOTAL: `[lane, symbol + 1]`.
    """

    def step(carry: tuple[jax.Array, jax.Array], t: jax.Array) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        x, place = carry
        slot, bounds = (x % TOTAL).astype(jnp.int32), edges(t)
        symbol = jnp.sum(slot[:, None] >= bounds[:, 1:-1], axis=1, dtype=jnp.int32)
        begin, end = (jnp.take_along_axis(bounds, symbol[:, None] + i, axis=1)[:, 0] for i in (0, 1))
        x = (end - begin).astype(jnp.uint32) * (x >> PRECISION) + (slot - begin).astype(jnp.uint32)
        short = x < EMPTY
        behind = place + jnp.cumsum(short, dtype=jnp.int32)
        word = string[jnp.clip(behind - 1, 0, string.size - 1)]
        return (jnp.where(short, x << 16 | word, x), behind[-1]), symbol

    first = as_varying(jnp.asarray(first, jnp.int32), tuple(varying_axes(states)))
    return lax.scan(step, (states, first), jnp.arange(steps))[1]
