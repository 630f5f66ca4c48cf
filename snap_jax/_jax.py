"""What differs between JAX 0.10 and 0.12, in one place."""

import jax
from jax import lax


def varying_axes(x: jax.Array | jax.ShapeDtypeStruct | float) -> frozenset[str]:
    """Mesh axes over which `x` is typed as varying (empty outside `shard_map`)."""
    kind = jax.typeof(x)
    try:
        return kind.manual_axis_type.varying
    except AttributeError:  # 0.10.0 and 0.10.1
        return kind.vma  # pyright: ignore[reportAttributeAccessIssue]


def as_varying(x: jax.Array, axes: tuple[str, ...]) -> jax.Array:
    """`x` typed as varying over `axes`, whatever it was before; moves nothing."""
    missing = tuple(a for a in axes if a not in varying_axes(x))
    return lax.pcast(x, missing, to="varying") if missing else x
