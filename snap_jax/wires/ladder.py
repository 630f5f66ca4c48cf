"""Ladder: the smallest of several wires that holds every spike.

Invariant: nothing is dropped; the wire taken is the first, by rising bytes, whose slots hold all spikes that are not
zero. The last one holds anything.

A collective finds the size on each device, takes the largest over all of them, and sends that many bytes.
"""

import dataclasses
import functools
import itertools
import math

import jax.numpy as jnp
from jax import lax

from snap_jax.errors import UsageError
from snap_jax.wires import bitstring, size_grid
from snap_jax.wires.base import Sparse, Wire, require_offsets, spike_dtype
from snap_jax.wires.bitmap import Bitmap
from snap_jax.wires.events import Events
from snap_jax.wires.packed import Packed
from snap_jax.wires.symbols import width_of


@dataclasses.dataclass(frozen=True)
class Ladder(Wire):
    """Several wires, of which each call takes the smallest that holds all its spikes; chosen at run time.

    Attributes:
      rungs: the wires to choose from, of one size each; `None` takes `default_rungs`, and sizes of a grid.

    Raises:
      UsageError: if none holds everything, one has several sizes, or there are more than 255.

    >>> from snap_jax.wires import pack
    >>> ladder = Ladder((Events(0.01), Bitmap(0.2), Packed()))
    >>> ladder.sizes(1000, range(-1, 2))
    (12, 150, 250)
    >>> [pack(ladder, jnp.zeros(1000, jnp.int8).at[:k].set(1), range(-1, 2)).size for k in (10, 11, 201)]
    [12, 150, 250]
    """

    rungs: tuple[Wire, ...] | None = None

    def __post_init__(self):
        if self.rungs is None:
            return
        if not any(rung.holds(1.0) for rung in self.rungs):
            raise UsageError(f"Ladder: none of {self.rungs} holds a tensor that fires everywhere: add Packed()")
        if len(self.rungs) > 255 or any(len(rung.sizes(2**12, range(-1, 2))) > 1 for rung in self.rungs):
            raise UsageError("Ladder: use at most 255 rungs, none of them a wire of several sizes")

    def steps(self, size: int, symbols: range) -> tuple[Wire, ...]:
        """Return the wires that can be the smallest for `size` elements, by rising bytes and slots."""
        # Addresses are written into the space of the largest size: its bits are counted in 32 bits.
        require_offsets(self, size, 8 * max(_bytes(wire, size, symbols) for wire in self.rungs or (Packed(),)))
        return _steps(self.rungs, size, symbols)

    def sizes(self, size, symbols):
        """The bytes of each of `steps`; those of the default ones are rounded up to `size_grid.sizes`."""
        exact = tuple(_bytes(wire, size, symbols) for wire in self.steps(size, symbols))
        return (
            exact
            if self.rungs is not None
            else tuple(size_grid.round_up(nbytes, exact[-1], size_grid.SPARSE) for nbytes in exact)
        )

    def rung(self, spikes, symbols):
        """How many wires have too few slots for what fired."""
        slots = [wire.slots(spikes.size) for wire in self.steps(spikes.size, symbols)]
        fired = bitstring.count_fired(spikes)
        return jnp.sum(fired > jnp.asarray(slots[:-1], jnp.int32)).astype(jnp.uint8)

    def write(self, spikes, symbols, rung):
        """The payload of the wire taken, in the space of the largest."""
        size = spikes.size
        families, room = _families(self.steps(size, symbols)), self.sizes(size, symbols)[-1]
        write = [functools.partial(_write, wires, symbols=symbols, room=room) for wires in families]
        return _switch(families, rung, write, spikes)

    def read(self, payload, shape, symbols, rung):
        """The spikes that `write` was given."""
        families = _families(self.steps(math.prod(shape), symbols))
        read = [functools.partial(_read, wires, shape=shape, symbols=symbols) for wires in families]
        return _switch(families, rung, read, payload)


@functools.lru_cache(maxsize=256)
def _steps(rungs: tuple[Wire, ...] | None, size: int, symbols: range) -> tuple[Wire, ...]:
    rungs = default_rungs(size, symbols) if rungs is None else rungs
    useful: list[Wire] = []
    for wire in sorted(rungs, key=lambda w: (_bytes(w, size, symbols), -w.slots(size))):
        if not useful or wire.slots(size) > useful[-1].slots(size):
            useful.append(wire)
    return tuple(useful)


def default_rungs(size: int, symbols: range) -> tuple[Wire, ...]:
    """Return the wires for `size` elements: for each of `size_grid.sizes` up to `Packed` the one with the most slots.

    `Packed(radix=True)` is left out: a bitmap is as small until nearly all fire, and many times as fast.

    >>> [type(wire).__name__ for wire in default_rungs(1000, range(-1, 2))]
    ['Events', 'Events', 'Events', 'Events', 'Bitmap', 'Bitmap', 'Bitmap', 'Packed']
    """
    most, width = _bytes(Packed(), size, symbols), width_of(len(symbols) - 1)
    smaller = size_grid.sizes(most, size_grid.SPARSE)[:-1] if 0 in symbols else ()
    found = [_roomiest(size, nbytes, width) for nbytes in smaller]
    return (*(wire for wire in found if wire is not None), Packed())


def _roomiest(size: int, nbytes: int, width: int) -> Sparse | None:
    """Return the wire with the most slots in `nbytes` for `size` elements, with values of `width` bits."""
    rooms: list[tuple[int, type]] = [
        ((8 * nbytes - math.ceil(size / 2**low)) // (1 + low + width), Events) for low in range(24)
    ]
    if width:
        rooms.append((8 * (nbytes - math.ceil(size / 8)) // width, Bitmap))
    slots, kind = max(rooms, key=lambda pair: pair[0])
    return kind(min(slots / size, 1.0)) if slots > 0 else None


def _families(steps: tuple[Wire, ...]) -> list[tuple[Wire, ...]]:
    """Return neighbors that share a program: sparse wires of one class; any other is alone."""
    keys = [type(wire) if isinstance(wire, Sparse) else i for i, wire in enumerate(steps)]
    return [tuple(steps[i] for i in group) for _, group in itertools.groupby(range(len(steps)), keys.__getitem__)]


def _switch(families: list[tuple[Wire, ...]], rung, branches, operand):
    """Return the result of the family that `rung` falls into, for the operand and the place in the family."""
    if isinstance(rung, int):
        place, wires = rung, 0
        while place >= len(families[wires]):
            place, wires = place - len(families[wires]), wires + 1
        return branches[wires](operand, place)
    family = jnp.asarray([i for i, wires in enumerate(families) for _ in wires])[rung]
    chosen = jnp.asarray([i for wires in families for i in range(len(wires))])[rung]
    return lax.switch(family, branches, operand, chosen)


def _write(wires, spikes, chosen, symbols, room):
    if isinstance(wires[0], Sparse):
        settings = tuple(wire.setting(spikes.size) for wire in wires)
        return wires[0].write_any(spikes, symbols, settings, chosen, room)
    packed = wires[0].write(spikes, symbols, 0)
    return jnp.pad(packed, (0, room - packed.size))


def _read(wires, payload, chosen, shape, symbols):
    size = math.prod(shape)
    if isinstance(wires[0], Sparse):
        return wires[0].read_any(payload, shape, symbols, tuple(wire.setting(size) for wire in wires), chosen)
    spikes = wires[0].read(payload[: _bytes(wires[0], size, symbols)], shape, symbols, 0)
    return spikes.astype(spike_dtype(symbols))  # all branches of a switch have one dtype


def _bytes(wire: Wire, size: int, symbols: range) -> int:
    (nbytes,) = wire.sizes(size, symbols)
    return nbytes
