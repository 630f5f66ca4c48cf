"""Who knows which threshold.

Invariant: a receiver decodes with the learnable arrays of the sender. Those that are the same on all devices are known
everywhere and cost nothing. Those that vary over the axis travel after the payload, 4 bytes per number. Where spikes
of several devices are added, they must agree, or the sum is NaN.

What varies is read from the types of `shard_map`. Where these do not tell (`check_vma=False`, `vmap(axis_name=)`),
every array that is not a constant of the program counts as varying.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, Bool, UInt8

from snap_jax._compat import as_varying, is_mesh_axis, tracks_varying, varying_axes
from snap_jax.codecs.codec import Codec
from snap_jax.codecs.payload import as_bytes, from_bytes

T = TypeVar("T")
AxisName = str | tuple[str, ...]
Codecs = tuple[Codec, ...]  # one for all arrays of a message, or one per array


def axes_of(axis_name: AxisName) -> tuple[str, ...]:
    """Return axis names as a tuple.

    >>> axes_of("device"), axes_of(("host", "device"))
    (('device',), ('host', 'device'))
    """
    return (axis_name,) if isinstance(axis_name, str) else tuple(axis_name)


def is_per_axis(codec: Any, axis_name: AxisName, x: Any) -> bool:
    """Return whether `codec` is a dict from mesh axes, rather than one from the keys of `x`.

    >>> is_per_axis({"pod": "ternary"}, ("pod", "device"), 1.0), is_per_axis({"w": "ternary"}, "device", {"w": 1.0})
    (True, False)
    """
    if not isinstance(codec, dict) or (isinstance(x, dict) and x.keys() == codec.keys()):
        return False
    return bool(codec) and codec.keys() <= set(axes_of(axis_name))


def stopped(codecs: Codecs) -> Codecs:
    """Return the codecs without gradients, in f32; constants of the program stay constants."""
    return jax.tree.map(lambda leaf: lax.stop_gradient(_f32(leaf)) if isinstance(leaf, Tracer) else leaf, codecs)


def _f32(leaf: Array | float) -> Array:
    return jnp.asarray(leaf, jnp.float32)


def _travels(leaf: Array | float, axes: tuple[str, ...]) -> bool:
    return not varying_axes(leaf).isdisjoint(axes) if tracks_varying(axes) else isinstance(leaf, Tracer)


def scales(codecs: Codecs, axis_name: AxisName, like: Codecs | None = None) -> UInt8[Array, " bytes"]:
    """Return the bytes of all arrays that the receivers do not know, as the types of the codecs `like` say."""
    pairs = zip(jax.tree.leaves(codecs), jax.tree.leaves(like or codecs), strict=True)
    leaves = [_f32(leaf) for leaf, typed in pairs if _travels(typed, axes_of(axis_name))]
    return jnp.concatenate([jnp.zeros(0, jnp.uint8), *map(as_bytes, leaves)])


def read_scales(
    codecs: Codecs, sent: UInt8[Array, " bytes"], axis_name: AxisName, like: Codecs | None = None
) -> Codecs:
    """Return the codecs of the sender, from what `scales` returned there."""
    (leaves, tree), start = jax.tree.flatten(codecs), 0
    for i, typed in enumerate(jax.tree.leaves(like or codecs)):
        if _travels(typed, axes_of(axis_name)):
            end = start + 4 * jnp.size(leaves[i])
            leaves[i], start = from_bytes(sent[start:end], jnp.shape(leaves[i])), end
    return jax.tree.unflatten(tree, leaves)


def handshake(codec: Codec | None, axis_name: AxisName, perm: Sequence[tuple[int, int]]) -> Codec | None:
    """Return the codec of the device that will send to this one along `perm`; its arrays that vary travel once.

    No gradient goes through it: a threshold learns from the spikes it makes.
    """
    if codec is None:
        return None
    codecs = stopped((codec,))
    sent = scales(codecs, axis_name)
    return read_scales(codecs, lax.ppermute(sent, axis_name, perm), axis_name)[0] if sent.size else codec


def agree(codecs: Codecs, axis_name: AxisName) -> tuple[Codecs, Bool[Array, ""]]:
    """Return the codecs with arrays typed invarying, and whether those that were not are the same on all devices."""
    leaves, tree = jax.tree.flatten(codecs)
    places = [i for i, leaf in enumerate(leaves) if _travels(leaf, axes_of(axis_name))]
    if not places:
        return codecs, jnp.asarray(True)
    bits = [lax.bitcast_convert_type(_f32(leaves[i]), jnp.int32) for i in places]
    here = jnp.concatenate([leaf.reshape(-1) for leaf in bits])
    most, inverted = jnp.split(lax.pmax(jnp.concatenate([here, ~here]), axis_name), 2)
    start = 0
    for place, leaf in zip(places, bits, strict=True):
        agreed = most[start : start + leaf.size].reshape(leaf.shape)
        leaves[place], start = lax.bitcast_convert_type(agreed, jnp.float32), start + leaf.size
    return jax.tree.unflatten(tree, leaves), jnp.all(most == ~inverted)  # the least is what `~` inverts


def gather_to_all(x: Array, axis_name: AxisName) -> Array:
    """Return `lax.all_gather(x)`, typed as the same on all devices where JAX can say so."""
    to = "invarying" if is_mesh_axis(axes_of(axis_name)) else "varying"
    return lax.all_gather(x, axis_name, to=to)


def part_of(codec: Codec, cut: Callable[[Array], Array]) -> Codec:
    """Return the codec for a part of a tensor; see `Encoding.part`."""
    return Codec(codec.encoding.part(cut), codec.wire)


def vary(tree: T, axis_name: AxisName) -> T:
    """Return codecs typed varying, so that JAX sums its gradients over the axis; moves nothing."""
    return jax.tree.map(lambda leaf: as_varying(jnp.asarray(leaf), axes_of(axis_name)), tree)
