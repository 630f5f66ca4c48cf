"""Tensor parallelism: the work of a layer is divided over devices, and their partial results are summed as spikes.

Invariant: with dense links a divided model has the loss and the gradient of the whole one, to float rounding. With
coded links what leaves a region is `lax.psum(codec.quantize(partial))`, and weights and thresholds learn from that.

Weights that make features are split by output ("column"), those that read them by input ("row"). In between every
device works on its own features, and nothing crosses (Shoeybi et al. 2019, arXiv:1909.08053). So a `Region` of a model
has two ends: what all devices hold enters, and their partial sums leave.
"""

import abc
import dataclasses
from collections.abc import Callable
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
from snap_jax.parallel.partition import split_of

T = TypeVar("T")


class Region(nnx.Module):
    """A part of a model whose work may be divided over devices.

    Attributes:
      features: size of the last axis of what comes out.
      devices: that share the work.
    """

    features: int
    devices: int = 1

    @abc.abstractmethod
    def enter(self, tree: T) -> T:
        """Take in activations or parameters that all devices hold."""

    @abc.abstractmethod
    def share(self, x: Float[Array, "... features"]) -> Float[Array, "... share"]:
        """Return the part of this device of the last axis of what has entered."""

    @abc.abstractmethod
    def leave(self, partial: Float[Array, "... features"]) -> Float[Array, "... features"]:
        """Return the sum over devices of what each has made of its share."""


class WholeRegion(Region):
    """A region on one device: nothing is divided.

    >>> region = WholeRegion(2)
    >>> region.leave(region.enter(jnp.ones(2))).tolist()
    [1.0, 1.0]
    """

    def __init__(self, features: int):
        self.features = features

    def enter(self, tree):
        """Return the same."""
        return tree

    def share(self, x):
        """Return the same: one device has all of it."""
        return x

    def leave(self, partial):
        """Return the same: it is the sum already."""
        return partial


class DividedRegion(Region):
    """A region whose devices, along one mesh axis, each do their share; partial sums leave as spikes.

    `leave` is a coded `psum`; its transpose moves nothing. `enter` moves nothing; its transpose, the sum of the
    cotangents of all devices, is coded by `grad_codec`, and so is that of gradients of thresholds.

    Args:
      features: size of the last axis of what comes out.
      codec: how partial sums leave; None sends floats. Its threshold is that of the sum; parts of it start with a
        threshold smaller by `sqrt(devices)`, since so much smaller are independent parts than their sum. Learning
        starts there, one threshold per feature, the same on all devices. Spikes that do not add up (bf16, absmax) are
        decoded, added and coded again.
      grad_codec: how cotangents are summed; None sends floats.
      devices: of that axis.
      axis_name: mesh axis.
    """

    def __init__(
        self,
        features: int,
        codec: Codec | None,
        grad_codec: Codec | None,
        *,
        devices: int,
        axis_name: str = TENSOR,
    ):
        self.features, self.devices, self.axis_name = features, devices, axis_name
        codec = with_threshold(codec, lambda threshold: threshold / devices**0.5)
        self.boundary = Boundary(codec, features, grad_codec=grad_codec)

    def enter(self, tree):
        """Return the same; its cotangents are summed as `grad_codec` says."""
        with jax.named_scope("boundary"):
            return spread(tree, self.axis_name, self.boundary.grad_codec)

    def share(self, x):
        """Return the channels of this device; moves nothing."""
        size = x.shape[-1] // lax.axis_size(self.axis_name)
        return lax.dynamic_slice_in_dim(x, lax.axis_index(self.axis_name) * size, size, -1)

    def leave(self, partial):
        """Return the coded sum over devices."""
        with jax.named_scope("boundary"):
            boundary = self.boundary
            return total(partial, self.axis_name, boundary.codec, boundary.grad_codec, devices=self.devices)


def spread(tree: T, axis_name: str, grad_codec: Codec | None) -> T:
    """Type arrays that are the same on all devices as varying; moves nothing. Their cotangents are summed, coded.

    Args:
      tree: pytree of float arrays; those that vary over the axis already are left alone.
      axis_name: mesh axis.
      grad_codec: how the cotangents travel, and their sum once more if its spikes do not add up; None sends floats.
    """

    @jax.custom_vjp
    def copy(x: Array) -> Array:
        return as_varying(x, (axis_name,))

    def backward(_: None, cotangent: Array) -> tuple[Array]:
        with jax.named_scope("boundary"):
            return (collectives.psum(cotangent, axis_name, codec=grad_codec, sum_codec=sum_codec_of(grad_codec, 1)),)

    copy.defvjp(lambda x: (copy(x), None), backward)

    def one(x: Array) -> Array:
        if grad_codec is None or axis_name in varying_axes(x):
            return as_varying(x, (axis_name,))
        return copy(x)

    return jax.tree.map(one, tree)


def total(
    partial: Float[Array, "..."], axis_name: str, codec: Codec | None, grad_codec: Codec | None, *, devices: int = 1
) -> Float[Array, "..."]:
    """Return `lax.psum(codec.quantize(partial), axis_name)`; gradients of thresholds are summed as `grad_codec` says.

    Args:
      partial: on each device its own.
      axis_name: mesh axis.
      codec: how to send it; thresholds the same on all devices. None sends floats.
      grad_codec: how gradients of thresholds travel; None sends floats.
      devices: how many independent parts the sum has, for the threshold of a sum that is coded again.
    """
    if codec is None or grad_codec is None:
        return collectives.psum(partial, axis_name, codec=codec, sum_codec=sum_codec_of(codec, devices))

    @jax.custom_vjp
    def send(local: Codec, shared: Codec, x: Array) -> Array:
        return collectives.psum(x, axis_name, codec=shared, sum_codec=sum_codec_of(shared, devices))

    def forward(local: Codec, shared: Codec, x: Array) -> tuple[Array, Any]:
        return send(local, shared, x), (local, shared, x)

    def backward(saved: Any, cotangent: Array) -> tuple[Codec, Codec, Array]:
        local, shared, x = saved
        _, pull = jax.vjp(lambda codec, x: codec.quantize(x), local, x)
        by_local, by_x = pull(as_varying(cotangent, (axis_name,)))
        return by_local, jax.tree.map(jnp.zeros_like, shared), by_x

    send.defvjp(forward, backward)
    return send(spread(codec, axis_name, grad_codec), codec, as_varying(partial, (axis_name,)))


def sum_codec_of(codec: Codec | None, parts: int) -> Codec | None:
    """Return the codec of the second half of a sum: None if spikes add up, else the threshold of the sum.

    A sum of n independent parts is `sqrt(n)` times as large as a part, and so is its threshold.

    >>> from snap_jax.encodings import Latency
    >>> sum_codec_of(Codec(Latency(8, threshold=0.5)), parts=4).encoding.threshold
    1.0
    """
    return None if codec is None or codec.encoding.summable else with_threshold(codec, lambda t: t * parts**0.5)


def with_threshold(codec: Codec | None, change: Callable[[Any], Any]) -> Codec | None:
    """Return the codec with a changed threshold; the same where it has none."""
    if codec is None or codec.encoding.threshold is None or codec.encoding.relative:
        return codec
    return dataclasses.replace(codec, encoding=codec.encoding.with_threshold(change(codec.encoding.threshold)))


def divide(
    model: T, devices: int, codec: Codec | None, grad_codec: Codec | None = None, *, axis_name: str = TENSOR
) -> T:
    """Return a copy of a model each of whose regions is divided, with a boundary and thresholds of its own.

    Its parameters are those of the model, whole, and the thresholds; `shard_map` gives each device its part if told
    `in_specs=partition.specs(params, axis_name=axis_name)`. It can only be called there.

    Args:
      model: with regions, as those of `snap_jax.models`, whose parameters say along which dimension they are split.
      devices: of the mesh axis.
      codec: how partial sums leave a region; None sends floats.
      grad_codec: how cotangents leave it at the other end; None sends floats.
      axis_name: mesh axis.

    Raises:
      UsageError: if there is a parameter that cannot be divided evenly; if the model has no region.
    """
    part: Any = nnx.clone(model)
    if not any(isinstance(module, Region) for _, module in nnx.iter_modules(part)):
        raise UsageError(
            f"divide: {type(model).__name__} has no Region, so nothing would be divided: use snap.place, whose rules "
            "name layers by path, or write a WholeRegion into its layers"
        )
    for path, parameter in nnx.to_flat_state(nnx.state(part)):
        _require_even(path, parameter, devices)
    modules = dict(nnx.iter_modules(part))
    for path, module in modules.items():
        if isinstance(module, Region):
            region = DividedRegion(module.features, codec, grad_codec, devices=devices, axis_name=axis_name)
            setattr(modules[path[:-1]], str(path[-1]), region)
        if isinstance(module, nnx.GroupNorm) and split_of(module.scale) is not None:
            _divide_groups(module, path, devices)
        if isinstance(module, nnx.Conv) and module.feature_group_count > 1 and split_of(module.kernel) is not None:
            module.feature_group_count //= devices  # depthwise: each channel is a group
    return part


def _divide_groups(norm: nnx.GroupNorm, path: tuple, devices: int) -> None:
    """Give a device some of the groups, which are heads or channels."""
    if norm.num_groups % devices:
        raise UsageError(
            f"divide: {devices} devices do not divide the {norm.num_groups} groups of {'.'.join(map(str, path))}, of "
            f"{norm.group_size} channels each: use a width of {norm.group_size * devices}, or fewer devices"
        )
    norm.num_groups //= devices


def _require_even(path: tuple, parameter: Any, devices: int) -> None:
    split = split_of(parameter)
    shape = parameter[...].shape
    if split is not None and shape[split] % devices:
        raise UsageError(
            f"divide: {devices} devices do not divide {'.'.join(map(str, path))} of shape {shape}, "
            f"{shape[split]} of it: use a divisor of {shape[split]}"
        )
