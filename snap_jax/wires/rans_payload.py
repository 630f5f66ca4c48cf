"""The payload of `Rans`: a table and how it is meant, the lanes, the tables of the channels, and the words.

Invariant: `read` returns the spikes of what `code` and `lay_out` wrote.

Bytes: the table and how tables are named; words of each lane; states of the lanes, their lowest bytes first; the tables
of the channels if that saves more than the byte that names each; the low bytes of all words, then their high bytes.
Element n belongs to lane n mod L. One table serves the whole tensor, or each channel names its own, or both sides hold
a list of tables that is named instead. Nothing here depends on bytes being neighbors, so no layout `[n, 4]` occurs.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from snap_jax.wires import bitstring, cpu_forms, frequency_tables, interleaved_ans
from snap_jax.wires.base import Shape
from snap_jax.wires.frequency_tables import TOTAL
from snap_jax.wires.symbols import to_codes, to_spikes, width_of
from snap_jax.wires.table_choice import OWN, Book, choose, histogram

LANE_BITS = 2560  # what a lane takes at least, packed: it costs about 20 bits more than the entropy
LANE = 512  # elements it has at least: those of many levels may still be few bits
ROWS = 64  # elements that share a table, at least
MOST_SLOTS = 2**18  # entries of tables that say which symbol a slot has: 1 MB
TOO_MANY = 2**30  # bytes that fit nowhere
_STATE = 4


class LanePlan(NamedTuple):
    """How the elements of a tensor are assigned to lanes and tables.

    Attributes:
      size: elements.
      lanes: states side by side.
      steps: symbols of each.
      channels: size of the last axis; neighbors may share a table.
      together: how many of them do.
      tables: how many there are.
      count_bytes: of the number of words of a lane.
    """

    size: int
    lanes: int
    steps: int
    channels: int
    together: int
    tables: int
    count_bytes: int = 1

    @property
    def head(self) -> int:
        """Bytes before the tables of the channels."""
        return 2 + (self.count_bytes + _STATE) * self.lanes


def plan_of(shape: Shape, levels: int) -> LanePlan:
    """Return how the elements of a tensor are assigned."""
    size = math.prod(shape)
    lanes = max(1, size // max(LANE, LANE_BITS // width_of(levels)))
    channels = shape[-1] if len(shape) > 1 else 1
    together = min(channels, math.ceil(ROWS * channels / size))
    return LanePlan(size, lanes, math.ceil(size / lanes), channels, together, math.ceil(channels / together))


class Draft(NamedTuple):
    """A payload before it is laid out.

    Attributes:
      named: the first byte, a table or nothing.
      how: tables are named, the second byte.
      names: the table of each channel.
      coded: the lanes.
      nbytes: its length.
    """

    named: jax.Array
    how: jax.Array
    names: jax.Array
    coded: interleaved_ans.Coded
    nbytes: jax.Array


@functools.partial(jax.jit, static_argnums=1)
def code(spikes, book: Book) -> Draft:
    """Choose tables for the spikes and code them."""
    levels = len(book.symbols)
    plan = plan_of(spikes.shape, levels)
    codes = turned(to_codes(spikes, book.symbols), levels - book.zero, levels).reshape(-1, plan.channels)
    named, how, names = choose(histogram(codes, plan.together, levels), codes.shape[0], book)
    return drafted(named, how, names, _entries_of(codes.reshape(-1), plan, book, names), plan)


def drafted(named, how, names, entries, plan: LanePlan) -> Draft:
    """Code entries `[step, lane]`, and say how long the payload gets."""
    coded = interleaved_ans.encode(entries)
    words, full = jnp.stack([coded.counts, (coded.counts >= 256**plan.count_bytes).astype(jnp.int32)]).sum(1)
    nbytes = plan.head + jnp.where(how == OWN, plan.tables, 0) + 2 * words
    return Draft(named, how, names, coded, jnp.where(full > 0, TOO_MANY, nbytes))


def _entries_of(codes, plan: LanePlan, book: Book, names):
    """Return the entry of each code, `[step, lane]`; at the end level 0, which takes no bits where a lane starts."""
    entries, levels = cpu_forms.computed_once(book.entries(names)), len(book.symbols)
    dealt = jnp.pad(codes, (0, plan.steps * plan.lanes - plan.size)).reshape(plan.steps, plan.lanes)
    number = jnp.arange(dealt.size, dtype=jnp.uint32).reshape(dealt.shape)
    return entries.at[number % plan.channels // plan.together * levels + dealt.astype(jnp.uint32)].get(mode="clip")


def turned(codes, turn: int, levels: int):
    """Return `(codes + turn) % levels`."""
    return (codes + jnp.where(codes < levels - turn, turn, turn - levels)).astype(codes.dtype)


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def lay_out(draft: Draft, shape: Shape, levels: int, most: int):
    """Return the payload, followed by unused bytes up to `most`."""
    return lay_out_planned(draft, plan_of(shape, levels), most)


def lay_out_planned(draft: Draft, plan: LanePlan, most: int):
    """Return the payload of a plan, followed by unused bytes up to `most`."""
    coded = draft.coded
    named = plan.head + plan.tables
    room = max(1, most // 2)
    count, first = coded.counts.sum(), jnp.where(draft.how == OWN, named, plan.head)
    place = jnp.arange(max(most, named), dtype=jnp.int32) - first
    which = jnp.where(place < count, place, place - count).astype(jnp.uint32)
    word = interleaved_ans.gather(coded, room).at[which].get(mode="clip")
    words = jnp.where(place < count, word, word >> 8).astype(jnp.uint8)
    counts = [coded.counts >> (8 * i) for i in range(plan.count_bytes)]
    states = [coded.states >> (8 * i) for i in range(_STATE)]
    head = [jnp.stack([draft.named, draft.how]), *counts, *states, draft.names]
    head = jnp.concatenate([part.astype(jnp.uint8) for part in head])
    return jnp.where(place < 0, jnp.pad(head, (0, place.size - named)), words)[:most]


@functools.partial(jax.jit, static_argnums=(1, 2))
def read(payload, shape: Shape, book: Book):
    """Return the spikes of a payload."""
    levels = len(book.symbols)
    plan = plan_of(shape, levels)
    named, how, own, lanes = parse(payload, plan)
    find, (row, stride, period) = _finder(plan, book, book.names(named, how, own))
    one = how == 0  # then all channels have the table of the first
    rows = jnp.where(one, 0, row), jnp.where(one, 0, stride).astype(jnp.uint32), period
    codes = interleaved_ans.decode(*lanes, plan.steps, find, rows).reshape(-1)[: plan.size]
    return to_spikes(turned(codes, book.zero, levels), book.symbols).reshape(shape)


def parse(payload, plan: LanePlan):
    """Return the first two bytes of a payload, the tables of the channels; and states, ends and words of the lanes."""
    most = payload.size
    string = jnp.pad(payload, (0, plan.head + plan.tables + most // 2))
    of_lanes = [string[2 + i * plan.lanes :][: plan.lanes] for i in range(plan.count_bytes + _STATE)]
    counts, state = _joined(of_lanes[: plan.count_bytes]), _joined(of_lanes[plan.count_bytes :])
    how, own = string[1], string[plan.head :][: plan.tables]
    first = plan.head + jnp.where(how == OWN, plan.tables, 0)
    ends = bitstring.running(jnp.sum, counts.astype(jnp.int32))
    low, high = (lax.dynamic_slice(string, (place,), (most // 2,)) for place in (first, first + ends[-1]))
    return string[0], how, own, (state, ends, low.astype(jnp.uint16) | high.astype(jnp.uint16) << 8)


def _joined(parts):
    """Return numbers, uint32, given their bytes from the lowest on."""
    return functools.reduce(jnp.bitwise_or, [part.astype(jnp.uint32) << (8 * i) for i, part in enumerate(parts)])


def _finder(plan: LanePlan, book: Book, names):
    """Return the function that finds entries, and the rows of the channels, for `interleaved_ans.decode`.

    In a table of all slots, where that stays in the cache and is read four times as often as written; else by halving.
    """
    levels, channel = len(book.symbols), jnp.arange(plan.channels, dtype=jnp.uint32)
    entries = book.entries(names[channel // plan.together])
    find, stride = functools.partial(frequency_tables.search, entries, levels=levels), levels
    if plan.tables * TOTAL <= min(plan.size // 4, MOST_SLOTS):
        find = functools.partial(frequency_tables.search, cpu_forms.computed_once(entries), levels=levels)
        slots = jnp.broadcast_to(jnp.arange(TOTAL, dtype=jnp.uint32), (plan.tables, TOTAL))
        direct = find(jnp.broadcast_to(channel[:, None] * levels, slots.shape), slots).reshape(-1)
        find, stride = lambda row, slot: direct.at[row + slot].get(mode="clip"), TOTAL
    row = jnp.arange(plan.lanes, dtype=jnp.uint32) % plan.channels * stride
    return find, (row, plan.lanes % plan.channels * stride, plan.channels * stride)
