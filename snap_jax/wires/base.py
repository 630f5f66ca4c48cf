"""What every wire is.

Law 3: `unpack(pack(s, symbols), s.shape, symbols) == s` for every shape and every `s` whose values lie in `symbols`;
nothing is ever dropped.

`symbols` is a `range`: the integers that may occur, e.g. `range(-1, 2)` for ternary spikes. A payload is a flat uint8
array; its length depends on shape and symbols only, but for a `Ladder`, which chooses among a few lengths.
"""

import abc
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Integer, UInt8

from snap_jax.errors import UsageError
from snap_jax.wires.bitstring import any_set

Shape = tuple[int, ...]


class Wire(abc.ABC):
    """How spikes become bytes."""

    @abc.abstractmethod
    def pack(self, spikes: Integer[Array, "..."], symbols: range) -> UInt8[Array, " bytes"]:
        """The bytes of `spikes`."""

    @abc.abstractmethod
    def unpack(self, payload: UInt8[Array, " bytes"], shape: Shape, symbols: range) -> Integer[Array, "..."]:
        """The spikes that `pack` was given."""

    @abc.abstractmethod
    def nbytes(self, size: int, symbols: range) -> int:
        """Payload bytes for `size` spikes; the most of them, where there is a choice."""

    def pack_and_check(
        self, spikes: Integer[Array, "..."], flags: Bool[Array, "..."], symbols: range
    ) -> tuple[UInt8[Array, " bytes"], Bool[Array, ""]]:
        """The bytes of `spikes`, and whether any flag is set; a wire that can reads both at once."""
        return self.pack(spikes, symbols), any_set(flags)

    def slots(self, size: int) -> int:
        """The most non-zero spikes that `size` elements may hold to fit."""
        return size

    def holds(self, density: float) -> bool:
        """Whether every tensor fits of whose n elements at most `slots_for(density, n)` fire; any tensor, for 1."""
        return True

    def sizes(self, size: int, symbols: range) -> tuple[int, ...]:
        """Payload bytes of every rung, rising; most wires have one."""
        return (self.nbytes(size, symbols),)

    def rung(self, spikes: Integer[Array, "..."], symbols: range) -> UInt8[Array, ""]:
        """Which rung is the smallest that holds `spikes`."""
        return jnp.zeros((), jnp.uint8)

    def draft(self, spikes: Integer[Array, "..."], symbols: range) -> tuple[UInt8[Array, ""], Any]:
        """Return the rung of `spikes`, and what `write_draft` needs of them."""
        return self.rung(spikes, symbols), spikes

    def write_draft(self, draft: Any, symbols: range, rung: Array) -> UInt8[Array, " most"]:
        """Return what `write` does, given a `draft`."""
        return self.write(draft, symbols, rung)

    def write(self, spikes: Integer[Array, "..."], symbols: range, rung: Array) -> UInt8[Array, " most"]:
        """The payload of the rung, followed by unused bytes up to the size of the largest."""
        return self.pack(spikes, symbols)

    def read(self, payload: UInt8[Array, " most"], shape: Shape, symbols: range, rung: Array) -> Integer[Array, "..."]:
        """The spikes that `write` was given; the unused bytes may have become anything."""
        return self.unpack(payload, shape, symbols)


def pack(wire: Wire, spikes: Integer[Array, "..."], symbols: range) -> UInt8[Array, " bytes"]:
    """Return the bytes of `spikes`: of the smallest size when called eagerly, of the largest while tracing."""
    return wire.pack(spikes, symbols)


def unpack(wire: Wire, payload: UInt8[Array, " bytes"], shape: Shape, symbols: range) -> Integer[Array, "..."]:
    """Return the spikes that `pack` was given; the length of the payload says which size it has."""
    return wire.unpack(payload, shape, symbols)


Settings = tuple[tuple[int, ...], ...]


class Sparse(Wire):
    """A wire with room for a share of the elements; those of one class share one program that takes its numbers late.

    `settings` are the numbers of several such wires, `chosen` says at run time which of them counts.
    """

    capacity: float

    def slots(self, size):
        """`ceil(capacity * n)`."""
        return slots_for(self.capacity, size)

    def holds(self, density):
        """Up to its capacity."""
        return self.capacity >= min(density, 1)

    @abc.abstractmethod
    def setting(self, size: int) -> tuple[int, ...]:
        """The numbers that tell this wire from others of its class, the slots first."""

    @abc.abstractmethod
    def write_any(
        self, spikes: Integer[Array, "..."], symbols: range, settings: Settings, chosen: Array | int, room: int
    ) -> UInt8[Array, " room"]:
        """The payload of the wire that is chosen, followed by unused bytes up to `room`."""

    @abc.abstractmethod
    def read_any(
        self, payload: UInt8[Array, " room"], shape: Shape, symbols: range, settings: Settings, chosen: Array | int
    ) -> Integer[Array, "..."]:
        """The spikes that `write_any` was given."""

    def pack(self, spikes, symbols):
        """The payload; see the class."""
        return _pack(spikes, self, symbols)

    def unpack(self, payload, shape, symbols):
        """The spikes that `pack` was given."""
        return _unpack(payload, self, shape, symbols)


@functools.partial(jax.jit, static_argnums=(1, 2))  # eagerly, it would compile operation by operation
def _pack(spikes, wire: Sparse, symbols: range):
    settings = (wire.setting(spikes.size),)
    return wire.write_any(spikes, symbols, settings, 0, wire.nbytes(spikes.size, symbols))


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _unpack(payload, wire: Sparse, shape: Shape, symbols: range):
    return wire.read_any(payload, shape, symbols, (wire.setting(math.prod(shape)),), 0)


def slots_for(share: float, size: int) -> int:
    """`ceil(share * size)`, but for the rounding of floats.

    >>> slots_for(0.1, 30), slots_for(0.1, 31)
    (3, 4)
    """
    return min(size, math.ceil(share * size - 1e-6))


def spike_dtype(symbols: range) -> jnp.dtype:
    """The narrowest integer dtype that holds every symbol.

    >>> spike_dtype(range(-128, 128)), spike_dtype(range(0, 256)), spike_dtype(range(0, 2**32))
    (dtype('int8'), dtype('int16'), dtype('uint32'))
    """
    ends = symbols[0], symbols[-1]
    for name in ("int8", "int16", "int32", "uint32"):
        info = jnp.iinfo(name)
        if min(ends) >= info.min and max(ends) <= info.max:
            return jnp.dtype(name)
    raise UsageError(f"spike_dtype: {symbols} does not fit into 32 bits: use fewer levels")
