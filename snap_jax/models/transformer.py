"""Transformer: a decoder as in Llama (Touvron et al. 2023), with the squared ReLU of Primer (So et al. 2021).

`x = norm(embed(token))`; each block adds causal attention and an MLP to the stream; `logits = head(norm(x))`.
Invariant: no token sees its future, and attention depends on distances only: `rotate(q, t) . rotate(k, s)` depends on
`t - s`.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float, PyTree

from snap_jax.errors import UsageError
from snap_jax.models.base import EachBlock, LanguageNetwork, whole
from snap_jax.models.neurons import feed, hidden
from snap_jax.models.streams import in_streams, inner_width, norm_of_streams
from snap_jax.parallel.partition import split_along
from snap_jax.parallel.tensor_parallel import Region, WholeRegion


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """The size of the model.

    Attributes:
      layers: blocks.
      width: size of the residual stream.
      heads: of attention; each of even size width / heads.
      vocabulary: 256 for bytes.
      expansion: hidden size of the MLP over the width.
      time_steps: 0 for floats; else time steps of the neurons before attention and MLP and in the hidden layer.
      streams: residual streams that divide the width; layers have the width of one (`models.streams`).
    """

    layers: int = 4
    width: int = 128
    heads: int = 4
    vocabulary: int = 256
    expansion: int = 4
    time_steps: int = 0
    streams: int = 1

    def __post_init__(self):
        width = inner_width("transformer.TransformerConfig", self.width, self.streams)
        if width % (2 * self.heads):
            raise UsageError(
                f"transformer.TransformerConfig: heads={self.heads} of even size do not divide width={width}: "
                "use a divisor of width / 2"
            )

    @property
    def of_a_layer(self) -> "TransformerConfig":
        """The size of what a block computes, on one stream."""
        return dataclasses.replace(self, width=self.width // self.streams, streams=1)


def rotate(
    x: Float[Array, "batch time heads size"], base: float = 10_000.0, start: Array | int = 0
) -> Float[Array, "batch time heads size"]:
    """Apply rotary positions: token t turns the pair `(x_i, x_{i + size/2})` by `t / base^{2i/size}` (Su et al. 2021).

    The first token given has position `start`.

    >>> y = rotate(jnp.ones((1, 2, 1, 2)))
    >>> [f"{turned:.3f}" for turned in y[0, 1, 0]]  # cos 1 - sin 1, cos 1 + sin 1
    ['-0.301', '1.382']
    """
    half = x.shape[-1] // 2
    angle = (start + jnp.arange(x.shape[1]))[:, None, None] * base ** (-jnp.arange(half) / half)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    a, b = x[..., :half], x[..., half:]
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], -1)


class Attention(nnx.Module):
    """Mixes along time: causal attention of several heads."""

    def __init__(self, config: TransformerConfig, rngs: nnx.Rngs):
        width, heads = config.width, (config.heads, config.width // config.heads)
        self.feed = feed(width, config.time_steps)
        by_heads = {"use_bias": False, "rngs": rngs}
        self.query, self.key, self.value = (
            nnx.LinearGeneral(width, heads, kernel_metadata=split_along(1), **by_heads) for _ in range(3)
        )
        self.output = nnx.LinearGeneral(
            heads,
            width,
            axis=(-2, -1),
            kernel_init=nnx.initializers.zeros,
            kernel_metadata=split_along(0),
            use_bias=False,
            rngs=rngs,
        )
        self.region: Region = WholeRegion(width)

    def __call__(self, x: Float[Array, "batch time width"]) -> Float[Array, "batch time width"]:
        """Return what attention adds to the stream."""
        x = self.region.enter(self.feed(x))
        q, k, v = rotate(self.query(x)), rotate(self.key(x)), self.value(x)
        return self.region.leave(self.output(jax.nn.dot_product_attention(q, k, v, is_causal=True)))

    def step(self, x: Array, cache: tuple[Array, Array], start: Array) -> tuple[Array, tuple[Array, Array]]:
        """Go on from the keys and values of the `start` tokens before, `[batch, positions, heads, size]` each."""
        x = self.region.enter(self.feed(x))
        q, new = rotate(self.query(x), start=start), (rotate(self.key(x), start=start), self.value(x))
        k, v = (lax.dynamic_update_slice_in_dim(c, n, start, 1) for c, n in zip(cache, new, strict=True))
        known = jnp.arange(k.shape[1]) <= (start + jnp.arange(x.shape[1]))[:, None]
        y = jax.nn.dot_product_attention(q, k, v, mask=known[None, None])
        return self.region.leave(self.output(y)), (k, v)


class MLP(nnx.Module):
    """Mixes channels: squared ReLU, or neurons that spike."""

    def __init__(self, config: TransformerConfig, rngs: nnx.Rngs):
        width, wide = config.width, config.width * config.expansion
        self.feed = feed(width, config.time_steps)
        self.up = nnx.Linear(width, wide, use_bias=False, kernel_metadata=split_along(1), rngs=rngs)
        self.hidden = hidden(wide, config.time_steps)
        zeros = nnx.initializers.zeros
        self.down = nnx.Linear(
            wide, width, use_bias=False, kernel_init=zeros, kernel_metadata=split_along(0), rngs=rngs
        )
        self.region: Region = WholeRegion(width)

    def __call__(self, x: Float[Array, "batch time width"]) -> Float[Array, "batch time width"]:
        """Return what the MLP adds to the stream."""
        x = self.region.enter(self.feed(x))
        return self.region.leave(self.down(self.hidden(self.up(x))))


class Block(nnx.Module):
    """`x + attention(norm(x))`, then `x + mlp(norm(x))`."""

    def __init__(self, config: TransformerConfig, rngs: nnx.Rngs):
        self.norm1, self.norm2 = (nnx.RMSNorm(config.width, rngs=rngs) for _ in range(2))
        self.attention = Attention(config, rngs)
        self.mlp = MLP(config, rngs)

    def __call__(self, x: Float[Array, "batch time width"]) -> Float[Array, "batch time width"]:
        """Return the stream after this block."""
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))

    def initial_state(self, batch: int, positions: int) -> PyTree:
        """Return an empty cache of keys and values for so many positions."""
        _, heads, size = self.attention.key.kernel.shape
        return tuple(jnp.zeros((batch, positions, heads, size)) for _ in range(2))

    def step(self, x: Array, state: PyTree, start: Array) -> tuple[Array, PyTree]:
        """Return the stream of the next tokens, from position `start`, and the cache with them."""
        added, state = self.attention.step(self.norm1(x), state, start)
        x = x + added
        return x + self.mlp(self.norm2(x)), state


class Transformer(LanguageNetwork):
    """The whole model, or with fewer `blocks` the part on one device.

    >>> model = Transformer(TransformerConfig(layers=2, width=16, heads=2), rngs=nnx.Rngs(0))
    >>> model(jnp.zeros((1, 8), jnp.int32)).shape
    (1, 8, 256)
    """

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs, each_block: EachBlock = whole):
        self.embed = nnx.Embed(config.vocabulary, config.width, rngs=rngs)
        # The stream starts at unit size, which is what links between stages expect.
        self.norm_in = nnx.RMSNorm(config.width, rngs=rngs)
        size, streams = config.of_a_layer, (config.width, config.streams)
        blocks = (in_streams(Block(size, rngs), *streams) for _ in range(config.layers))
        self.blocks = nnx.List([each_block(i, block) for i, block in enumerate(blocks)])
        self.norm_out = norm_of_streams(lambda width: nnx.RMSNorm(width, rngs=rngs), *streams)
        self.head = nnx.Linear(size.width, config.vocabulary, use_bias=False, rngs=rngs)
