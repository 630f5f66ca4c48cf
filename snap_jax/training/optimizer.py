"""The optimizer of a run, its learning-rate schedule, and how gradients are clipped."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from snap_jax.training.config import Settings

Rule = optax.GradientTransformation
_LAST_RATE = 0.05  # of the peak learning rate, at the end


def optimizer(config: Settings, decayed: Callable[[PyTree], PyTree] = lambda params: params) -> Rule:
    """Return AdamW with the schedule of a config, for gradients that are already `clipped`.

    Args:
      config: of the run.
      decayed: parameters -> the same, with zeros in place of those on which weight decay does not act.
    """
    decay = optax.stateless(lambda updates, params: _add(updates, 0.01, decayed(params)))
    return optax.chain(optax.scale_by_adam(b2=0.98), decay, optax.scale_by_learning_rate(schedule(config)))


def _add(updates: PyTree, rate: float, params: PyTree) -> PyTree:
    return jax.tree.map(lambda u, p: u + rate * p, updates, params)


def clipped(gradient: PyTree, norm: Float[Array, ""], limit: float = 1.0) -> PyTree:
    """Return the gradient clipped to a norm: `g min(1, limit / norm)`.

    As `optax.clip_by_global_norm`, which would sum over all devices once more for a norm that is known.

    >>> clipped({"a": jnp.array([3.0, 4.0])}, jnp.float32(5.0))["a"].round(6).tolist()
    [0.6000000238418579, 0.800000011920929]
    """
    return jax.tree.map(lambda g: jnp.where(norm < limit, g, g / norm.astype(g.dtype) * limit), gradient)


def schedule(config: Settings) -> optax.Schedule:
    """Return a linear warm-up over 5 % of the steps, then `cosine` or `linear` to 5 % of the peak, or `constant`.

    >>> from snap_jax.training.config import LanguageConfig
    >>> rate = schedule(LanguageConfig(steps=100, learning_rate=1.0, schedule="linear"))
    >>> [round(float(rate(step)), 3) for step in (0, 1, 5, 100)]
    [0.0, 0.2, 1.0, 0.05]
    """
    peak, warmup = config.learning_rate, max(1, config.steps // 20)
    end = max(config.steps, warmup + 1)
    if config.schedule == "cosine":
        return optax.warmup_cosine_decay_schedule(0.0, peak, warmup, end, _LAST_RATE * peak)
    last = peak if config.schedule == "constant" else _LAST_RATE * peak
    rise, fall = optax.linear_schedule(0.0, peak, warmup), optax.linear_schedule(peak, last, end - warmup)
    return optax.join_schedules([rise, fall], [warmup])
