"""Small sums over all devices in a step, each as one collective: on a slow link messages cost more than their bytes."""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, PyTree

from snap_jax._compat import as_varying
from snap_jax.parallel.mesh import DATA, STAGE

SCOPE = "bookkeeping"  # of `jax.named_scope`, around what is sent for the log and not for the model


def loss_and_norm(
    mesh: Mesh, specs: PyTree, gradient: PyTree, losses: Float[Array, "replica stage"], *, alone: bool = False
) -> tuple[Float[Array, "*replica"], Float[Array, "*replica"]]:
    """Return the mean loss over replicas and the norm of the gradient, from one `psum` of two numbers.

    `loss = sum_stage losses / replicas` and `norm^2 = sum g^2`; where each replica has a row of the gradient, `norm` is
    the root mean square of theirs.

    Args:
      mesh: of the gradient.
      specs: how it lies there, a `PartitionSpec` for each array; with `data` where each replica has a row.
      gradient: of what is minimized.
      losses: the part of each device, which add up over stages; on all devices along `tensor` the same.
      alone: whether replicas take steps of their own: then both have a row per replica.
    """
    axes = tuple(axis for axis in mesh.axis_names if not (alone and axis == DATA))
    replicas = 1 if alone else mesh.shape.get(DATA, 1)
    by_place = PartitionSpec(DATA if DATA in mesh.shape else None, STAGE)
    rows = replicas if any(DATA in spec for spec in _flat(specs)) else 1

    def sums(gradient: PyTree, losses: Array) -> Array:
        squares = [
            jnp.sum(jnp.square(g)) / _copies(mesh, axes, spec)
            for g, spec in zip(jax.tree.leaves(gradient), _flat(specs), strict=True)
        ]
        both = jnp.stack([losses.sum() / _copies(mesh, axes, by_place), sum(squares, jnp.float32(0))])
        with jax.named_scope(SCOPE):
            total = lax.psum(as_varying(both, axes), axes)
        return total[None]

    out_spec = PartitionSpec(DATA) if alone else PartitionSpec()
    total = jax.shard_map(sums, mesh=mesh, in_specs=(specs, by_place), out_specs=out_spec)(gradient, losses)
    loss, norm = total[:, 0] / replicas, jnp.sqrt(total[:, 1] / rows)
    return (loss, norm) if alone else (loss[0], norm[0])


def psum_together(tree: PyTree, axis: str) -> PyTree:
    """Return `lax.psum(tree, axis)` as one collective for all arrays of a dtype."""
    leaves, structure = jax.tree.flatten(tree)
    found: dict[int, Array] = {}
    with jax.named_scope(SCOPE):
        for dtype in dict.fromkeys(leaf.dtype for leaf in leaves):
            places = [i for i, leaf in enumerate(leaves) if leaf.dtype == dtype]
            total = lax.psum(jnp.concatenate([leaves[i].ravel() for i in places]), axis)
            ends = [sum(leaves[j].size for j in places[: k + 1]) for k in range(len(places) - 1)]
            found |= dict(zip(places, jnp.split(total, ends), strict=True))
    return jax.tree.unflatten(structure, [found[i].reshape(leaf.shape) for i, leaf in enumerate(leaves)])


def _flat(specs: PyTree) -> list[PartitionSpec]:
    return jax.tree.leaves(specs, is_leaf=lambda each: isinstance(each, PartitionSpec))


def _copies(mesh: Mesh, axes: tuple[str, ...], spec: PartitionSpec) -> int:
    """How many devices along these axes hold the same part of an array."""
    held = {name for each in spec for name in ((each,) if isinstance(each, str) else each or ())}
    return math.prod(mesh.shape[axis] for axis in axes if axis not in held)
