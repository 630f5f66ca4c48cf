"""The codec of a boundary, taken apart: its structure is static, its arrays are parameters of an `nnx.Module`.

Invariant: `assemble(*take_apart(codec, channels))` is the codec with one threshold per channel. The structure holds no
number, so boundaries that start at different thresholds share one compiled program.
"""

import itertools
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.core import Tracer
from jaxtyping import Array

from snap_jax.codecs.codec import Codec
from snap_jax.errors import UsageError

Structure = Any  # of a codec: a PyTreeDef
_ENCODING = jax.tree_util.GetAttrKey("encoding")


class CodecParam(nnx.Param):
    """A number or array of an encoding, which is learned with the model; weight decay should leave it alone."""


class Threshold(CodecParam):
    """The logarithm of a learned array that stays positive: an optimizer step changes the array by a ratio.

    Weight decay of an optimizer acts on this logarithm, unless a mask excludes this type:

    >>> from snap_jax.boundary import Boundary
    >>> params = nnx.state(Boundary("count:3", features=4), nnx.Param)
    >>> is_param = lambda leaf: isinstance(leaf, nnx.Variable)
    >>> mask = jax.tree.map(lambda p: not isinstance(p, Threshold), params, is_leaf=is_param)
    >>> mask["log_threshold"]  # for optax.adamw(1e-3, mask=mask)
    False
    """


class Constant(nnx.Variable):
    """An array that is kept and not learned."""


def take_apart(codec: Codec | None, channels: int) -> tuple[Structure, dict[str, nnx.Param]]:
    """Return the structure of a codec, and a parameter for each of its numbers and arrays.

    A number becomes one per channel; an array stays as it is, and one of shape `(channels,)` holds one per channel.
    Names are those of the fields of the encoding, after `log_` for positive ones and after `learned_` for others.

    Raises:
      UsageError: for a threshold that is not positive and finite, or does not fit the channels.

    >>> from snap_jax.encodings import Ternary
    >>> structure, params = take_apart(Codec(Ternary(threshold=1.0)), channels=2)
    >>> params["log_threshold"][...].tolist(), assemble(structure, params.values()).encoding.threshold.tolist()
    ([0.0, 0.0], [1.0, 1.0])
    """
    named, structure = jax.tree_util.tree_flatten_with_path(codec)
    params: dict[str, nnx.Param] = {}
    for path, leaf in named:
        inner = itertools.dropwhile(lambda key: key == _ENCODING, path)  # of an encoding in another, its own name
        name = jax.tree_util.keystr(tuple(inner), simple=True, separator="_")
        start = jnp.asarray(leaf, jnp.float32)
        if codec is not None and name in codec.encoding.positive:
            params[f"log_{name}"] = Threshold(jnp.log(_per_channel(name, start, channels)))
        else:
            params[f"learned_{name}"] = CodecParam(jnp.broadcast_to(start, (channels,)) if start.ndim == 0 else start)
    return structure, params


def assemble(structure: Structure, params: Iterable[nnx.Param]) -> Codec | None:
    """Return the codec with its arrays as learned so far."""
    return jax.tree.unflatten(structure, [_value(param) for param in params])


def _value(param: nnx.Param) -> Array:
    return jnp.exp(param[...]) if isinstance(param, Threshold) else param[...]


def _per_channel(name: str, start: Array, channels: int) -> Array:
    if start.shape not in ((), (1,), (channels,)):
        raise UsageError(
            f"Boundary: {name} of shape {start.shape} for {channels} channels that are sent: "
            f"use one number, or an array of {channels}"
        )
    if not isinstance(start, Tracer) and not bool(((start > 0) & jnp.isfinite(start)).all()):
        wrong = start[~((start > 0) & jnp.isfinite(start))].reshape(-1)[0]
        raise UsageError(f"Boundary: {name}={wrong} is not positive and finite: use a number above 0")
    return jnp.broadcast_to(start, (channels,))
