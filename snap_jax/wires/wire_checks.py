"""`check_wire`: what every wire must do (invariant 3), for the tests of a wire of your own."""

import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from snap_jax.errors import UsageError
from snap_jax.wires.base import Shape, Wire, slots_for, spike_dtype

_SHAPES: tuple[Shape, ...] = ((), (0, 3), (7, 43), (1500,))
_DENSITIES = (0.0, 0.02, 0.3, 1.0)


def check_wire(wire: Wire, symbols: range = range(-3, 4), shapes: tuple[Shape, ...] = _SHAPES) -> None:
    """Raise unless a wire returns every spike, at every size that holds them, whatever follows the payload.

    Draws spikes of several densities and writes them at the smallest size that the wire names, and at all larger ones:
    another device may need those. Bytes past the size are replaced by noise before they are read.

    Args:
      wire: the wire to check.
      symbols: the integers that occur; try the smallest and the largest range that the wire takes.
      shapes: of the tensors.

    Raises:
      UsageError: naming what is wrong, the shape, and the size.

    >>> from snap_jax.wires import Packed
    >>> check_wire(Packed())
    """
    for shape in shapes:
        size = math.prod(shape)
        sizes = checked_sizes(wire, size, symbols)
        draft, write, read = _compiled(wire, shape, symbols)
        for spikes in _drawn(wire, shape, symbols):
            least, drafted = draft(spikes)
            if not 0 <= int(least) < len(sizes):
                raise UsageError(f"{wire}: shape {shape} of {symbols}: rung {int(least)} of {len(sizes)} sizes {sizes}")
            for rung in sorted({int(least), (int(least) + len(sizes)) // 2, len(sizes) - 1}):
                payload = _poisoned(write(drafted, rung), sizes[rung])
                if not np.array_equal(read(payload, rung), spikes):
                    raise UsageError(
                        f"{wire}: shape {shape} of {symbols}: other spikes are read than were written, at rung {rung} "
                        f"of sizes {sizes}; rung() says that {int(least)} holds them. write and read must both keep to "
                        "the rung that they are given, and use no byte past its size"
                    )


def checked_sizes(wire: Wire, size: int, symbols: range) -> tuple[int, ...]:
    """Return `wire.sizes(size, symbols)`.

    Raises:
      UsageError: unless there are 1 to 256 of them, none less than 0 or than the one before; for 2^31 spikes or bytes
        and more, which 32-bit offsets do not count.
    """
    sizes = tuple(wire.sizes(size, symbols))
    if max(size, *sizes) >= 2**31:
        raise UsageError(f"{wire}: {size} spikes in {max(sizes)} bytes are past 2^31: split the tensor")
    if not 1 <= len(sizes) <= 256 or list(sizes) != sorted(sizes) or sizes[0] < 0:
        raise UsageError(f"{wire}: {len(sizes)} sizes {sizes[:5]}...: return 1 to 256 numbers of bytes, rising")
    return sizes


def checked_payload(wire: Wire, payload: jax.Array, sizes: tuple[int, ...]) -> jax.Array:
    """Return what `write` returned.

    Raises:
      UsageError: unless it is bytes, as many as the largest size.
    """
    if payload.shape != (sizes[-1],) or payload.dtype != jnp.uint8:
        raise UsageError(
            f"{wire}: write returned {payload.dtype}{list(payload.shape)}: return uint8[{sizes[-1]}], the bytes of the "
            "largest size, at every rung"
        )
    return payload


def checked_spikes(wire: Wire, spikes: jax.Array, shape: Shape, symbols: range) -> jax.Array:
    """Return what `read` returned, in the dtype of spikes.

    Raises:
      UsageError: unless it has the shape and holds integers.
    """
    if spikes.shape != tuple(shape) or not jnp.issubdtype(spikes.dtype, jnp.integer):
        raise UsageError(f"{wire}: read returned {spikes.dtype}{list(spikes.shape)}: return integers {list(shape)}")
    return spikes.astype(spike_dtype(symbols))


def _compiled(wire: Wire, shape: Shape, symbols: range):
    sizes = wire.sizes(math.prod(shape), symbols)

    def write(draft, rung):
        return checked_payload(wire, wire.write_draft(draft, symbols, rung), sizes)

    def read(payload, rung):
        return checked_spikes(wire, wire.read(payload, shape, symbols, rung), shape, symbols)

    return jax.jit(lambda spikes: wire.draft(spikes, symbols)), jax.jit(write), jax.jit(read)


def _drawn(wire: Wire, shape: Shape, symbols: range) -> Iterator[jax.Array]:
    """Spikes of several densities, as far as the wire holds them; all of them the first or the last symbol once."""
    rng, size = np.random.default_rng(0), math.prod(shape)
    for density in filter(wire.holds, _DENSITIES):
        values = rng.integers(symbols[0], symbols[-1] + 1, size)
        fired = rng.permutation(size) < slots_for(density, size)
        yield jnp.asarray(np.where(fired, values, 0).reshape(shape), spike_dtype(symbols))
    if wire.holds(1.0):
        for end in (symbols[0], symbols[-1]):
            yield jnp.full(shape, end, spike_dtype(symbols))


def _poisoned(payload: jax.Array, size: int) -> jax.Array:
    noise = np.random.default_rng(1).integers(0, 256, payload.size).astype(np.uint8)
    return jnp.where(jnp.arange(payload.size) < size, payload, noise)
