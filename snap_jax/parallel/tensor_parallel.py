"""Tensor parallelism: the work of a layer divided over chips, whose partial results meet as spikes.

Law: with dense links a divided model has the loss and the gradient of the whole one, to float rounding; with coded
links what leaves a region is `lax.psum(codec.quantize(partial))`, and weights and thresholds learn from that.

Weights that make features are split by output ("column"), those that bring them back by input ("row"); in between
every chip works on its own features, and nothing crosses (Shoeybi et al. 2019, arXiv:1909.08053). So a `Region` of a
model has two ends: at `enter` goes in what all chips hold alike, at `leave` their partial sums are added.
"""

import abc
import dataclasses
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from snap_jax import collectives
from snap_jax._compat import as_varying, varying_axes
from snap_jax.boundary.boundary import Boundary
from snap_jax.codecs.codec import Codec
from snap_jax.errors import UsageError
from snap_jax.parallel.mesh import TENSOR
from snap_jax.parallel.partition import names_of, split_of
from snap_jax.parallel.partition import specs as specs

T = TypeVar("T")


class Region(nnx.Module):
    """A part of a model whose work may be divided over chips.

    Attributes:
      features: size of the last axis of what comes out.
      chips: that share the work.
    """

    features: int
    chips: int = 1

    @abc.abstractmethod
    def enter(self, tree: T) -> T:
        """What goes in: activations or parameters that all chips hold alike."""

    @abc.abstractmethod
    def share(self, x: Float[Array, "... features"]) -> Float[Array, "... share"]:
        """The part of this chip of the last axis, of what has entered."""

    @abc.abstractmethod
    def leave(self, partial: Float[Array, "... features"]) -> Float[Array, "... features"]:
        """What comes out, the sum over chips of what each has made of its share."""


class Whole(Region):
    """A region on one chip: nothing is divided.

    >>> region = Whole(2)
    >>> region.leave(region.enter(jnp.ones(2))).tolist()
    [1.0, 1.0]
    """

    def __init__(self, features: int):
        self.features = features

    def enter(self, tree):
        """The same."""
        return tree

    def share(self, x):
        """The same: one chip has all of it."""
        return x

    def leave(self, partial):
        """The same: it is the sum already."""
        return partial


class Divided(Region):
    """A region whose chips, along the mesh axis `tensor`, each do their share; partial sums leave as spikes.

    `leave` is a coded `psum`; its transpose is free. `enter` is free; its transpose, the sum of what each chip has to
    say about what went in, is coded by `grad_codec`, and so is that of gradients of thresholds.

    Args:
      features: size of the last axis of what comes out.
      codec: how partial sums leave; `None` sends floats. Its threshold is where learning starts, one for each feature,
        the same on all chips. Spikes that do not add up (bf16, absmax) are decoded, added and coded again.
      grad_codec: how cotangents are summed; `None` sends floats.
      chips: of that axis.
    """

    def __init__(self, features: int, codec: Codec | None, grad_codec: Codec | None, *, chips: int):
        self.features, self.chips = features, chips
        self.boundary = Boundary(codec, features, grad_codec=grad_codec)

    def enter(self, tree):
        """The same; its cotangents are added as `grad_codec` says."""
        with jax.named_scope("boundary"):
            return spread(tree, TENSOR, self.boundary.grad_codec)

    def share(self, x):
        """The channels of this chip; moves nothing."""
        size = x.shape[-1] // lax.axis_size(TENSOR)
        return lax.dynamic_slice_in_dim(x, lax.axis_index(TENSOR) * size, size, -1)

    def leave(self, partial):
        """The coded sum over chips."""
        with jax.named_scope("boundary"):
            return total(partial, TENSOR, self.boundary.codec, self.boundary.grad_codec)


def spread(tree: T, axis_name: str, grad_codec: Codec | None) -> T:
    """Arrays that are the same on all chips, typed varying; moves nothing. Their cotangents are summed, coded.

    Args:
      tree: pytree of float arrays; those that vary over the axis already are left alone.
      axis_name: mesh axis.
      grad_codec: how the cotangents travel, each 1/n of them as their sum once more if its spikes do not add up;
        `None` sends them as they are.
    """

    @jax.custom_vjp
    def copy(x: Array) -> Array:
        return as_varying(x, (axis_name,))

    def backward(_: None, cotangent: Array) -> tuple[Array]:
        with jax.named_scope("boundary"):
            return (collectives.psum(cotangent, axis_name, codec=grad_codec, sum_codec=_sum_codec(grad_codec)),)

    copy.defvjp(lambda x: (copy(x), None), backward)

    def one(x: Array) -> Array:
        if grad_codec is None or axis_name in varying_axes(x):
            return as_varying(x, (axis_name,))
        return copy(x)

    return jax.tree.map(one, tree)


def total(
    partial: Float[Array, "..."], axis_name: str, codec: Codec | None, grad_codec: Codec | None
) -> Float[Array, "..."]:
    """`lax.psum(codec.quantize(partial), axis_name)`, coded; gradients of thresholds are summed as `grad_codec` says.

    Args:
      partial: on each chip its own.
      axis_name: mesh axis.
      codec: how to send it; thresholds the same on all chips. `None` sends it as it is.
      grad_codec: how gradients of thresholds travel; `None` sends them as they are.
    """
    sum_codec = _sum_codec(codec)
    if codec is None or grad_codec is None:
        return collectives.psum(partial, axis_name, codec=codec, sum_codec=sum_codec)

    @jax.custom_vjp
    def send(local: Codec, shared: Codec, x: Array) -> Array:
        return collectives.psum(x, axis_name, codec=shared, sum_codec=sum_codec)

    def forward(local: Codec, shared: Codec, x: Array) -> tuple[Array, Any]:
        return send(local, shared, x), (local, shared, x)

    def backward(saved: Any, cotangent: Array) -> tuple[Codec, Codec, Array]:
        local, shared, x = saved
        _, pull = jax.vjp(lambda codec, x: codec.quantize(x), local, x)
        by_local, by_x = pull(as_varying(cotangent, (axis_name,)))
        return by_local, jax.tree.map(jnp.zeros_like, shared), by_x

    send.defvjp(forward, backward)
    return send(spread(codec, axis_name, grad_codec), codec, as_varying(partial, (axis_name,)))


def _sum_codec(codec: Codec | None) -> Codec | None:
    """For the second half of a sum: none if spikes add up, else the same code again."""
    return None if codec is None or codec.encoding.summable else codec


def divide(model: T, chips: int, codec: Codec | None, grad_codec: Codec | None = None) -> T:
    """A copy of a model each of whose regions is `Divided`, with a boundary and thresholds of its own.

    Its parameters are those of the model, whole, and the thresholds; `shard_map` gives each chip its part if told
    `in_specs=specs(params)`. Only there can it be called.

    Args:
      model: with regions, as `models.transformer`, `models.rwkv` and `models.resnet`.
      chips: of the mesh axis `tensor`.
      codec: how partial sums leave a region; `None` sends floats.
      grad_codec: how cotangents leave it at the other end; `None` sends them as they are.

    Raises:
      UsageError: if there is a weight that cannot be divided evenly.
    """
    part: Any = nnx.clone(model)
    codec = _for_parts(codec, chips)
    jax.tree.map_with_path(lambda path, leaf: _require_even(path, leaf, chips), nnx.state(part))
    modules = dict(nnx.iter_modules(part))
    for path, module in modules.items():
        if isinstance(module, Region):
            setattr(modules[path[:-1]], str(path[-1]), Divided(module.features, codec, grad_codec, chips=chips))
        if isinstance(module, nnx.GroupNorm) and TENSOR in split_of((*map(str, path), "scale")):
            _divide_groups(module, path, chips)
        if isinstance(module, nnx.Conv) and module.feature_group_count > 1:
            module.feature_group_count //= chips  # depthwise: each channel is a group
    return part


def _for_parts(codec: Codec | None, chips: int) -> Codec | None:
    """Its threshold starts smaller by `sqrt(chips)`: so much smaller are independent parts of a sum than the sum."""
    if codec is None or codec.encoding.threshold is None:
        return codec
    return dataclasses.replace(codec, encoding=codec.encoding.with_threshold(codec.encoding.threshold / chips**0.5))


def _divide_groups(norm: nnx.GroupNorm, path: tuple, chips: int) -> None:
    """Of heads, or of channels: a chip has some of them."""
    if norm.num_groups % chips:
        raise UsageError(
            f"divide: {chips} chips do not divide the {norm.num_groups} groups of {'.'.join(map(str, path))}, of "
            f"{norm.group_size} channels each: use a width of {norm.group_size * chips}, or fewer chips"
        )
    norm.num_groups //= chips


def _require_even(path: tuple, leaf: Array, chips: int) -> None:
    for size, axis in zip(leaf.shape, split_of(names_of(path)), strict=False):
        if axis and size % chips:
            raise UsageError(
                f"divide: {chips} chips do not divide {'.'.join(names_of(path))} of shape {leaf.shape}, "
                f"{size} of it: use a divisor of {size}"
            )
