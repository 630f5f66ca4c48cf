"""RowRans: entropy coding where rows differ in how widely their symbols spread.

Invariant: `read(write(s)) == s`, whatever the tables and the spread of the rows.

With one step for all tokens, a token with large numbers has large symbols. One table per channel would be a compromise
between all tokens. Here tables form a ladder, each `2**(1/4)` as wide as the one before. A channel has a place on it,
which both sides hold, and a row moves all its channels up or down; how far is one byte of the payload.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from snap_jax.wires import cpu_forms, frequency_tables, interleaved_ans, rans_payload
from snap_jax.wires.base import Shape
from snap_jax.wires.frequency_tables import TOTAL
from snap_jax.wires.rans import Rans
from snap_jax.wires.rans_payload import Draft, LanePlan, plan_of, turned
from snap_jax.wires.symbols import to_codes, to_spikes
from snap_jax.wires.table_choice import OWN, Book

STEPS = 4  # tables to a factor of two in width
_STILL = 128  # the byte of a row that does not move its channels
TABLES = 64
ONE = 32  # the table of symbols whose magnitudes are 1 on average
LANE = 2048  # elements of a lane, at least
_SEEN = 100  # symbols from which a table is made
_SMOOTH = 0.1  # occurrences that are added to each symbol


@dataclasses.dataclass(frozen=True)
class RowRans(Rans):
    """Entropy-coded spikes, whose tables follow the spread of each row; a row is one place of all axes but the last.

    `learned` are the tables of the ladder, narrowest first, and `lists` the places of the channels on it, one list per
    tensor that is sent; `fit` finds both. Tensors with other channels or levels are coded as `Rans` does.

    >>> from snap_jax.wires import pack, unpack
    >>> wide = jnp.arange(512)[:, None] % 16 == 0  # one row in 16
    >>> s = jnp.where(wide, jnp.arange(512 * 64).reshape(512, 64) * 7919 % 31 - 15, 0).astype(jnp.int8)
    >>> wire, symbols = RowRans(**fit([s], range(-15, 16))), range(-15, 16)
    >>> payload = pack(wire, s, symbols)
    >>> pack(Rans(), s, symbols).size / payload.size > 1.2
    True
    >>> bool((unpack(wire, payload, s.shape, symbols) == s).all())
    True
    """

    def code(self, spikes, symbols):
        """The spikes coded, with a byte per row."""
        return _code(spikes, self.book(symbols)) if self._fits(spikes.shape, symbols) else super().code(spikes, symbols)

    def lay_out(self, draft, shape, symbols):
        """The payload of what was coded."""
        if not self._fits(shape, symbols):
            return super().lay_out(draft, shape, symbols)
        most = self.sizes(math.prod(shape), symbols)[-1]
        return rans_payload.lay_out_planned(draft, _plan(shape, len(symbols)), most)

    def read_coded(self, payload, shape, symbols):
        """The spikes of such a payload."""
        fits = self._fits(shape, symbols)
        return _read(payload, shape, self.book(symbols)) if fits else super().read_coded(payload, shape, symbols)

    def _fits(self, shape: Shape, symbols: range) -> bool:
        levels = bool(self.learned) and len(self.learned[0]) == len(symbols)
        return levels and len(shape) > 1 and any(len(places) == shape[-1] for places in self.lists)


def fit(samples: Sequence, symbols: range) -> dict[str, frequency_tables.Rows]:
    """Return `learned` and `lists` of a `RowRans`, from samples of spikes, `[..., channel]`, one per tensor.

    >>> found = fit([np.array([[0, 0], [0, 4]] * 50)], range(-4, 5))
    >>> len(found["lists"]), len(found["lists"][0])
    (1, 2)
    """
    counts, lists = np.zeros((TABLES, len(symbols))), []
    for sample in samples:
        spikes = np.asarray(sample, np.int32).reshape(-1, sample.shape[-1])
        sizes = np.abs(spikes).mean(0) + 1 / len(spikes)
        places = np.clip(np.round(STEPS * np.log2(sizes)).astype(int) + ONE, 0, TABLES - 1)
        where = np.clip(places + np.asarray(_moves(spikes, jnp.asarray(places)))[:, None], 0, TABLES - 1)
        flat = where * len(symbols) + spikes - symbols.start
        counts += np.bincount(flat.ravel(), minlength=counts.size).reshape(counts.shape)
        lists.append(tuple(places.tolist()))
    return {"learned": frequency_tables.rounded(_filled(counts) + _SMOOTH), "lists": tuple(dict.fromkeys(lists))}


def _filled(counts: np.ndarray) -> np.ndarray:
    """Return counts by table, where the nearest table stands in for one that was hardly seen."""
    seen = np.flatnonzero(counts.sum(1) >= min(_SEEN, counts.sum(1).max()))
    return counts[seen[np.abs(np.arange(len(counts))[:, None] - seen).argmin(1)]]


def _moves(spikes, places):
    """Return how far each row moves its channels, from the sum of its magnitudes: int32 `[row]`."""
    expected = jnp.sum(jnp.exp2((places - ONE) / STEPS))
    found = jnp.sum(jnp.abs(spikes.astype(jnp.int32)), axis=-1)
    return jnp.round(STEPS * jnp.log2(jnp.maximum(found, 0.25) / expected)).astype(jnp.int32)


def _plan(shape: Shape, levels: int) -> LanePlan:
    plan = plan_of(shape, levels)
    # Lanes are long, since each costs some 3 bytes, and have elements of all channels, so that they end together.
    most = max(1, plan.size // LANE)
    lanes = next(lanes for lanes in range(most, 0, -1) if math.gcd(lanes, plan.channels) == 1)
    steps = math.ceil(plan.size / lanes)
    return plan._replace(lanes=lanes, steps=steps, tables=plan.size // plan.channels, count_bytes=2)


@functools.partial(jax.jit, static_argnums=1)
def _code(spikes, book: Book) -> Draft:
    levels, plan = len(book.symbols), _plan(spikes.shape, len(book.symbols))
    rows = spikes.reshape(-1, plan.channels)
    lists = book.fitting(plan.channels).astype(jnp.int32)
    moves = jnp.stack([_moves(rows, places) for places in lists])
    moves = jnp.clip(moves + _STILL, 0, 255)
    tables = [_tables(places, move, book) for places, move in zip(lists, moves, strict=True)]
    codes = turned(to_codes(rows, book.symbols), levels - book.zero, levels).reshape(rows.shape)
    entries = cpu_forms.computed_once(book.entries(jnp.arange(len(book.learned))))
    coded = jnp.stack([entries.at[t * levels + codes].get(mode="clip") for t in tables])
    named = jnp.argmin(jnp.sum(jnp.log2(TOTAL / frequency_tables.width_of_entry(coded)), axis=(1, 2)))
    dealt = _dealt(coded[named], plan, entries[0])
    return rans_payload.drafted(named.astype(jnp.uint8), jnp.uint8(OWN), moves[named].astype(jnp.uint8), dealt, plan)


def _tables(places, moves, book: Book):
    """Return the table of each element, uint32 `[row, channel]`."""
    at = places + (moves.astype(jnp.int32) - _STILL)[:, None]
    return jnp.clip(at, 0, len(book.learned) - 1).astype(jnp.uint32)


def _dealt(x, plan: LanePlan, last):
    """Return what belongs to elements as `[step, lane]`, filled up with `last`."""
    filled = plan.steps * plan.lanes - plan.size
    return jnp.pad(x.reshape(-1), (0, filled), constant_values=last).reshape(plan.steps, plan.lanes)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _read(payload, shape: Shape, book: Book):
    levels, plan = len(book.symbols), _plan(shape, len(book.symbols))
    named, _, moves, lanes = rans_payload.parse(payload, plan)
    lists = book.fitting(plan.channels).astype(jnp.int32)
    tables = _tables(lists[jnp.minimum(named, len(lists) - 1)], moves, book)
    direct = _slots(book, levels)
    find = lambda row, slot: direct.at[row * TOTAL + slot].get(mode="clip")  # noqa: E731
    codes = interleaved_ans.decode_rows(*lanes, find, _dealt(tables, plan, 0)).reshape(-1)[: plan.size]
    return to_spikes(turned(codes, book.zero, levels), book.symbols).reshape(shape)


def _slots(book: Book, levels: int):
    """Return the entry at each place of `range(TOTAL)` of each table, flat."""
    count = len(book.learned)
    entries = cpu_forms.computed_once(book.entries(jnp.arange(count)))
    slots = jnp.broadcast_to(jnp.arange(TOTAL, dtype=jnp.uint32), (count, TOTAL))
    first = jnp.broadcast_to(jnp.arange(count, dtype=jnp.uint32)[:, None] * levels, slots.shape)
    direct = frequency_tables.search(entries, first, slots, levels).reshape(-1)
    return lax.optimization_barrier(direct)
