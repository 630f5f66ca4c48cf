"""Stepped: what the wires share that choose among a few payload sizes.

Law: called eagerly, `pack` gives the payload of the rung taken; while tracing, when nobody knows, that of the last.
"""

import abc
import functools
import math

import jax
import jax.numpy as jnp
from jax.core import Tracer

from snap_jax.wires.base import Wire


class Stepped(Wire):
    """A wire with several rungs, of which the last holds anything."""

    @abc.abstractmethod
    def last(self, size: int, symbols: range) -> Wire:
        """The wire of the last rung."""

    def nbytes(self, size, symbols):
        """The bytes of the last rung."""
        return self.sizes(size, symbols)[-1]

    def pack(self, spikes, symbols):
        """The payload of the rung taken, of the last one while tracing."""
        sizes = self.sizes(spikes.size, symbols)
        if len(sizes) == 1 or isinstance(spikes, Tracer):
            return self.last(spikes.size, symbols).pack(spikes, symbols)
        payload, rung = _write(spikes, self, symbols)
        return payload[: sizes[int(rung)]]

    def unpack(self, payload, shape, symbols):
        """The spikes that `pack` was given; the length of the payload says which rung it took."""
        size = math.prod(shape)
        sizes = self.sizes(size, symbols)
        if payload.size == sizes[-1]:
            return self.last(size, symbols).unpack(payload, shape, symbols)
        room = jnp.pad(payload, (0, sizes[-1] - payload.size))
        return _read(room, jnp.asarray(sizes.index(payload.size), jnp.uint8), self, shape, symbols)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _write(spikes, wire: Stepped, symbols: range):
    rung = wire.rung(spikes, symbols)
    return wire.write(spikes, symbols, rung), rung


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _read(payload, rung, wire: Stepped, shape, symbols: range):
    return wire.read(payload, shape, symbols, rung)
