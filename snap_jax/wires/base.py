"""What every wire is: integer spikes to packed bytes and back, exactly.

Invariant: `read(write(s, symbols, rung), s.shape, symbols, rung) == s` for every shape and every `s` whose values lie
in `symbols`, at every rung from `rung(s, symbols)` on. Nothing is ever dropped. Bytes past the size of the rung do not
matter.

`symbols` is a `range` of step 1: the integers that may occur, such as `range(-1, 2)` for ternary spikes.

To add a wire, write a frozen dataclass with `sizes`, `write` and `read`; a wire that chooses among several payload
sizes at run time also has `rung`. This one spends a byte per spike:

    @dataclasses.dataclass(frozen=True)
    class Bytes(Wire):
        def sizes(self, size, symbols):
            return (size,)

        def write(self, spikes, symbols, rung):
            return to_codes(spikes, symbols).astype(jnp.uint8)  # up to 256 symbols

        def read(self, payload, shape, symbols, rung):
            return to_spikes(payload, symbols).reshape(shape)
"""

import abc
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Integer, UInt8

from snap_jax.errors import UsageError

Shape = tuple[int, ...]
Rung = Array | int
"""Which of a wire's sizes: an integer scalar, or a Python number where it is known while tracing."""


class Wire(abc.ABC):
    """How spikes become bytes.

    Attributes:
      capacity: the largest share of elements that may be non-zero; 1 holds any tensor.
    """

    capacity: float = 1.0

    @abc.abstractmethod
    def sizes(self, size: int, symbols: range) -> tuple[int, ...]:
        """Return the payload bytes for `size` spikes at every rung, rising; most wires have one.

        Raises:
          UsageError: if such spikes cannot be sent.
        """

    def rung(self, spikes: Integer[Array, "..."], symbols: range) -> UInt8[Array, ""]:
        """Return the rung of the smallest size that holds `spikes`."""
        return jnp.zeros((), jnp.uint8)

    @abc.abstractmethod
    def write(self, spikes: Integer[Array, "..."], symbols: range, rung: Rung) -> UInt8[Array, " most"]:
        """Return the payload of the rung, followed by unused bytes up to the largest size."""

    @abc.abstractmethod
    def read(self, payload: UInt8[Array, " most"], shape: Shape, symbols: range, rung: Rung) -> Integer[Array, "..."]:
        """Return the spikes that `write` was given, in `spike_dtype(symbols)`."""

    def draft(self, spikes: Integer[Array, "..."], symbols: range) -> tuple[UInt8[Array, ""], Any]:
        """Return the rung of `spikes`, and what `write_draft` needs of them.

        Override both where `rung` and `write` share work.
        """
        return jnp.asarray(self.rung(spikes, symbols)).astype(jnp.uint8), spikes

    def write_draft(self, draft: Any, symbols: range, rung: Rung) -> UInt8[Array, " most"]:
        """Return what `write` returns, given a `draft`."""
        return self.write(draft, symbols, rung)

    def slots(self, size: int) -> int:
        """Return how many of `size` spikes may be non-zero: `ceil(capacity * size)`."""
        return slots_for(self.capacity, size)

    def holds(self, density: float) -> bool:
        """Return whether every tensor fits of whose n spikes at most `slots_for(density, n)` are non-zero."""
        return self.capacity >= min(density, 1)


def pack(wire: Wire, spikes: Integer[Array, "..."], symbols: range) -> UInt8[Array, " bytes"]:
    """Return the bytes of `spikes`: of the smallest size when called eagerly, of the largest while tracing."""
    sizes = wire.sizes(spikes.size, symbols)
    if len(sizes) == 1 or isinstance(spikes, Tracer):
        return _write(spikes, wire, symbols, len(sizes) - 1)
    rung, payload = _write_smallest(spikes, wire, symbols)
    if int(rung) >= len(sizes):
        raise UsageError(f"pack: {wire} says that none of its {len(sizes)} sizes holds these spikes")
    return payload[: sizes[int(rung)]]


def unpack(wire: Wire, payload: UInt8[Array, " bytes"], shape: Shape, symbols: range) -> Integer[Array, "..."]:
    """Return the spikes that `pack` was given; the length of the payload says which size it has.

    Raises:
      UsageError: if it has none of the wire's sizes.
    """
    sizes = wire.sizes(math.prod(shape), symbols)
    if payload.size not in sizes:
        raise UsageError(f"unpack: {payload.size} bytes for shape {shape}: {wire} writes one of {sizes}")
    rung = sizes.index(payload.size)
    if rung == len(sizes) - 1:
        return _read(payload, wire, shape, symbols, rung)
    room = jnp.pad(payload, (0, sizes[-1] - payload.size))
    return _read_any(room, jnp.asarray(rung, jnp.uint8), wire, shape, symbols)


# Compiled as a whole: eagerly, JAX would compile them operation by operation.
@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _write(spikes, wire: Wire, symbols: range, rung: int):
    return wire.write(spikes, symbols, rung)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _write_smallest(spikes, wire: Wire, symbols: range):
    rung, draft = wire.draft(spikes, symbols)
    return rung, wire.write_draft(draft, symbols, rung)


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _read(payload, wire: Wire, shape: Shape, symbols: range, rung: int):
    return wire.read(payload, shape, symbols, rung).astype(spike_dtype(symbols))


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _read_any(payload, rung, wire: Wire, shape: Shape, symbols: range):
    return wire.read(payload, shape, symbols, rung).astype(spike_dtype(symbols))


Settings = tuple[tuple[int, ...], ...]


class Sparse(Wire):
    """A wire with room for a share of the elements; wires of one class share one program of a `Ladder`.

    `settings` are the numbers of several such wires; `chosen` says at run time which of them counts.
    """

    @abc.abstractmethod
    def setting(self, size: int) -> tuple[int, ...]:
        """Return the numbers that tell this wire from others of its class, the slots first."""

    @abc.abstractmethod
    def write_any(
        self, spikes: Integer[Array, "..."], symbols: range, settings: Settings, chosen: Rung, room: int
    ) -> UInt8[Array, " room"]:
        """Return the payload of the wire that is chosen, followed by unused bytes up to `room`."""

    @abc.abstractmethod
    def read_any(
        self, payload: UInt8[Array, " room"], shape: Shape, symbols: range, settings: Settings, chosen: Rung
    ) -> Integer[Array, "..."]:
        """Return the spikes that `write_any` was given."""

    def write(self, spikes, symbols, rung):
        """The payload; see the class."""
        (room,) = self.sizes(spikes.size, symbols)
        return self.write_any(spikes, symbols, (self.setting(spikes.size),), 0, room)

    def read(self, payload, shape, symbols, rung):
        """The spikes that `write` was given."""
        return self.read_any(payload, shape, symbols, (self.setting(math.prod(shape)),), 0)


def require_offsets(wire: Any, size: int, bits: int) -> None:
    """Raise unless 32-bit offsets count `size` spikes and the `bits` of their payload.

    >>> require_offsets("Events(0.1)", 2**31, 10)
    Traceback (most recent call last):
    snap_jax.errors.UsageError: Events(0.1): 2147483648 spikes in 10 bits are past 2^31: split the tensor

    Raises:
      UsageError: naming the wire.
    """
    if max(size, bits) >= 2**31:
        other = ", or use Packed()" if size < 2**31 else ""
        raise UsageError(f"{wire}: {size} spikes in {bits} bits are past 2^31: split the tensor{other}")


def slots_for(share: float, size: int) -> int:
    """Return `ceil(share * size)`, but for the rounding of floats.

    >>> slots_for(0.1, 30), slots_for(0.1, 31), slots_for(1e-7, 30)
    (3, 4, 1)
    """
    return min(size, max(math.ceil(share * size - 1e-6), int(share > 0)))


def spike_dtype(symbols: range) -> jnp.dtype:
    """Return the narrowest integer dtype that holds every symbol.

    >>> spike_dtype(range(-128, 128)), spike_dtype(range(0, 256)), spike_dtype(range(0, 2**32))
    (dtype('int8'), dtype('int16'), dtype('uint32'))

    Raises:
      UsageError: if none has at most 32 bits.
    """
    ends = symbols[0], symbols[-1]
    for name in ("int8", "int16", "int32", "uint32"):
        info = jnp.iinfo(name)
        if min(ends) >= info.min and max(ends) <= info.max:
            return jnp.dtype(name)
    raise UsageError(f"spike_dtype: {symbols} does not fit into 32 bits: use fewer levels")
