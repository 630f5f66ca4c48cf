"""Who knows which threshold.

Law: a receiver decodes with the threshold of the sender. One that is the same on all devices (typed invarying over the
mesh axis) is known everywhere and costs nothing; one that varies over the axis travels behind the payload, 4 bytes a
number; where spikes of several devices are added, thresholds that vary must agree, or the sum is NaN.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, UInt8

from snap_jax._compat import as_varying, varying_axes
from snap_jax.codecs.codec import Codec, as_bytes, from_bytes
from snap_jax.wires import Shape

AxisName = str | tuple[str, ...]


def axes_of(axis_name: AxisName) -> tuple[str, ...]:
    """Axis names as a tuple.

    >>> axes_of("die"), axes_of(("pod", "die"))
    (('die',), ('pod', 'die'))
    """
    return (axis_name,) if isinstance(axis_name, str) else tuple(axis_name)


def _travels(leaf: Array | float, axis_name: AxisName) -> bool:
    return not varying_axes(leaf).isdisjoint(axes_of(axis_name))


def luggage(codec: Codec, axis_name: AxisName) -> UInt8[Array, " bytes"]:
    """The bytes of all thresholds that vary over the axis."""
    leaves = [leaf for leaf in jax.tree.leaves(codec) if _travels(leaf, axis_name)]
    return jnp.concatenate([jnp.zeros(0, jnp.uint8), *map(as_bytes, leaves)])


def unpack_luggage(codec: Codec, sealed: UInt8[Array, " bytes"], axis_name: AxisName) -> tuple[Codec, Array]:
    """The sender's codec and its payload, from a payload with luggage behind it."""
    leaves, tree = jax.tree.flatten(codec)
    end = sealed.size
    for i, leaf in reversed(list(enumerate(leaves))):
        if _travels(leaf, axis_name):
            start = end - 4 * leaf.size
            leaves[i], end = from_bytes(sealed[start:end], leaf.shape), start
    return jax.tree.unflatten(tree, leaves), sealed[:end]


def handshake(codec: Codec | None, axis_name: AxisName, perm: Sequence[tuple[int, int]]) -> Codec | None:
    """The codec of the device that will send to this one along `perm`; its thresholds that vary travel, once.

    No gradient goes through it: a threshold learns from the spikes it makes.
    """
    if codec is None:
        return None
    bags = luggage(jax.lax.stop_gradient(codec), axis_name)
    if not bags.size:
        return codec
    return unpack_luggage(codec, lax.ppermute(bags, axis_name, perm), axis_name)[0]


def agree(codec: Codec, axis_name: AxisName) -> tuple[Codec, Bool[Array, ""]]:
    """The codec with thresholds typed invarying, and whether those that were not are the same on all devices."""
    leaves, tree = jax.tree.flatten(codec)
    agreed = jnp.asarray(True)
    for i, leaf in enumerate(leaves):
        if _travels(leaf, axis_name):
            rows = lax.all_gather(as_bytes(leaf), axis_name, to="invarying")
            leaves[i] = from_bytes(rows[0], leaf.shape)
            agreed &= jnp.all(rows == rows[0])
    return jax.tree.unflatten(tree, leaves), agreed


def restrict(codec: Codec, shape: Shape, deal: Callable[[Float[Array, "..."]], Array], part: Array | int) -> Codec:
    """The codec for one part of a tensor of `shape`, where `deal` stacks the parts along a new first dimension."""
    return jax.tree.map(lambda leaf: cut(leaf, shape, deal, part), codec)


def cut(
    leaf: Array | float, shape: Shape, deal: Callable[[Float[Array, "..."]], Array], part: Array | int
) -> Array | float:
    """One part, as `restrict` cuts it, of what broadcasts against a tensor of `shape`."""
    return deal(jnp.broadcast_to(leaf, shape))[part] if jnp.ndim(leaf) else leaf


def vary(tree: Codec | None, axis_name: AxisName) -> Codec | None:
    """The codec with thresholds typed varying, so that JAX sums their gradients over the axis; moves nothing."""
    return jax.tree.map(lambda leaf: as_varying(jnp.asarray(leaf), axes_of(axis_name)), tree)
