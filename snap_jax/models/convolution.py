"""What the convolutional models have in common: a convolution and a norm.

Invariant: no image of a batch depends on another; convolutions and their gradients are those of `lax`.
"""

import functools
import math
import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array

from snap_jax._compat import as_varying, varying_axes
from snap_jax.errors import UsageError
from snap_jax.parallel.partition import split_along

Padding = str | Sequence[tuple[int, int]]
INPUTS, OUTPUTS = 2, 3  # dimensions of a kernel `[h, w, in, out]`
_GROUP = 16  # channels per group: the best fixed size in Table 3 of Wu & He 2018


def conv(
    inputs: int,
    outputs: int,
    size: int,
    *,
    rngs: nnx.Rngs,
    stride: int = 1,
    groups: int = 1,
    split: int | None = None,
) -> nnx.Conv:
    """Return a square convolution without bias, since a norm follows; of one group, or of one per channel.

    `split` is the dimension of its kernel that devices of the axis `tensor` divide, `INPUTS` or `OUTPUTS`.
    """
    return nnx.Conv(
        inputs,
        outputs,
        (size, size),
        strides=stride,
        feature_group_count=groups,
        use_bias=False,
        kernel_metadata=split_along(split),
        rngs=rngs,
        conv_general_dilated=convolve if groups == 1 else convolve_channels,
    )


def convolve(images: Array, kernel: Array, strides: Sequence[int], padding: Padding, **as_above: Any) -> Array:
    """`lax.conv_general_dilated` of images `[n, h, w, in]` and a kernel `[h, w, in, out]`; what `nnx.Conv` calls.

    XLA:CPU is fast for this order of axes only. It brings others into it, such as those that a gradient comes in, at
    the top of a program, but not in a loop or a branch (jax-ml/jax#12868), as a pipeline is one: there a gradient took
    ten times as long. So the gradient is written in this order, too.
    """
    del as_above  # no dilation, one group, the axes above
    pads = _pads(images, kernel, strides, padding)
    # A gradient that varies over a mesh axis is for an input that does; for others, JAX then sums it.
    axes = tuple(sorted(varying_axes(images) | varying_axes(kernel)))
    images, kernel = as_varying(images, axes), as_varying(kernel, axes)
    return _convolve(images, kernel, tuple(strides), tuple(map(tuple, pads)))


def convolve_channels(images: Array, kernel: Array, strides: Sequence[int], padding: Padding, **as_above: Any) -> Array:
    """Convolve each channel by itself, `y[o, c] = sum_k x[s o + k - p, c] w[k, c]`; the kernel is `[h, w, 1, c]`.

    Written as the sum that it is: `lax.conv_general_dilated` of as many groups as channels has no fast form on XLA:CPU,
    and its gradient took hundred times as long, for an image of 8 x 8 x 192 in a loop.
    """
    del as_above  # no dilation, one group per channel, the axes above
    padded = jnp.pad(images, ((0, 0), *_pads(images, kernel, strides, padding), (0, 0)))
    (height, width), (down, right) = kernel.shape[:2], strides
    rows, columns = padded.shape[1] - height + 1, padded.shape[2] - width + 1
    shifted = (
        padded[:, i : i + rows : down, j : j + columns : right] * kernel[i, j, 0]
        for i in range(height)
        for j in range(width)
    )
    return functools.reduce(operator.add, shifted)


def _pads(images: Array, kernel: Array, strides: Sequence[int], padding: Padding) -> Sequence[tuple[int, int]]:
    if isinstance(padding, str):
        return lax.padtype_to_pads(images.shape[1:3], kernel.shape[:2], strides, padding)
    return padding


def _plain(
    images: Array, kernel: Array, strides: Sequence[int], padding: Padding, spread=(1, 1), apart=(1, 1)
) -> Array:
    axes = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(images, kernel, strides, padding, spread, apart, dimension_numbers=axes)


def _forward(images, kernel, strides, padding):
    return _plain(images, kernel, strides, padding), (images, kernel)


def _backward(strides, padding, kept, ahead):
    """Of `y[o] = sum_k x[s o + k - p] w[k]`, for each of the two axes.

    `dx[i] = sum_k dy'[i + p - k] w[k]`, where `dy'` is `dy` with `s - 1` zeros between its numbers;
    `dw[k] = sum_o x[s o + k - p] dy[o]`, over all images, which here take the place of the channels.
    """
    images, kernel = kept
    sizes = zip(images.shape[1:3], kernel.shape[:2], ahead.shape[1:3], strides, padding, strict=True)
    room = [(p, k, x - 1 - s * (y - 1)) for x, k, y, s, (p, _) in sizes]
    to_images, to_kernel = (
        [(k - 1 - p, p + left) for p, k, left in room],
        [(p, k - 1 - p - left) for p, k, left in room],
    )
    turned = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    of_images = _plain(ahead, turned, (1, 1), to_images, spread=strides)
    of_kernel = _plain(images.transpose(3, 1, 2, 0), ahead.transpose(1, 2, 0, 3), (1, 1), to_kernel, apart=strides)
    return of_images, of_kernel.transpose(1, 2, 0, 3)


_convolve = jax.custom_vjp(lambda *args: _plain(*args), nondiff_argnums=(2, 3))
_convolve.defvjp(_forward, _backward)


def norm(width: int, *, rngs: nnx.Rngs, scale: float = 1.0, parts: int = 1, split: bool = False) -> nnx.GroupNorm:
    """Return group normalization (Wu & He 2018) in groups of 16 channels, or of 8 where 16 does not divide them.

    Not batch normalization: its statistics would depend on how a batch is divided into microbatches and over devices,
    and its running averages would be one more state to keep equal on all of them.

    Args:
      width: channels, a multiple of 8.
      rngs: unused by constants, asked for by `nnx`.
      scale: where the learnable scale starts; 0 turns a branch off until it has learned something.
      parts: that channels may be divided into without cutting a group: then groups are the largest of at most 16 that
        divide a part, since in the same table any size from 2 on is within half a point of the best.
      split: whether devices of the axis `tensor` divide the channels.

    Raises:
      UsageError: groups would have fewer than 8 channels.
    """
    group = math.gcd(width, _GROUP)
    if group < _GROUP // 2:
        raise UsageError(
            f"norm: width={width} is no multiple of {_GROUP // 2}: use one that is, e.g. {-(-width // 8) * 8}"
        )
    if parts > 1:
        group = max(size for size in range(1, _GROUP + 1) if width % (parts * size) == 0)
    start = nnx.initializers.constant(scale)
    own = split_along(0 if split else None)
    return nnx.GroupNorm(
        width,
        num_groups=None,
        group_size=group,
        scale_init=start,
        scale_metadata=own,
        bias_metadata=own,
        rngs=rngs,
    )
