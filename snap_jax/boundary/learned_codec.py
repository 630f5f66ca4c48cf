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
from jaxtyping import Array, PyTree

from snap_jax.codecs.codec import Codec
from snap_jax.errors import UsageError

Structure = Any  # of a codec: a PyTreeDef
_ENCODING = jax.tree_util.GetAttrKey("encoding")


class CodecParam(nnx.Param):
    """A number or array of an encoding, which is learned with the model; weight decay should leave it alone."""


class Threshold(CodecParam):
    """The logarithm of a learned array that stays positive: an optimizer step changes the array by a ratio.

    Weight decay of an optimizer acts on this logarithm and pulls every threshold to 1: give it a `decay_mask`. To
    select what the model had before boundaries were added, as a checkpoint of it holds, filter by type:

    >>> from snap_jax.boundary import Boundary
    >>> boundary = Boundary("count:3", features=4)
    >>> len(nnx.state(boundary, nnx.All(nnx.Param, nnx.Not(Threshold))))
    0
    """


class Constant(nnx.Variable):
    """An array that is kept and not learned."""


def decay_mask(params: PyTree) -> PyTree:
    """Return on which parameters weight decay should act: False for what codecs learn, such as thresholds.

    It is the `mask` of `optax.adamw` and `optax.add_decayed_weights`. Make it before training: `nnx.Optimizer` calls a
    mask that is a function with arrays whose types are lost.

    Args:
      params: an `nnx.State` or any other tree of `nnx.Variable`s, as `nnx.state(model, nnx.Param)` gives.

    Returns:
      The tree with a bool in place of each `nnx.Variable`.

    Raises:
      UsageError: for an array that is not in an `nnx.Variable`.

    >>> import optax
    >>> from snap_jax.boundary import Boundary
    >>> params = nnx.state(Boundary("count:3", features=4), nnx.Param)
    >>> decay_mask(params)["log_threshold"]
    False
    >>> optimizer = optax.adamw(1e-3, mask=decay_mask(params))
    """

    def of(param: Any) -> bool:
        if not isinstance(param, nnx.Variable):
            raise UsageError(
                f"decay_mask: a {type(param).__name__} does not say what it is, as an nnx.Variable does: make the mask "
                "before training, mask=snap.decay_mask(nnx.state(model, nnx.Param))"
            )
        return not isinstance(param, CodecParam)

    return jax.tree.map(of, params, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))


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
