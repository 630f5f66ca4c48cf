"""Events: the addresses of the elements that fired.

Invariant: k slots for n elements take `ceil((k + ceil(n / 2^l) + k l + k w) / 8)` bytes, l low address bits and w value
bits each. The upper address bits are unary (Elias 1974, Fano 1971): event i of address a sets bit `(a >> l) + i`.

With the best l this is `2 + log2(n / k)` bits per address, at most half a bit more than any code needs.
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from snap_jax._compat import as_varying, varying_axes
from snap_jax.errors import UsageError
from snap_jax.wires import bitstring
from snap_jax.wires.base import Sparse, require_offsets
from snap_jax.wires.symbols import code_dtype, to_fired, to_values, width_of, without_zero

CHUNK = 2**12  # events found at a time, at least
SHARE = 2**-8  # of the elements, likewise: each chunk looks at the whole index of set bits


@dataclasses.dataclass(frozen=True)
class Events(Sparse):
    """Sorted addresses of the spikes that are not zero and their values, `ceil(log2(levels - 1))` bits each.

    Attributes:
      capacity: the largest share of elements that may fire. Put it into a `Ladder`, which has a size for more.

    Raises:
      UsageError: unless `0 < capacity <= 1`; when used, for symbols without 0.

    >>> from snap_jax.wires import pack, unpack
    >>> wire, s = Events(capacity=0.25), jnp.zeros(1000, jnp.int8).at[3].set(1).at[500].set(-1)
    >>> payload = pack(wire, s, range(-1, 2))
    >>> payload.size  # 250 slots of 1 + 2 + 1 bits, 1000 / 4 unary zeros
    157
    >>> bool((unpack(wire, payload, s.shape, range(-1, 2)) == s).all())
    True
    """

    capacity: float

    def __post_init__(self):
        if not 0 < self.capacity <= 1:
            raise UsageError(f"Events: capacity={self.capacity} is no share of elements: use 0 < capacity <= 1")

    def sizes(self, size, symbols):
        """`ceil((k (1 + l + w) + ceil(n / 2^l)) / 8)`."""
        (slots, low), width = self.setting(size), width_of(len(without_zero(symbols)))
        bits = slots * (1 + low + width) + _buckets(size, low)
        require_offsets(self, size, bits)
        return (math.ceil(bits / 8),)

    def setting(self, size):
        """The slots, and the number of low bits that makes the payload smallest."""
        slots = self.slots(size)
        return slots, min(range(31), key=lambda low: slots * low + _buckets(size, low))

    def write_any(self, spikes, symbols, settings, chosen, room):
        """Find `CHUNK` events at a time and write their upper bits, low bits and values."""
        flat = spikes.reshape(-1)
        if not flat.size:
            return jnp.zeros(room, jnp.uint8)
        plan = _plan(flat.size, width_of(len(without_zero(symbols))), settings, chosen)
        ones = bitstring.index_ones(bitstring.mask_words(flat != 0))

        def step(i: jax.Array, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            row, body = state
            address, row = bitstring.find_ones(ones, i * plan.chunk, plan.chunk, row)
            number = i * plan.chunk + jnp.arange(plan.chunk, dtype=jnp.int32)
            live = number < jnp.minimum(ones.total, plan.slots)

            upper = (address >> plan.low) + number, jnp.ones_like(number).astype(jnp.uint32)
            fields = [upper, *plan.fields(number, address, to_values(flat[address], symbols))]
            return row, bitstring.put(body, *((jnp.where(live, at, 32 * body.size), field) for at, field in fields))

        body = jnp.zeros(bitstring.words_for(8 * room) + 1, jnp.uint32)
        return bitstring.to_bytes(_loop(plan, step, body, flat))[:room]

    def read_any(self, payload, shape, symbols, settings, chosen):
        """Find `CHUNK` upper bits at a time, read what belongs to them, and set the spikes."""
        size = math.prod(shape)
        if not size:
            return to_fired(jnp.zeros(shape, code_dtype(len(symbols))), symbols)
        plan, words = _plan(size, width_of(len(without_zero(symbols))), settings, chosen), bitstring.to_words(payload)
        longest = max(slots + _buckets(size, low) for slots, low in settings)
        ones = bitstring.index_ones(bitstring.ones_before(words[: bitstring.words_for(longest)], plan.upper))

        def step(i: jax.Array, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            row, spikes = state
            upper, row = bitstring.find_ones(ones, i * plan.chunk, plan.chunk, row)
            number = i * plan.chunk + jnp.arange(plan.chunk, dtype=jnp.int32)
            low, values = plan.split(lambda offset, mask: bitstring.take(words, offset, mask), number)
            address = jnp.where(number < ones.total, ((upper - number) << plan.low) | low, size)
            fired = to_fired(values.astype(code_dtype(len(symbols))), symbols)
            return row, spikes.at[address].set(fired, mode="drop")

        silent = jnp.zeros(size, to_fired(jnp.zeros(0, code_dtype(len(symbols))), symbols).dtype)
        return _loop(plan, step, silent, payload).reshape(shape)


@dataclasses.dataclass(frozen=True)
class _Plan:
    """The numbers of one run.

    Attributes:
      slots, low, upper: slots, low bits, and bits of the upper addresses; traced.
      width: bits of a value.
      together: whether low bits and value of an event are one record; apart they have a section each.
      chunk: events found at a time.
    """

    slots: jax.Array
    low: jax.Array
    upper: jax.Array
    width: int
    together: bool
    chunk: int

    def fields(self, number, address, values):
        """Return bit offset and content of all that is written for the events, except the upper bits."""
        low, values = (address & ((1 << self.low) - 1)).astype(jnp.uint32), values.astype(jnp.uint32)
        if self.together:
            return [(self._record(number), low | (values << self.low.astype(jnp.uint32)))]
        return [(self._low(number), low), (self._value(number), values)]

    def split(self, take: Callable[[jax.Array, jax.Array], jax.Array], number):
        """Return low address bits and values, where `take` reads at bit offsets under a mask."""
        low, mask = self.low.astype(jnp.uint32), jnp.uint32(2**self.width - 1)
        mask_low = (jnp.uint32(1) << low) - 1
        if self.together:
            record = take(self._record(number), mask_low | (mask << low))
            return (record & mask_low).astype(jnp.int32), record >> low
        return take(self._low(number), mask_low).astype(jnp.int32), take(self._value(number), mask)

    def _record(self, number):
        return self.upper + number * (self.low + self.width)

    def _low(self, number):
        return self.upper + number * self.low

    def _value(self, number):
        return self.upper + self.slots * self.low + number * self.width


def _plan(size: int, width: int, settings: tuple[tuple[int, ...], ...], chosen: jax.Array | int) -> _Plan:
    slots, low = (jnp.asarray(numbers, jnp.int32)[chosen] for numbers in zip(*settings, strict=True))
    largest = max(1, *(setting[0] for setting in settings))
    together = max(low for _, low in settings) + width <= 32
    chunk = 32 * math.ceil(min(max(CHUNK, size * SHARE), largest) / 32)
    return _Plan(slots, low, slots + ((size - 1) >> low) + 1, width, together, chunk)


def _loop(plan: _Plan, step, start: jax.Array, like: jax.Array) -> jax.Array:
    """Return the last state of `step` over the chunks that the slots fill."""
    axes = tuple(varying_axes(like))
    state = as_varying(jnp.zeros((), jnp.int32), axes), as_varying(start, axes)
    return lax.fori_loop(0, (plan.slots + plan.chunk - 1) // plan.chunk, step, state)[1]


def _buckets(size: int, low: int) -> int:
    return math.ceil(size / 2**low)
