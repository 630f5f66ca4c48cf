"""Data parallelism: every replica has its own gradient, and their mean crosses as spikes.

Law: the dense mean of the gradients of equal shares of a batch is the gradient of the whole batch. Coded, nothing is
lost: the sum of all updates is that of all gradients but for the last membranes (`membranes`).

A step computes one gradient a replica, stacked along a new first axis that lies on the mesh axis `data`; `average` is
the optax transformation that makes one of them, with membranes as its state.
"""

from collections.abc import Callable
from typing import Any

import jax
import optax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import PyTree

from snap_jax.codecs import Codec
from snap_jax.membranes import Feedback, error_feedback

AXIS = "data"


def average(mesh: Mesh, codec: Codec, specs: Callable[[PyTree], PyTree]) -> optax.GradientTransformation:
    """The mean over replicas of gradients that each has for itself, sent as spikes, with error feedback.

    Outside of `shard_map`, unlike `error_feedback`: chain it before any optimizer. Membranes start empty.

    Args:
      mesh: with the axis `data`.
      codec: `Ternary` or `Count`; its threshold counts in mean sizes of each parameter's gradient.
      specs: parameters -> how each lies on the mesh, a `PartitionSpec` without `data`.

    Raises:
      UsageError: if spikes of the codec do not add up.
    """
    feedback = error_feedback(codec, AXIS)

    def init(params: PyTree) -> Feedback:
        alone = specs(params)
        start = jax.shard_map(feedback.init, mesh=mesh, in_specs=(alone,), out_specs=Feedback(rows(alone)))
        return jax.jit(start)(params)

    def one(gradients: PyTree, state: Feedback) -> tuple[PyTree, Any]:
        return feedback.update(jax.tree.map(lambda g: g[0], gradients), state)

    def update(updates: PyTree, state: Any, params: PyTree | None = None) -> tuple[PyTree, Any]:
        alone = specs(updates)
        states = Feedback(rows(alone))
        mean = jax.shard_map(one, mesh=mesh, in_specs=(rows(alone), states), out_specs=(alone, states))
        return mean(updates, state)

    return optax.GradientTransformation(init, update)


def rows(specs: PyTree) -> PyTree:
    """How one row a replica of each parameter lies on the mesh.

    >>> rows({"kernel": PartitionSpec(None, "tensor")})
    {'kernel': P('data', None, 'tensor')}
    """
    return jax.tree.map(lambda spec: PartitionSpec(AXIS, *spec), specs)
