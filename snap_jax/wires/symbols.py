"""Spikes as unsigned codes, counted from the lowest symbol.

Invariant: `to_spikes(to_codes(s, symbols), symbols) == s`; for non-zero spikes also `to_fired(to_values(s, ...), ...)
== s`, with one code fewer.
"""

import jax.numpy as jnp

from snap_jax.errors import UsageError
from snap_jax.wires.base import spike_dtype


def code_dtype(levels: int) -> jnp.dtype:
    """Return the narrowest unsigned dtype that counts `levels`."""
    return jnp.dtype("uint8" if levels <= 2**8 else "uint16" if levels <= 2**16 else "uint32")


def width_of(levels: int) -> int:
    """Return `ceil(log2(levels))`."""
    return max(levels - 1, 0).bit_length()


def to_codes(spikes, symbols: range):
    """Return spikes counted from the lowest symbol, unsigned and flat, in modular arithmetic."""
    dtype = code_dtype(len(symbols))
    offset = -symbols.start % 2 ** jnp.iinfo(dtype).bits
    return spikes.reshape(-1).astype(dtype) + jnp.asarray(offset, dtype)


def to_spikes(codes, symbols: range):
    """Return what `to_codes` was given."""
    dtype = spike_dtype(symbols)
    wide = dtype if jnp.iinfo(dtype).bits > 8 * codes.dtype.itemsize else jnp.dtype(codes.dtype)
    offset = symbols.start % 2 ** jnp.iinfo(wide).bits if wide.kind == "u" else symbols.start
    return (codes.astype(wide) + jnp.asarray(offset, wide)).astype(dtype)


def to_values(spikes, symbols: range):
    """Return codes of spikes that are not zero: positive ones move down by one."""
    return to_codes(spikes - (spikes > 0).astype(spikes.dtype), without_zero(symbols))


def to_fired(values, symbols: range):
    """Return what `to_values` was given."""
    fired = to_spikes(values, without_zero(symbols)).astype(spike_dtype(symbols))
    return fired + (fired >= 0).astype(fired.dtype)


def without_zero(symbols: range) -> range:
    """Return the symbols without zero: positive ones move down by one; of zero alone, which never fires, itself."""
    if 0 not in symbols:
        raise UsageError(f"wire: {symbols} has no 0 that could mean no spike: use Packed()")
    return range(symbols.start, max(symbols.stop - 1, symbols.start + 1))


def contiguous(symbols: range) -> range:
    """Return the symbols that wires see, one apart: those of a range with another step are numbered.

    >>> contiguous(range(-1, 2, 2)), contiguous(range(-4, 5, 2)), contiguous(range(-1, 2))
    (range(0, 2), range(-2, 3), range(-1, 2))
    """
    if symbols.step == 1:
        return symbols
    first = symbols.start // symbols.step if 0 in symbols else 0
    return range(first, first + len(symbols))


def to_contiguous(spikes, symbols: range):
    """Return the number of each spike in `contiguous(symbols)`; 0 stays 0."""
    if symbols.step == 1:
        return spikes
    offset = 0 if 0 in symbols else symbols.start
    return ((spikes.astype(jnp.int32) - offset) // symbols.step).astype(spike_dtype(contiguous(symbols)))


def from_contiguous(numbers, symbols: range):
    """Return what `to_contiguous` was given."""
    if symbols.step == 1:
        return numbers
    offset = 0 if 0 in symbols else symbols.start
    return (numbers.astype(jnp.int32) * symbols.step + offset).astype(spike_dtype(symbols))
