"""What takes another form on a CPU, where it is slow as others would write it.

Invariant: both forms return the same numbers (`tests/wires/test_cpu_forms.py`); `lax.platform_dependent` picks one when
a program is lowered, and the other is not part of it.
"""

import jax.numpy as jnp
from jax import lax


def computed_once(table):
    """Return a small array of one axis, written to memory before it is read.

    XLA:CPU fuses what makes a table with what reads it, and computes an entry anew for each read. It fuses no scatter.
    Elsewhere it is the array itself.

    >>> computed_once(jnp.arange(3)).tolist()
    [0, 1, 2]
    """
    return lax.platform_dependent(table, cpu=_copied, default=lambda table: table)


def _copied(table):
    place = jnp.arange(table.size, dtype=jnp.uint32)
    return jnp.zeros_like(table).at[place].set(table, unique_indices=True, mode="promise_in_bounds")


def placed(values, place, room: int):
    """Return `room` zeros with each value of one axis at its place; those whose place is negative are left out.

    On a CPU they go to one place past the end, which is as fast as a branch that is always taken. An accelerator would
    wait for itself there, so they have places of their own past the end, and are dropped.

    >>> placed(jnp.array([5, 6, 7]), jnp.array([1, -1, 0]), 4).tolist()
    [7, 5, 0, 0]
    """

    def one_past_the_end(values, place):
        place = jnp.where(place < 0, room, place).astype(jnp.uint32)
        string = jnp.zeros(room + 1, values.dtype).at[jnp.minimum(place, room)]
        return string.set(values, mode="promise_in_bounds")[:room]

    def dropped(values, place):
        beyond = room + jnp.arange(place.size, dtype=jnp.int32)
        place = jnp.where((place < 0) | (place >= room), beyond, place)
        return jnp.zeros(room, values.dtype).at[place].set(values, unique_indices=True, mode="drop")

    return lax.platform_dependent(values, place, cpu=one_past_the_end, default=dropped)
