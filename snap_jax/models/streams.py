"""Several residual streams side by side, as hyper-connections (Zhu et al. 2024, arXiv:2409.19606), without mixing.

A block of width `d` reads a weighted sum of `n` streams and adds what it changed to all of them: `h = sum_i r_i x_i`,
`x_i <- x_i + w_i (block(h) - h)`, with weights per stream and channel. So the stream that crosses to the next device
has `n d` numbers per token, while layers cost what they cost at width `d`.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PyTree

from snap_jax.boundary.transforms.stream_mixture import weighted_sum
from snap_jax.errors import UsageError

Layer = Any
"""A block: called with a stream, and with `initial_state` and `step` for inference."""


class ReadStreams(nnx.Module):
    """`h = sum_i r_i x_i`; at first `r = 1 / sqrt(n)`, which keeps unit size where streams are independent.

    >>> read = ReadStreams(8, streams=4)
    >>> read(jnp.ones((1, 3, 8)))[0, 0].tolist()
    [2.0, 2.0]
    """

    def __init__(self, width: int, streams: int):
        self.weight = nnx.Param(jnp.full((streams, width // streams), streams**-0.5))

    def __call__(self, x: Float[Array, "... width"]) -> Float[Array, "... inner"]:
        """Return what a layer reads of all streams."""
        return weighted_sum(x, self.weight[...])


class StreamBlock(nnx.Module):
    """A block that reads and writes several streams."""

    def __init__(self, block: Layer, width: int, streams: int):
        self.block = block
        self.read = ReadStreams(width, streams)
        self.write = nnx.Param(jnp.full((streams, width // streams), streams**-0.5))

    def __call__(self, x: Float[Array, "batch time width"]) -> Float[Array, "batch time width"]:
        """Return the streams after this block."""
        h = self.read(x)
        return self.written(x, self.block(h) - h)

    def initial_state(self, batch: int, positions: int) -> PyTree:
        """Return the state of the block before the first token."""
        return self.block.initial_state(batch, positions)

    def step(self, x: Array, state: PyTree, start: Array) -> tuple[Array, PyTree]:
        """Return the streams of the next tokens, and the state after them."""
        h = self.read(x)
        y, state = self.block.step(h, state, start)
        return self.written(x, y - h), state

    def written(self, x: Float[Array, "... width"], change: Float[Array, "... inner"]) -> Float[Array, "... width"]:
        """Return the streams after a change of what was read."""
        return x + (change[..., None, :] * self.write[...]).reshape(x.shape)


def inner_width(name: str, width: int, streams: int) -> int:
    """Return the width of a layer that reads `streams` of `width` numbers together.

    >>> inner_width("rwkv.RWKVConfig", 64, 4)
    16

    Raises:
      UsageError: names `name`, if the streams do not divide the width.
    """
    if streams < 1 or width % streams:
        raise UsageError(f"{name}: streams={streams} does not divide width={width}: use a divisor")
    return width // streams


def in_streams(block: Layer, width: int, streams: int) -> Layer:
    """Return the block as it is for one stream, else a `StreamBlock` around it."""
    return block if streams == 1 else StreamBlock(block, width, streams)


def norm_of_streams(make: Callable[[int], nnx.Module], width: int, streams: int) -> nnx.Module:
    """Return what normalizes the stream at the exit: `make(width)`, after a `ReadStreams` where there are several."""
    return make(width) if streams == 1 else nnx.Sequential(ReadStreams(width, streams), make(width // streams))
