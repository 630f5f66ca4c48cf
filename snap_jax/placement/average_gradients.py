"""Gradients of a placed model, averaged over mesh axes as its rules say."""

from typing import Any

import jax
import optax
from flax import nnx
from jaxtyping import PyTree

from snap_jax.errors import UsageError
from snap_jax.parallel.error_feedback import error_feedback
from snap_jax.placement.place import placed_hooks
from snap_jax.placement.roles import Gradients

_ALONE = "as they are"


def average_gradients(model: nnx.Module) -> optax.GradientTransformation:
    """Return an optimizer step that averages gradients with error feedback, as rules of the role `gradients` say.

    It belongs inside `shard_map`, in front of an optimizer, as `error_feedback`. The rule of the deepest path counts.
    Gradients under no rule stay as they are, and those under a rule without a codec are averaged as floats.

    Args:
      model: placed; gradients are a tree of its `nnx.state(model, nnx.Param)`.

    Raises:
      UsageError: if no rule has that role.
    """
    hooks = {path: hook for path, hook in placed_hooks(model) if isinstance(hook, Gradients)}
    if not hooks:
        raise UsageError(
            "average_gradients: no rule has the role 'gradients': place one, e.g. Rule('', 'gradients', ...)"
        )

    def label(path: tuple, variable: nnx.Variable) -> PyTree:
        names = ".".join(map(str, path))
        found = max((p for p in hooks if not p or names.startswith(f"{p}.")), key=len, default=_ALONE)
        return jax.tree.map(lambda _: found, variable)

    def labels(params: PyTree) -> PyTree:
        return nnx.from_flat_state({path: label(path, variable) for path, variable in nnx.to_flat_state(params)})

    steps: dict[Any, optax.GradientTransformation] = {path: _step(hook) for path, hook in hooks.items()}
    return optax.multi_transform({**steps, _ALONE: optax.identity()}, labels)


def _step(hook: Gradients) -> optax.GradientTransformation:
    axis, codec = str(hook.axis), hook.rule_codec
    if codec is None:
        return optax.stateless(lambda updates, _: jax.lax.pmean(updates, axis))
    return error_feedback(codec, axis)
