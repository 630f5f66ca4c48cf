"""Collectives beside mesh axes that the compiler divides arrays along (a `shard_map` with `axis_names=`).

Invariant: spikes are packed where they are. A payload is one flat array of bytes; packed from an array that the
compiler has divided, it would have to be gathered first. So payloads are written, sent and read inside a second
`shard_map`, manual over the other axes too: each device sends its own part of the spikes.

Along `Explicit` axes the type of an array says how it is divided. Along `Auto` axes only the compiler knows. There the
first of these axes takes the first dimension that divides evenly, as a batch is divided, the others the last one, as
channels are. An array that is divided otherwise is moved by the compiler, which `compiled_traffic` shows.

Spikes are fired, and decoded, outside: an encoding sees whole tensors, as `quantize` does.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from snap_jax._compat import compiler_axes, in_shard_map, tracks_varying, varying_axes
from snap_jax.collectives.scale_exchange import AxisName, axes_of
from snap_jax.encodings import Spikes
from snap_jax.errors import UsageError

Spec = tuple[Any, ...]  # for each dimension: `None`, a mesh axis, or several


def other_axes() -> dict[str, AxisType]:
    """Return the axes that the compiler divides arrays along, inside a `shard_map` that is manual over others."""
    return compiler_axes() if in_shard_map() else {}


def refuse_other_axes(what: str) -> None:
    """Raise where the compiler divides arrays along other axes.

    Raises:
      UsageError: names them, and the fix.
    """
    if others := other_axes():
        raise UsageError(
            f"{what} does not work beside {tuple(others)}, which the compiler divides arrays along: make all axes "
            "manual (no axis_names= in shard_map, and in_specs for all of them), or use snap.island"
        )


def per_shard(
    function: Callable[[tuple[Spikes, ...], Any], tuple[tuple[jax.Array, ...], Any]],
    spikes: tuple[Spikes, ...],
    whole: Any,
    axis_name: AxisName,
    *,
    leading: int,
    cut: int | None = None,
    removed: bool = False,
) -> tuple[tuple[jax.Array, ...], Any]:
    """Return `function(spikes, whole)`, called on each device of the other axes with its part of the spikes.

    Args:
      function: returns integers, an array for each of the spikes, and a pytree of integers or booleans that are meant
        to be the same for all parts; the largest are returned.
      spikes: of the arrays.
      whole: pytree of arrays that each device needs as they are.
      axis_name: of the collective.
      leading: how many more dimensions, in front, the arrays have that are returned.
      cut: dimension that the collective itself cuts.
      removed: whether that dimension is gone from what is returned.
    """
    others = other_axes()
    specs = [_spec(s.values, others, cut) for s in spikes]

    def local(spikes: tuple[Spikes, ...], whole: Any) -> tuple[tuple[jax.Array, ...], Any]:
        arrays, rest = function(spikes, whole)
        return arrays, jax.tree.map(lambda leaf: _largest(leaf, tuple(others)), rest)

    given = tuple(Spikes(P(*spec), P(), P()) for spec in specs)
    kept = [spec[:cut] + spec[cut + 1 :] if removed and cut is not None else spec for spec in specs]
    returned = tuple(P(*(None,) * leading, *spec) for spec in kept)
    return jax.shard_map(
        local,
        in_specs=(given, P()),
        out_specs=(returned, P()),
        axis_names=set(others),
        check_vma=tracks_varying(axes_of(axis_name)),
    )(*_undivided(spikes, whole))


def _undivided(spikes: tuple[Spikes, ...], whole: Any) -> tuple[tuple[Spikes, ...], Any]:
    """The spikes, and all else typed as whole on every device."""

    def gathered(leaf: jax.Array) -> jax.Array:
        leaf = jnp.asarray(leaf)
        return jax.reshard(leaf, P()) if any(jax.typeof(leaf).sharding.spec) else leaf

    each = (Spikes(s.values, jax.tree.map(gathered, s.side), gathered(s.finite)) for s in spikes)
    return tuple(each), jax.tree.map(gathered, whole)


def take_arrays(tree: Any) -> tuple[list[jax.Array], Callable[[list[jax.Array]], Any]]:
    """Return the arrays of a pytree, and what builds the tree with others; its Python numbers stay constants.

    >>> arrays, rebuild = take_arrays({"a": 0.5, "b": jnp.ones(2)})
    >>> rebuild([2 * arrays[0]])["b"].tolist()
    [2.0, 2.0]
    """
    leaves, structure = jax.tree.flatten(tree)
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, jax.Array | np.ndarray)]

    def rebuild(arrays: list[jax.Array]) -> Any:
        others = dict(zip(places, arrays, strict=True))
        return jax.tree.unflatten(structure, [others.get(i, leaf) for i, leaf in enumerate(leaves)])

    return [jnp.asarray(leaves[i]) for i in places], rebuild


def _largest(leaf: jax.Array, axes: tuple[str, ...]) -> jax.Array:
    if varying_axes(leaf).isdisjoint(axes):
        return leaf
    return lax.pmax(leaf.astype(jnp.uint8), axes) > 0 if leaf.dtype == bool else lax.pmax(leaf, axes)


def _spec(x: jax.Array, others: dict[str, AxisType], cut: int | None) -> Spec:
    """How an array is divided along the other axes: as its type says, or along the first dimension that can be."""
    listed = (*jax.typeof(x).sharding.spec, *(None,) * x.ndim)[: x.ndim]
    spec = [tuple(a for a in _names(entry) if a in others) for entry in listed]
    if cut is not None and spec[cut]:
        raise UsageError(
            f"a coded collective cannot cut dimension {cut} of an array, which is divided over {spec[cut]} already: "
            "cut another dimension, or make all axes manual (no axis_names= in shard_map)"
        )
    sizes = jax.sharding.get_abstract_mesh().shape
    local = [n // math.prod(sizes[a] for a in axes) for n, axes in zip(x.shape, spec, strict=True)]
    for number, axis in enumerate(a for a, kind in others.items() if kind is AxisType.Auto):
        fits = [i for i, n in enumerate(local) if i != cut and n > 0 and n % sizes[axis] == 0]
        if fits:
            place = fits[-1 if number else 0]
            spec[place], local[place] = (*spec[place], axis), local[place] // sizes[axis]
    return tuple(axes or None for axes in spec)


def _names(entry: Any) -> tuple[str, ...]:
    return () if entry is None else (entry,) if isinstance(entry, str) else tuple(entry)
