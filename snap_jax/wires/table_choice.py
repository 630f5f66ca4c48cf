"""Which frequency tables a tensor is coded with.

Invariant: any choice can be decoded; a payload names the tables it was coded with.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from snap_jax.wires import frequency_tables

OWN = 1  # how tables are named: 0 is one for all, 1 one for each channel, from 2 on a list
SAMPLE = 2**16  # elements that are counted, at least
SAMPLE_ROWS = 1024  # of each channel
COLUMNS = 64  # that are counted side by side, at least
MOST_ONE_HOT = 32  # levels that are counted one after the other


class Book(NamedTuple):
    """Frequency tables, and lists of them, that both sides hold."""

    symbols: range
    learned: frequency_tables.Rows = ()
    lists: frequency_tables.Rows = ()

    @property
    def edges(self):
        """The `frequency_tables.edges` of each table."""
        return jnp.asarray(frequency_tables.edges(len(self.symbols), self.symbols.start, self.learned))

    @property
    def zero(self) -> int:
        """The level of the symbol 0."""
        return frequency_tables.zero_level(len(self.symbols), self.symbols.start)

    def fitting(self, tables: int):
        """Return the lists for a tensor of so many tables: uint8 `[list, table]`."""
        fit = [names for names in self.lists if len(names) == tables]
        return jnp.asarray(fit, jnp.uint8).reshape(len(fit), tables)

    def names(self, one, how, own):
        """Return the table of each channel: of the way `how`, given the table for all and those of the channels."""
        ways = [jnp.broadcast_to(one, own.shape), own, *self.fitting(own.size)]
        return jnp.stack(ways)[jnp.minimum(how, len(ways) - 1)]

    def entries(self, names):
        """Return the `frequency_tables.entries` of the tables named, flat."""
        return frequency_tables.entries(self.edges[names]).reshape(-1)

    def cost(self, counts):
        """Return the bits of rows of symbol counts under each table: `[table, row]`."""
        return frequency_tables.cost(counts, len(self.symbols), self.symbols.start, self.learned)


def histogram(codes, together: int, levels: int):
    """Return how often each level occurs for each table, `[table, level]`, in a sample of rows `[row, channel]`."""
    channels = codes.shape[1]
    fold = min(len(codes), math.ceil(COLUMNS / channels))
    rows = codes[: len(codes) // fold * fold].reshape(-1, fold * channels)
    stride = len(rows) // max(SAMPLE_ROWS // fold, SAMPLE // rows.shape[1], 1) | 1
    counts = _count(rows[::stride], levels).reshape(fold, channels, levels).sum(0)
    return jnp.pad(counts, ((0, -channels % together), (0, 0))).reshape(-1, together, levels).sum(1)


def _count(rows, levels: int):
    """Return int32 `[column, level]`."""
    if levels <= MOST_ONE_HOT:
        return jnp.sum(rows[None] == jnp.arange(levels, dtype=rows.dtype)[:, None, None], axis=1, dtype=jnp.int32).T
    column = jnp.arange(rows.shape[1], dtype=jnp.int32)
    return jnp.zeros((rows.shape[1], levels), jnp.int32).at[column, rows.astype(jnp.int32)].add(1)


def choose(counts, rows: int, book: Book):
    """Return the table that is named, how, and the table of each channel: the way that takes the fewest bits."""
    one, least = _cheapest(book.cost(counts.sum(0, keepdims=True)))
    each, tables = book.cost(counts), len(counts)
    own, bits_of_own = _cheapest(each)
    one, bits, how = one[0], least[0], jnp.uint8(0)
    sampled = counts.sum() / (rows * tables)
    ways = [bits_of_own.sum() + 8 * tables * sampled] if tables > 1 else [jnp.inf]
    ways += [each[names, jnp.arange(tables)].sum() for names in book.fitting(tables)]
    for way, bits_of_way in enumerate(ways, OWN):
        bits, how = jnp.minimum(bits, bits_of_way), jnp.where(bits_of_way < bits, jnp.uint8(way), how)
    return one, how, book.names(one, how, own)


def _cheapest(cost):
    """Return the table with the least of `[table, row]` for each row, and that cost.

    The number of the table stands in the low 8 of the 24 bits of a float's fraction: one minimum of integers along the
    tables vectorizes, `argmin` takes five times as long. A table may so cost 2^-15 more than the best.
    """
    number = jnp.arange(len(cost), dtype=jnp.uint32)[:, None]
    least = (lax.bitcast_convert_type(cost, jnp.uint32) & ~jnp.uint32(255) | number).min(0)
    return (least & 255).astype(jnp.uint8), lax.bitcast_convert_type(least & ~jnp.uint32(255), jnp.float32)
