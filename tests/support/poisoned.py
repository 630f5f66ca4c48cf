"""A wire that fills every byte past the declared size of another with noise, before it is sent and where it is read."""

import dataclasses
import math

import jax.numpy as jnp

from snap_jax.wires import Wire


@dataclasses.dataclass(frozen=True)
class Poisoned(Wire):
    """Equal to `wire` if bytes past the size of a rung do not matter (invariant 3)."""

    wire: Wire

    def sizes(self, size, symbols):
        """Those of the wire."""
        return self.wire.sizes(size, symbols)

    def draft(self, spikes, symbols):
        """That of the wire, and how many spikes there are."""
        rung, draft = self.wire.draft(spikes, symbols)
        return rung, (draft, jnp.zeros(spikes.size, bool))

    def write_draft(self, draft, symbols, rung):
        """The payload, then noise."""
        draft, shape = draft
        return self._poison(self.wire.write_draft(draft, symbols, rung), shape.size, symbols, rung)

    def write(self, spikes, symbols, rung):
        """The payload, then noise."""
        return self._poison(self.wire.write(spikes, symbols, rung), spikes.size, symbols, rung)

    def read(self, payload, shape, symbols, rung):
        """The spikes of a payload that noise follows."""
        return self.wire.read(self._poison(payload, math.prod(shape), symbols, rung), shape, symbols, rung)

    def slots(self, size):
        """Those of the wire."""
        return self.wire.slots(size)

    def holds(self, density):
        """What the wire holds."""
        return self.wire.holds(density)

    def _poison(self, payload, size, symbols, rung):
        declared = jnp.asarray(self.sizes(size, symbols), jnp.uint32)[rung]
        at = jnp.arange(payload.shape[-1], dtype=jnp.uint32)
        noise = (at * jnp.uint32(2654435761) >> 13).astype(jnp.uint8)
        return jnp.where(at < declared, payload, noise)
