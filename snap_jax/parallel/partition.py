"""Splits: which weights of a model are divided over the chips of the mesh axis `tensor`, and along which dimension.

Law: weights that make features are split by output, those that bring them back by input, and what belongs to one
feature goes with it; all others are whole on every chip.
"""

import jax
from jax.sharding import PartitionSpec
from jaxtyping import PyTree

from snap_jax.parallel.mesh import TENSOR

SHARES = "shares"  # what chips divide of a stage unlike others, a row each (`models.rows`)

# How the kernels of a region are split: each dimension named here is divided over the chips.
_OUTPUTS, _INPUTS = PartitionSpec(None, TENSOR), PartitionSpec(TENSOR)
_OUTPUTS_2D, _INPUTS_2D = PartitionSpec(None, None, None, TENSOR), PartitionSpec(None, None, TENSOR)  # of convolutions
_SPLIT = {
    ("attention", "query", "kernel"): _OUTPUTS,  # by heads
    ("attention", "key", "kernel"): _OUTPUTS,
    ("attention", "value", "kernel"): _OUTPUTS,
    ("attention", "output", "kernel"): _INPUTS,
    ("mlp", "up", "kernel"): _OUTPUTS,
    ("mlp", "hidden", "log_threshold"): _INPUTS,
    ("mlp", "down", "kernel"): _INPUTS,
    ("time_mix", "receptance", "kernel"): _OUTPUTS,  # by heads
    ("time_mix", "key", "kernel"): _OUTPUTS,
    ("time_mix", "value", "kernel"): _OUTPUTS,
    ("time_mix", "gate", "kernel"): _OUTPUTS,
    ("time_mix", "decay"): _INPUTS,
    ("time_mix", "bonus"): _INPUTS,
    ("time_mix", "norm", "scale"): _INPUTS,
    ("time_mix", "norm", "bias"): _INPUTS,
    ("time_mix", "output", "kernel"): _INPUTS,
    ("channel_mix", "key", "kernel"): _OUTPUTS,
    ("channel_mix", "hidden", "log_threshold"): _INPUTS,
    ("channel_mix", "value", "kernel"): _INPUTS,
    ("conv1", "kernel"): _OUTPUTS_2D,
    ("norm_inside", "scale"): _INPUTS,
    ("norm_inside", "bias"): _INPUTS,
    ("conv2", "kernel"): _INPUTS_2D,
    ("expand", "conv", "kernel"): _OUTPUTS_2D,
    ("expand", "norm", "scale"): _INPUTS,
    ("expand", "norm", "bias"): _INPUTS,
    ("depthwise", "conv", "kernel"): _OUTPUTS_2D,  # of each channel its own
    ("depthwise", "norm", "scale"): _INPUTS,
    ("depthwise", "norm", "bias"): _INPUTS,
    ("gate", "down", "kernel"): _INPUTS,
    ("gate", "up", "kernel"): _OUTPUTS,
    ("gate", "up", "bias"): _INPUTS,
    ("project", "conv", "kernel"): _INPUTS_2D,
    (SHARES,): _INPUTS,
}


def specs(params: PyTree, *leading: str | None) -> PyTree:
    """For each parameter how it lies on the mesh, as a `PartitionSpec`; `leading` are axes before its own.

    >>> specs({"attention": {"query": {"kernel": jnp.ones((8, 2, 4))}}, "head": jnp.ones((8, 256))})
    {'attention': {'query': {'kernel': P(None, 'tensor')}}, 'head': P()}
    """
    return jax.tree.map_with_path(lambda path, _: PartitionSpec(*leading, *split_of(names_of(path))), params)


def split_of(names: tuple[str, ...]) -> PartitionSpec:
    """How the weight of that name is split.

    >>> split_of(("blocks", "0", "mlp", "down", "kernel")), split_of(("blocks", "0", "norm1", "scale"))
    (P('tensor',), P())
    """
    return next((split for end, split in _SPLIT.items() if names[-len(end) :] == end), PartitionSpec())


def names_of(path: tuple) -> tuple[str, ...]:
    """The names along a path of `jax.tree.map_with_path`, of the weight itself the last."""
    names = tuple(jax.tree_util.keystr((key,), simple=True) for key in path)
    return names[:-1] if names[-1] == "value" else names  # of an nnx.Param
