"""Rans: entropy coding, for symbols that are neither sparse nor equally likely.

Invariant: a payload takes the bits of its symbols under the tables chosen for it, `sum log2(TOTAL / frequency)`, two to
four bytes per lane and two more. Where that is no gain, the largest size is `Packed`.

A payload is a string of 16-bit words: a table and how it is meant, the states of the lanes, the tables of the channels
if that saves more than the byte that names each, and what the lanes put out. Element n belongs to lane n mod L. One
table serves the whole tensor, or each channel names its own, or both sides hold a list of tables that is named instead.
"""

import dataclasses
import functools
import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from snap_jax.errors import UsageError
from snap_jax.wires import bitstring, frequency_tables, interleaved_ans, size_grid
from snap_jax.wires.base import Shape, Wire, require_offsets
from snap_jax.wires.packed import Packed
from snap_jax.wires.symbols import code_dtype, to_codes, to_spikes

LANE = 2048  # elements a lane has, at least
ROWS = 64  # elements that share a table, at least
MOST_LEVELS = 256
LEAST_BYTES = 64  # a tensor that packs into this has one size
_NAME = 1  # words of the head: one, then the states
_OWN = 1  # how tables are named: 0 is one for all, 1 one for each channel, from 2 on a list


@dataclasses.dataclass(frozen=True)
class Rans(Wire):
    """Entropy-coded spikes, in payloads of many sizes.

    Attributes:
      ratio: of the bytes of neighboring sizes, which start at those of `Packed` and go down; each is a collective of
        its own in the compiled program. `None` takes `size_grid.sizes`, 1/128 of `Packed` apart, from few collectives.
      least: share of the bytes of `Packed` where they end.
      learned: frequency tables that were fitted to such spikes (`frequency_tables.fit`) and that both sides hold.
        Without, and for tensors with another number of levels, the built-in tables serve.
      lists: tables of the channels, by place in `learned`, that both sides hold: naming a list takes no more bytes than
        naming one table. Tensors with another number of channels cannot use them.

    Raises:
      UsageError: unless `ratio > 1` and `0 < least < 1`; for more than 255 sizes, or 253 lists.

    >>> from snap_jax.wires import pack, unpack
    >>> wire, s = Rans(), (jnp.arange(4096) % 16 == 0).astype(jnp.int8)
    >>> payload = pack(wire, s, range(-3, 4))
    >>> wire.sizes(4096, range(-3, 4))[-1], payload.size  # 0.34 bits per spike, rounded up to the next size
    (1536, 240)
    >>> bool((unpack(wire, payload, s.shape, range(-3, 4)) == s).all())
    True
    """

    ratio: float | None = None
    least: float = 1 / 32
    learned: frequency_tables.Rows = ()
    lists: frequency_tables.Rows = ()

    def __post_init__(self):
        ratio = 2.0 if self.ratio is None else self.ratio
        if not (ratio > 1 and 0 < self.least < 1):
            raise UsageError(f"Rans: ratio={self.ratio}, least={self.least}: use ratio > 1 and 0 < least < 1")
        if -math.log(self.least) / math.log(ratio) > 254:
            raise UsageError(
                f"Rans: ratio={self.ratio} from least={self.least} on needs more than 255 sizes: raise one"
            )
        if len(self.lists) > 253 or any(not 0 <= name < len(self.learned) for names in self.lists for name in names):
            raise UsageError(
                f"Rans: {len(self.lists)} lists of {len(self.learned)} learned tables: use at most 253, of their places"
            )

    def sizes(self, size, symbols):
        """The bytes of `Packed`, and downwards to its share `least`."""
        (most,) = Packed().sizes(size, symbols)
        require_offsets(self, size, 0)
        if most <= LEAST_BYTES or not 1 < len(symbols) <= MOST_LEVELS:
            return (most,)
        if self.ratio is None:
            return tuple(nbytes for nbytes in size_grid.sizes(most) if nbytes >= self.least * most)
        steps = itertools.takewhile(lambda share: share >= self.least, (self.ratio**-i for i in itertools.count()))
        return tuple(sorted({math.ceil(most * share) for share in steps}))

    def book(self, symbols: range) -> "_Book":
        """Return the tables that both sides hold, for so many levels."""
        fits = self.learned and len(self.learned[0]) == len(symbols)
        return _Book(symbols, self.learned, self.lists) if fits else _Book(symbols)

    def rung(self, spikes, symbols):
        """The first whose bytes suffice."""
        return self.draft(spikes, symbols)[0]

    def write(self, spikes, symbols, rung):
        """The payload of the rung, in the space of the largest size."""
        largest = len(self.sizes(spikes.size, symbols)) - 1
        draft = (spikes, None) if isinstance(rung, int) and rung == largest else self.draft(spikes, symbols)[1]
        return self.write_draft(draft, symbols, rung)

    def draft(self, spikes, symbols):
        """Code the spikes once: the number of words says which size they take."""
        sizes = self.sizes(spikes.size, symbols)
        if len(sizes) == 1:
            return jnp.zeros((), jnp.uint8), (spikes, None)
        coded = _code(spikes, self.book(symbols))
        rung = jnp.sum(2 * coded.words > jnp.asarray(sizes[:-1], jnp.int32)).astype(jnp.uint8)
        return rung, (spikes, coded)

    def write_draft(self, draft, symbols, rung):
        """The payload, from what was coded already."""
        spikes, coded = draft
        sizes = self.sizes(spikes.size, symbols)
        packed = lambda spikes, _: Packed().write(spikes, symbols, 0)  # noqa: E731
        if coded is None:
            return packed(spikes, None)
        lay_out = functools.partial(_lay_out, nbytes=sizes[-1])
        return lax.cond(jnp.asarray(rung) == len(sizes) - 1, packed, lay_out, spikes, coded)

    def read(self, payload, shape, symbols, rung):
        """The spikes that `write` was given."""
        largest = len(self.sizes(math.prod(shape), symbols)) - 1
        packed = lambda payload: Packed().read(payload, shape, symbols, 0)  # noqa: E731
        if (isinstance(rung, int) and rung == largest) or not largest:
            return packed(payload)
        coded = functools.partial(_read, shape=shape, book=self.book(symbols))
        return lax.cond(rung == largest, packed, coded, payload)


class _Book(NamedTuple):
    """Frequency tables, and lists of them, that both sides hold."""

    symbols: range
    learned: frequency_tables.Rows = ()
    lists: frequency_tables.Rows = ()

    @property
    def edges(self):
        """The `frequency_tables.edges` of each table."""
        return jnp.asarray(frequency_tables.edges(len(self.symbols), self.symbols.start, self.learned))

    def fitting(self, tables: int):
        """Return the lists for a tensor of so many tables: int32 `[list, table]`."""
        fit = [names for names in self.lists if len(names) == tables]
        return jnp.asarray(fit, jnp.int32).reshape(len(fit), tables)

    def cost(self, counts):
        """Return the bits of rows of symbol counts under each table: `[row, table]`."""
        return frequency_tables.cost(counts, len(self.symbols), self.symbols.start, self.learned)


class _Plan(NamedTuple):
    """How the elements of a tensor are assigned to lanes and tables.

    Attributes:
      size: elements.
      lanes: states side by side.
      steps: symbols of each.
      channels: size of the last axis; neighbors may share a table.
      together: how many of them do.
      tables: how many there are.
    """

    size: int
    lanes: int
    steps: int
    channels: int
    together: int
    tables: int

    @property
    def head(self) -> int:
        """Words before the tables of the channels."""
        return _NAME + interleaved_ans.STATE_WORDS * self.lanes

    @property
    def name_words(self) -> int:
        """Words of the tables of the channels."""
        return math.ceil(self.tables / 2)

    def owner(self, number):
        """Return the table of each element."""
        return number % self.channels // self.together


def _plan(shape: Shape) -> _Plan:
    size = math.prod(shape)
    count = 2 ** (max(1, size // LANE).bit_length() - 1)
    channels = shape[-1] if len(shape) > 1 else 1
    together = min(channels, math.ceil(ROWS * channels / size))
    return _Plan(size, count, math.ceil(size / count), channels, together, math.ceil(channels / together))


class _Draft(NamedTuple):
    """A payload before it is laid out; `words` is its length, `how` tables are named, `named` the first byte."""

    named: jax.Array
    how: jax.Array
    names: jax.Array
    coded: interleaved_ans.Coded
    words: jax.Array


def _code(spikes, book: _Book) -> _Draft:
    plan, codes = _plan(spikes.shape), to_codes(spikes, book.symbols).astype(jnp.int32)
    owner = plan.owner(jnp.arange(plan.size, dtype=jnp.int32))
    named, how, names = _choose(jnp.zeros((plan.tables, len(book.symbols)), jnp.int32).at[owner, codes].add(1), book)
    edges = book.edges[names]
    place = codes if plan.tables == 1 else owner * edges.shape[1] + codes
    begin, end = edges.reshape(-1)[place], edges.reshape(-1)[place + 1]
    coded = interleaved_ans.encode(_deal(begin, plan, 0), _deal(end - begin, plan, frequency_tables.TOTAL))
    return _Draft(named, how, names, coded, plan.head + jnp.where(how == _OWN, plan.name_words, 0) + coded.total)


def _choose(counts, book: _Book):
    """Return the table that is named, how, and the table of each channel: the way that takes the fewest bits."""
    cost, tables = book.cost(counts), jnp.arange(len(counts))
    together, lists = cost.sum(0), book.fitting(len(counts))
    own_bits = cost.min(-1).sum() + 16 * math.ceil(len(counts) / 2) if len(counts) > 1 else jnp.inf
    bits_of_ways = jnp.stack([together.min(), own_bits, *(cost[tables, names].sum() for names in lists)])
    how = jnp.argmin(bits_of_ways).astype(jnp.uint8)
    one, own = together.argmin(), cost.argmin(-1)
    names = jnp.stack([jnp.broadcast_to(one, own.shape), own, *lists])[how]
    return one.astype(jnp.uint8), how, names.astype(jnp.uint8)


def _deal(flat, plan: _Plan, filler: int):
    return jnp.pad(flat, (0, plan.steps * plan.lanes - plan.size), constant_values=filler).reshape(
        plan.steps, plan.lanes
    )


def _lay_out(spikes, draft: _Draft, nbytes: int):
    plan = _plan(spikes.shape)
    room = max(math.ceil(nbytes / 2), plan.head + plan.name_words)
    place = jnp.where(draft.coded.out, draft.words - draft.coded.total + draft.coded.place, room)
    string = jnp.zeros(room, jnp.uint16).at[place].set(draft.coded.words, mode="drop")
    names = _as_words(jnp.pad(draft.names, (0, -plan.tables % 2)))
    tables = slice(plan.head, plan.head + plan.name_words)
    string = string.at[tables].set(jnp.where(draft.how == _OWN, names, string[tables]))
    head = jnp.stack([draft.named, draft.how])
    string = string.at[: plan.head].set(jnp.concatenate([_as_words(head), _as_words(draft.coded.states)]))
    return bitstring.to_bytes(string)[:nbytes]


def _read(payload, shape: Shape, book: _Book):
    plan = _plan(shape)
    string = _as_words(jnp.pad(payload, (0, max(payload.size % 2, 2 * (plan.head + plan.name_words) - payload.size))))
    (one, how), states = (
        bitstring.to_bytes(string[:1]),
        lax.bitcast_convert_type(string[1 : plan.head].reshape(-1, 2), "uint32"),
    )
    own = bitstring.to_bytes(string[plan.head : plan.head + plan.name_words])[: plan.tables]
    ways = [jnp.broadcast_to(one, own.shape), own, *book.fitting(plan.tables).astype(jnp.uint8)]
    edges = book.edges[jnp.stack(ways)[jnp.minimum(how, len(ways) - 1)]]

    def edges_of(step: jax.Array) -> jax.Array:
        number = step * plan.lanes + jnp.arange(plan.lanes, dtype=jnp.int32)
        whole = jnp.zeros(len(book.symbols) + 1, jnp.int32).at[1:].set(frequency_tables.TOTAL)
        return jnp.where(number[:, None] < plan.size, edges[plan.owner(number)], whole)

    first = plan.head + jnp.where(how == _OWN, plan.name_words, 0)
    codes = interleaved_ans.decode(states, string, first, plan.steps, edges_of).reshape(-1)[: plan.size]
    return to_spikes(codes.astype(code_dtype(len(book.symbols))), book.symbols).reshape(shape)


def _as_words(x):
    """Return bytes or wider words as 16-bit words."""
    return lax.bitcast_convert_type(x.reshape(-1, 2) if x.dtype == jnp.uint8 else x, jnp.uint16).reshape(-1)
