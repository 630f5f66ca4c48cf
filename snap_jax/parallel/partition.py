"""Which parameters the devices of a mesh axis divide, and along which dimension: each says so itself.

A layer that makes features is split along its outputs, one that reads them along its inputs, and what belongs to one
feature goes with it. Parameters that say nothing are whole on every device.

>>> from flax import nnx
>>> layer = nnx.Linear(8, 4, use_bias=False, kernel_metadata=split_along(1), rngs=nnx.Rngs(0))
>>> specs(nnx.state(layer))["kernel"].get_value()
P(None, 'tensor')
"""

from typing import Any

import jax
from flax import nnx
from jax.sharding import PartitionSpec
from jaxtyping import PyTree

from snap_jax.parallel.mesh import TENSOR

_KEY = "tensor_split"


def split_along(dimension: int | None) -> dict[str, int | None]:
    """Return the metadata of an `nnx.Param` that is divided along this dimension; None for not at all."""
    return {_KEY: dimension}


def split_of(parameter: Any) -> int | None:
    """Return the dimension along which a parameter is divided; None for not at all."""
    return parameter.get_metadata().get(_KEY) if isinstance(parameter, nnx.Variable) else None


def variables(params: PyTree) -> list[Any]:
    """Return the parameters of a tree, in the order of its leaves."""
    return jax.tree.leaves(params, is_leaf=_is_variable)


def specs(params: PyTree, *leading: str | None, axis_name: str = TENSOR) -> PyTree:
    """Return how each parameter lies on the mesh, as a `PartitionSpec`.

    Args:
      params: tree of `nnx.Variable`s.
      *leading: axes before its own.
      axis_name: mesh axis whose devices divide a layer.
    """

    def one(parameter: Any) -> Any:
        split = split_of(parameter)
        own = () if split is None else (*[None] * split, axis_name)
        return jax.tree.map(lambda _: PartitionSpec(*leading, *own), parameter)

    return jax.tree.map(one, params, is_leaf=_is_variable)


def _is_variable(node: Any) -> bool:
    return isinstance(node, nnx.Variable)
