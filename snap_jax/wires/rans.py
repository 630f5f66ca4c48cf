"""Rans: entropy coding, for symbols that are neither sparse nor all as likely.

Law: a payload takes the bits of its symbols under the tables chosen for it, `sum log2(TOTAL / frequency)`, two to four
bytes a lane and two more; where that is no gain, the last rung is `Packed`.

A string of 16-bit words: the table of the whole tensor, the states of the lanes, the tables of the channels if that
saves more than the byte that names each, and what the lanes put out. Element n belongs to lane n mod L.
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
from snap_jax.wires import bits, frequencies, lanes
from snap_jax.wires.base import Shape
from snap_jax.wires.codes import code_dtype, to_codes, to_spikes
from snap_jax.wires.packed import Packed
from snap_jax.wires.stepped import Stepped

LANE = 2048  # elements a lane has, at least
ROWS = 64  # elements that share a table, at least
MOST_LEVELS = 256
LEAST_BYTES = 64  # a tensor that packs into this has one rung
_NAME = 1  # words of the head: one, then the states


@dataclasses.dataclass(frozen=True)
class Rans(Stepped):
    """Entropy-coded spikes, in payloads on a geometric grid of sizes.

    Attributes:
      ratio: of the bytes of neighbouring rungs, which start at those of `Packed` and go down.
      least: share of the bytes of `Packed` where they end.
      learned: tables that were fitted to such spikes (`frequencies.fit`), for a book that both sides hold; without, the
        book is one for everybody. Tensors with another number of levels take that one.

    Raises:
      UsageError: unless `ratio > 1` and `0 < least < 1`; for more than 255 rungs.

    >>> wire, s = Rans(), (jnp.arange(4096) % 16 == 0).astype(jnp.int8)
    >>> wire.nbytes(4096, range(-3, 4)), wire.pack(s, range(-3, 4)).size  # 0.34 bits a spike, one rung up
    (1536, 219)
    >>> bool((wire.unpack(wire.pack(s, range(-3, 4)), s.shape, range(-3, 4)) == s).all())
    True
    """

    ratio: float = 1.05
    least: float = 1 / 32
    learned: frequencies.Rows = ()

    def __post_init__(self):
        if not (self.ratio > 1 and 0 < self.least < 1):
            raise UsageError(f"Rans: ratio={self.ratio}, least={self.least}: use ratio > 1 and 0 < least < 1")
        if -math.log(self.least) / math.log(self.ratio) > 254:
            raise UsageError(
                f"Rans: ratio={self.ratio} from least={self.least} on needs more than 255 rungs: raise one"
            )

    def last(self, size, symbols):
        """`Packed`."""
        return Packed()

    def sizes(self, size, symbols):
        """The bytes of `Packed`, and downwards by `ratio`."""
        most = Packed().nbytes(size, symbols)
        if most <= LEAST_BYTES or not 1 < len(symbols) <= MOST_LEVELS:
            return (most,)
        steps = itertools.takewhile(lambda share: share >= self.least, (self.ratio**-i for i in itertools.count()))
        return tuple(sorted({math.ceil(most * share) for share in steps}))

    def tables(self, symbols: range) -> frequencies.Rows:
        """The learned tables, if they are for so many levels."""
        return self.learned if self.learned and len(self.learned[0]) == len(symbols) else ()

    def rung(self, spikes, symbols):
        """The first whose bytes suffice."""
        sizes = self.sizes(spikes.size, symbols)
        if len(sizes) == 1:
            return jnp.zeros((), jnp.uint8)
        needed = 2 * _code(spikes, symbols, self.tables(symbols)).words
        return jnp.sum(needed > jnp.asarray(sizes[:-1], jnp.int32)).astype(jnp.uint8)

    def write(self, spikes, symbols, rung):
        """The payload of the rung, in the space of the largest."""
        sizes = self.sizes(spikes.size, symbols)
        if len(sizes) == 1:
            return Packed().pack(spikes, symbols)
        coded = functools.partial(_write, symbols=symbols, nbytes=sizes[-1], learned=self.tables(symbols))
        return lax.cond(rung == len(sizes) - 1, lambda s: Packed().pack(s, symbols), coded, spikes)

    def read(self, payload, shape, symbols, rung):
        """The spikes that `write` was given."""
        rungs = len(self.sizes(math.prod(shape), symbols))
        packed = functools.partial(Packed().unpack, shape=shape, symbols=symbols)
        coded = functools.partial(_read, shape=shape, symbols=symbols, learned=self.tables(symbols))
        return packed(payload) if rungs == 1 else lax.cond(rung == rungs - 1, packed, coded, payload)


class _Plan(NamedTuple):
    """How a tensor of one shape is dealt to lanes and tables.

    Attributes:
      size: elements.
      lanes: states side by side.
      steps: symbols of each.
      channels: size of the last axis; neighbours may share a table.
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
        return _NAME + lanes.STATE_WORDS * self.lanes

    @property
    def name_words(self) -> int:
        """Words of the tables of the channels."""
        return math.ceil(self.tables / 2)

    def owner(self, number):
        """The table of each element."""
        return number % self.channels // self.together


def _plan(shape: Shape) -> _Plan:
    size = math.prod(shape)
    count = 2 ** (max(1, size // LANE).bit_length() - 1)
    channels = shape[-1] if len(shape) > 1 else 1
    together = min(channels, math.ceil(ROWS * channels / size))
    return _Plan(size, count, math.ceil(size / count), channels, together, math.ceil(channels / together))


class _Draft(NamedTuple):
    """A payload before it is laid out; `words` is its length."""

    names: jax.Array
    apart: jax.Array
    coded: lanes.Coded
    words: jax.Array


def _code(spikes, symbols: range, learned: frequencies.Rows) -> _Draft:
    plan, codes = _plan(spikes.shape), to_codes(spikes, symbols).astype(jnp.int32)
    owner = plan.owner(jnp.arange(plan.size, dtype=jnp.int32))
    names, apart = _choose(codes, owner, plan, symbols, learned)
    edges = jnp.asarray(frequencies.edges(len(symbols), symbols.start, learned))[names]
    place = codes if plan.tables == 1 else owner * edges.shape[1] + codes
    begin, end = edges.reshape(-1)[place], edges.reshape(-1)[place + 1]
    coded = lanes.encode(_deal(begin, plan, 0), _deal(end - begin, plan, frequencies.TOTAL))
    return _Draft(names, apart, coded, plan.head + jnp.where(apart, plan.name_words, 0) + coded.total)


def _choose(codes, owner, plan: _Plan, symbols: range, learned: frequencies.Rows):
    """The table of each channel, and whether each has its own; else all have the same."""
    counts = jnp.zeros((plan.tables, len(symbols)), jnp.int32).at[owner, codes].add(1)
    each, bits_each = frequencies.choose(counts, len(symbols), symbols.start, learned)
    one, bits_one = frequencies.choose(counts.sum(0), len(symbols), symbols.start, learned)
    apart = (bits_each.sum() + 16 * plan.name_words < bits_one) & (plan.tables > 1)
    return jnp.where(apart, each, one), apart


def _deal(flat, plan: _Plan, filler: int):
    return jnp.pad(flat, (0, plan.steps * plan.lanes - plan.size), constant_values=filler).reshape(
        plan.steps, plan.lanes
    )


def _write(spikes, symbols: range, nbytes: int, learned: frequencies.Rows):
    plan, draft = _plan(spikes.shape), _code(spikes, symbols, learned)
    room = max(math.ceil(nbytes / 2), plan.head + plan.name_words)
    place = jnp.where(draft.coded.out, draft.words - draft.coded.total + draft.coded.place, room)
    string = jnp.zeros(room, jnp.uint16).at[place].set(draft.coded.words, mode="drop")
    names = _as_words(jnp.pad(draft.names, (0, -plan.tables % 2)))
    tables = slice(plan.head, plan.head + plan.name_words)
    string = string.at[tables].set(jnp.where(draft.apart, names, string[tables]))
    head = jnp.stack([draft.names[0], draft.apart.astype(jnp.uint8)])
    string = string.at[: plan.head].set(jnp.concatenate([_as_words(head), _as_words(draft.coded.states)]))
    return bits.to_bytes(string)[:nbytes]


def _read(payload, shape: Shape, symbols: range, learned: frequencies.Rows):
    plan = _plan(shape)
    string = _as_words(jnp.pad(payload, (0, max(payload.size % 2, 2 * (plan.head + plan.name_words) - payload.size))))
    (one, apart), states = (
        bits.to_bytes(string[:1]),
        lax.bitcast_convert_type(string[1 : plan.head].reshape(-1, 2), "uint32"),
    )
    names = bits.to_bytes(string[plan.head : plan.head + plan.name_words])[: plan.tables]
    edges = jnp.asarray(frequencies.edges(len(symbols), symbols.start, learned))[jnp.where(apart > 0, names, one)]

    def edges_of(step: jax.Array) -> jax.Array:
        number = step * plan.lanes + jnp.arange(plan.lanes, dtype=jnp.int32)
        whole = jnp.zeros(len(symbols) + 1, jnp.int32).at[1:].set(frequencies.TOTAL)
        return jnp.where(number[:, None] < plan.size, edges[plan.owner(number)], whole)

    first = plan.head + jnp.where(apart > 0, plan.name_words, 0)
    codes = lanes.decode(states, string, first, plan.steps, edges_of).reshape(-1)[: plan.size]
    return to_spikes(codes.astype(code_dtype(len(symbols))), symbols).reshape(shape)


def _as_words(x):
    """Bytes or wider words as 16-bit words."""
    return lax.bitcast_convert_type(x.reshape(-1, 2) if x.dtype == jnp.uint8 else x, jnp.uint16).reshape(-1)
