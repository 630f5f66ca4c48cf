"""How a tensor meets a threshold, under JAX's strict flags too: one rank, one dtype; and how it becomes one row."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array
from jaxtyping import Float as Floats

from snap_jax.errors import UsageError


def flat(name: str, x: Array) -> Array:
    """Return `x` as one row.

    Raises:
      UsageError: naming who asks, where `Explicit` mesh axes divide `x`: JAX has no type for the result.
    """
    if any(divided := jax.typeof(x).sharding.spec):
        raise UsageError(
            f"{name}: looks at all elements of a tensor at once, which Explicit mesh axes divide as {divided}: "
            "make these axes manual (in_specs of shard_map), or call jax.reshard first"
        )
    return x.reshape(-1)


def in_rank(threshold: Array, x: Array) -> Array:
    """Return an array that broadcasts against `x` with as many dimensions as `x`; a number as it is."""
    return threshold if not threshold.ndim else lax.broadcast_to_rank(threshold, max(threshold.ndim, x.ndim))


def of_spikes(values: Array, one: Array | float) -> Floats[Array, "..."]:
    """Return `values * one` in f32, where `one` is what a single spike stands for.

    >>> of_spikes(jnp.array([[2, -1]], jnp.int8), jnp.array([0.5, 4.0])).tolist()
    [[1.0, -4.0]]
    """
    return values.astype(jnp.float32) * in_rank(jnp.asarray(one, jnp.float32), values)
