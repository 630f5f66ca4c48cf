"""What differs between JAX 0.10 and 0.12, what is amiss in one of them, and what has no public name, in one place."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax, tree_util
from jax.sharding import AxisType

T = TypeVar("T", bound=type)


def pytree(cls: T, data: tuple[str, ...] | None = None) -> T:
    """Decorator: a dataclass whose fields `data` are leaves and whose others are static.

    Without `data`, static is what a field's metadata say, as for `jax.tree_util.register_dataclass`, which breaks the
    rule that trees of two classes are never of one structure: with jaxlib 0.10.2 and 0.12.0 it compares what is static
    and not the classes, so that `jit` may run the program that was compiled for another encoding.
    """
    fields = dataclasses.fields(cls)
    leaves = [f.name for f in fields if (not f.metadata.get("static", False) if data is None else f.name in data)]
    static = [f.name for f in fields if f.name not in leaves]
    keys = [tree_util.GetAttrKey(name) for name in leaves]

    def flatten(tree):
        return [getattr(tree, name) for name in leaves], tuple(getattr(tree, name) for name in static)

    def flatten_with_keys(tree):
        children, values = flatten(tree)
        return list(zip(keys, children, strict=True)), values

    def unflatten(values, children):
        return cls(**dict(zip(leaves, children, strict=True)), **dict(zip(static, values, strict=True)))

    tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls


def varying_axes(x: jax.Array | jax.ShapeDtypeStruct | float) -> frozenset[str]:
    """Mesh axes over which `x` is typed as varying (empty outside `shard_map`)."""
    kind = jax.typeof(x)
    try:
        return kind.manual_axis_type.varying
    except AttributeError:  # 0.10.0 and 0.10.1
        return kind.vma  # pyright: ignore[reportAttributeAccessIssue]


def as_varying(x: jax.Array, axes: tuple[str, ...]) -> jax.Array:
    """Return `x` typed as varying over those of `axes` that are axes of a `shard_map`; moves nothing."""
    manual = jax.sharding.get_abstract_mesh().manual_axes
    missing = tuple(a for a in axes if a in manual and a not in varying_axes(x))
    return lax.pcast(x, missing, to="varying") if missing else x


def tracks_varying(axes: tuple[str, ...]) -> bool:
    """Return whether JAX types tell here what varies over `axes`: not with `check_vma=False`, nor in `vmap`."""
    return varying_axes(as_varying(jnp.zeros(()), axes)).issuperset(axes)


def is_mesh_axis(axes: tuple[str, ...]) -> bool:
    """Return whether `axes` are axes of a `shard_map` here, rather than of `vmap(axis_name=)`."""
    return set(axes) <= set(jax.sharding.get_abstract_mesh().manual_axes)


def compiler_axes() -> dict[str, AxisType]:
    """Return the axes, of more than one device, along which the compiler divides arrays here, and their types."""
    mesh = jax.sharding.get_abstract_mesh()
    types = zip(mesh.axis_names, mesh.axis_types, strict=True)
    return {a: kind for a, kind in types if kind is not AxisType.Manual and mesh.shape[a] > 1}


def in_shard_map() -> bool:
    """Return whether some mesh axis is manual here."""
    return bool(jax.sharding.get_abstract_mesh().manual_axes)


def scan_operands(params: Mapping[str, Any]) -> tuple[int, int]:
    """Return how many operands of a `scan` equation are constants of its body, and how many are carried."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].unpack()  # 0.12
    return len(consts), len(carry)


def coordinator() -> Any:
    """Return the state of `jax.distributed`: `client`, `num_processes`, `process_id`.

    The client passes small messages between processes (`key_value_set`, `blocking_key_value_get`). It has no public
    name in JAX 0.10 to 0.12; Orbax takes it from here, too.
    """
    from jax._src import distributed

    return distributed.global_state
