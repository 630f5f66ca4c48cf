"""Interleaved asymmetric numeral systems: many entropy coders side by side, each with words of its own.

Invariant: `decode` returns the symbols that `encode` was given, and takes exactly the words that `encode` wrote.

Range asymmetric numeral systems (Duda 2013, arXiv:1311.2540), interleaved (Giesen 2014, arXiv:1402.3392). A state x
below 2^32 takes in a symbol whose interval is `begin, width` of TOTAL, `x -> (x // width) TOTAL + x % width + begin`,
after its low 16 bits have gone out if it would grow too large. It starts at 0, so the first 16 to 32 bits of a lane
take no word. The decoder reads in reverse, so the encoder runs backwards. A lane reads a word when its state is below
2^16 and it has words left.

No step looks from one lane to another. So a step is one loop over the lanes that vectorizes.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from snap_jax._compat import as_varying, varying_axes
from snap_jax.wires import bitstring, cpu_forms
from snap_jax.wires.frequency_tables import PRECISION, begin_of, width_of_entry

FULL = 2**16  # a state from here on reads no word
Find = Callable[[jax.Array, jax.Array], jax.Array]


class Coded(NamedTuple):
    """What all lanes wrote.

    Attributes:
      states: uint32 `[lane]`, where the decoder starts.
      counts: int32 `[lane]`, words of each.
      words: uint16 `[step, lane]`.
      number: int16, which of its lane's words each is, counted as they were written; -1 if none was.
    """

    states: jax.Array
    counts: jax.Array
    words: jax.Array
    number: jax.Array


def encode(entries: jax.Array) -> Coded:
    """Code the symbols of `frequency_tables.entries`, uint32 `[step, lane]`."""

    def step(carry: tuple[jax.Array, jax.Array], entry: jax.Array):
        x, count = carry
        width = width_of_entry(entry)
        out = x >> (32 - PRECISION) >= width
        word, x = x.astype(jnp.uint16), jnp.where(out, x >> 16, x)
        quotient, rest = _divide(x, width)
        x = (quotient << PRECISION) + rest + begin_of(entry)
        return (x, count + out.astype(jnp.int32)), (word, jnp.where(out, count, -1).astype(jnp.int16))

    lanes = entries.shape[1]
    axes = tuple(varying_axes(entries))
    empty = as_varying(jnp.zeros(lanes, jnp.uint32), axes), as_varying(jnp.zeros(lanes, jnp.int32), axes)
    (states, counts), (words, number) = lax.scan(step, empty, entries, reverse=True)
    return Coded(states, counts, words, number)


def _divide(x, width):
    """Return quotient and rest of uint32 by a width up to 2^12; the quotient is below 2^20.

    By floats, which vectorize: the quotient in float32 is off by one at most, and is corrected.
    """
    quotient = (x.astype(jnp.float32) / width.astype(jnp.float32)).astype(jnp.int32).astype(jnp.uint32)
    rest, size = (x - quotient * width).astype(jnp.int32), width.astype(jnp.int32)
    low, high = rest < 0, rest >= size
    quotient = jnp.where(low, quotient - 1, jnp.where(high, quotient + 1, quotient))
    return quotient, jnp.where(low, rest + size, jnp.where(high, rest - size, rest)).astype(jnp.uint32)


def gather(coded: Coded, room: int) -> jax.Array:
    """Return the words of all lanes, one lane after the other, in a string of `room` words."""
    first = cpu_forms.computed_once(bitstring.starts(coded.counts))
    place = jnp.where(coded.number < 0, -1, first[None] + coded.number.astype(jnp.int32))
    return cpu_forms.placed(coded.words.reshape(-1), place.reshape(-1), room)


def decode(states, ends, string, steps: int, find: Find, rows) -> jax.Array:
    """Return the symbols, uint8 `[step, lane]`, of the words that `gather` returned; those of a lane end at `ends`.

    `find(row, slot)` returns the entry of each lane's symbol, given its place in `range(TOTAL)` and the row of its
    table; `rows` are those of the first step, what they grow by with each, and where they start again.
    """
    row, stride, period = rows
    take, carry = _taker(states, ends, string, find)
    row = as_varying(row, tuple(varying_axes(states)))

    def step(carry: tuple[tuple[jax.Array, jax.Array], jax.Array], _: None):
        lanes, row = carry
        lanes, symbol = take(lanes, row)
        return (lanes, jnp.where(row + stride < period, row + stride, row + stride - period)), symbol

    return lax.scan(step, (carry, row), None, length=steps)[1]


def decode_rows(states, ends, string, find: Find, rows) -> jax.Array:
    """Return what `decode` does, where each symbol has a table of its own: `rows` is `[step, lane]`."""
    take, carry = _taker(states, ends, string, find)
    return lax.scan(take, carry, rows)[1]


def _taker(states, ends, string, find: Find):
    """Return the function that takes one symbol of each lane, given the row of its table; and what it starts with."""
    ends = ends.astype(jnp.uint32)
    first = jnp.pad(ends[:-1], (1, 0))

    def take(carry: tuple[jax.Array, jax.Array], row: jax.Array):
        x, end = carry
        slot = x & (2**PRECISION - 1)
        entry = find(row, slot)
        x = width_of_entry(entry) * (x >> PRECISION) + slot - begin_of(entry)
        short = (x < FULL) & (end > first)
        end = end - short.astype(jnp.uint32)
        word = string.at[end].get(mode="clip")
        return (jnp.where(short, x << 16 | word.astype(jnp.uint32), x), end), entry.astype(jnp.uint8)

    return take, (states, ends)
