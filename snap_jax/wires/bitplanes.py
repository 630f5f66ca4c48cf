"""Bitplanes: one bit plane per time step.

Invariant: a plane is what a neuromorphic link sends in one time step; a count is the sum of its planes.
"""

import dataclasses
import math

import jax.numpy as jnp

from snap_jax.errors import UsageError
from snap_jax.wires.base import Wire, spike_dtype
from snap_jax.wires.packed import pack_lanes, unpack_lanes


@dataclasses.dataclass(frozen=True)
class Bitplanes(Wire):
    """One bit plane per time step, as a neuromorphic link sends a rate code: `limit` planes, twice that if signed.

    A count of c occupies the first c time steps; the sign chooses between two planes.

    >>> Bitplanes().sizes(8, range(-1, 2)), Bitplanes().sizes(8, range(0, 5))
    ((2,), (4,))
    """

    def write(self, spikes, symbols, rung):
        """The planes, positive spikes first."""
        flat = spikes.reshape(-1).astype(jnp.int32)
        planes = [sign * flat > tick for sign, limit in _polarities(symbols) for tick in range(limit)]
        return jnp.concatenate([jnp.zeros(0, jnp.uint8), *(pack_lanes(p.astype(jnp.uint8), 1) for p in planes)])

    def read(self, payload, shape, symbols, rung):
        """Counts: the sum of the planes, negative ones subtracted."""
        size = math.prod(shape)
        signs = [sign for sign, limit in _polarities(symbols) for _ in range(limit)]
        if not signs:
            return jnp.zeros(shape, spike_dtype(symbols))
        rows = payload.reshape(len(signs), math.ceil(size / 8))
        planes = [unpack_lanes(row, size, 1).astype(spike_dtype(symbols)) for row in rows]
        counts = jnp.stack([sign * p for sign, p in zip(signs, planes, strict=True)])
        return counts.sum(0, dtype=counts.dtype).reshape(shape)

    def sizes(self, size, symbols):
        """`planes * ceil(n / 8)`."""
        return (sum(limit for _, limit in _polarities(symbols)) * math.ceil(size / 8),)


def _polarities(symbols: range) -> list[tuple[int, int]]:
    """Return (sign, most spikes) of the positive and, if there are any, the negative planes."""
    if 0 not in symbols or len(symbols) > 257:
        raise UsageError(f"Bitplanes: {symbols} is no spike count of at most 256 time steps: use Packed()")
    return [(sign, limit) for sign, limit in ((1, symbols.stop - 1), (-1, -symbols.start)) if limit]
