"""Rans: entropy coding, for symbols that are neither sparse nor equally likely.

Invariant: a payload takes the bits of its symbols under the tables chosen for it, `sum log2(TOTAL / frequency)`, up to
three bytes per lane and two more. Where that is no gain, the largest size is `Packed`.
"""

import dataclasses
import itertools
import math

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Integer, UInt8

from snap_jax.errors import UsageError
from snap_jax.wires import frequency_tables, rans_payload, size_grid
from snap_jax.wires.base import Shape, Wire, require_offsets
from snap_jax.wires.packed import Packed
from snap_jax.wires.table_choice import Book

MOST_LEVELS = 256
LEAST_BYTES = 64  # a tensor that packs into this has one size


@dataclasses.dataclass(frozen=True)
class Rans(Wire):
    """Entropy-coded spikes, in payloads of many sizes.

    Attributes:
      ratio: of the bytes of neighboring sizes, which start at those of `Packed` and go down; each is a collective of
        its own in the compiled program. `None` takes `size_grid.sizes`, up to 15 % apart, from few collectives.
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
    >>> wire.sizes(4096, range(-3, 4))[-1], payload.size  # independent ones take 0.34 bits
    (1536, 202)
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
            return tuple(nbytes for nbytes in size_grid.sizes(most, size_grid.DENSE) if nbytes >= self.least * most)
        steps = itertools.takewhile(lambda share: share >= self.least, (self.ratio**-i for i in itertools.count()))
        return tuple(sorted({math.ceil(most * share) for share in steps}))

    def book(self, symbols: range) -> Book:
        """Return the tables that both sides hold, for so many levels."""
        fits = self.learned and len(self.learned[0]) == len(symbols)
        return Book(symbols, self.learned, self.lists) if fits else Book(symbols)

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
        coded = self.code(spikes, symbols)
        rung = jnp.sum(coded.nbytes > jnp.asarray(sizes[:-1], jnp.int32)).astype(jnp.uint8)
        return rung, (spikes, coded)

    def write_draft(self, draft, symbols, rung):
        """The payload, from what was coded already."""
        spikes, coded = draft
        sizes = self.sizes(spikes.size, symbols)
        packed = lambda spikes, _: Packed().write(spikes, symbols, 0)  # noqa: E731
        if coded is None:
            return packed(spikes, None)
        lay_out = lambda _, draft: self.lay_out(draft, spikes.shape, symbols)  # noqa: E731
        return lax.cond(jnp.asarray(rung) == len(sizes) - 1, packed, lay_out, spikes, coded)

    def read(self, payload, shape, symbols, rung):
        """The spikes that `write` was given."""
        largest = len(self.sizes(math.prod(shape), symbols)) - 1
        packed = lambda payload: Packed().read(payload, shape, symbols, 0)  # noqa: E731
        if (isinstance(rung, int) and rung == largest) or not largest:
            return packed(payload)
        coded = lambda payload: self.read_coded(payload, shape, symbols)  # noqa: E731
        return lax.cond(rung == largest, packed, coded, payload)

    def code(self, spikes: Integer[Array, "..."], symbols: range) -> rans_payload.Draft:
        """Return the spikes coded, and how many bytes that takes."""
        return rans_payload.code(spikes, self.book(symbols))

    def lay_out(self, draft: rans_payload.Draft, shape: Shape, symbols: range) -> UInt8[Array, " most"]:
        """Return the payload of what was coded, in the space of the largest size."""
        return rans_payload.lay_out(draft, shape, len(symbols), self.sizes(math.prod(shape), symbols)[-1])

    def read_coded(self, payload: UInt8[Array, " most"], shape: Shape, symbols: range) -> Integer[Array, "..."]:
        """Return the spikes of such a payload."""
        return rans_payload.read(payload, shape, self.book(symbols))
