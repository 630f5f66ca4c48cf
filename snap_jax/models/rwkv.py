"""RWKV: a recurrent language model (Peng et al. 2023; matrix-valued state as in Eagle, Peng et al. 2024).

`x = ln0(embed(token))`; each block adds a time mix and a channel mix to the stream; `logits = head(ln(x))`.
Invariant: the parallel form of the recurrence, `wkv`, equals the recurrence itself, `wkv_recurrent`.
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
class RWKVConfig:
    """The size of the model.

    Attributes:
      layers: blocks.
      width: size of the residual stream.
      heads: of the time mix; the state of each is (width / heads)^2.
      vocabulary: 256 for bytes.
      chunk: tokens that `wkv` computes at once; must divide the sequence length.
      time_steps: 0 for floats; else time steps of the neurons before both mixes and in the hidden layer.
      streams: residual streams that divide the width; layers have the width of one (`models.streams`).
    """

    layers: int = 4
    width: int = 128
    heads: int = 4
    vocabulary: int = 256
    chunk: int = 32
    time_steps: int = 0
    streams: int = 1

    def __post_init__(self):
        width = inner_width("rwkv.RWKVConfig", self.width, self.streams)
        if width % self.heads:
            raise UsageError(f"rwkv.RWKVConfig: heads={self.heads} does not divide width={width}: use a divisor")

    @property
    def of_a_layer(self) -> "RWKVConfig":
        """The size of what a block computes, on one stream."""
        return dataclasses.replace(self, width=self.width // self.streams, streams=1)


def shift(x: Float[Array, "batch time width"]) -> Float[Array, "batch time width"]:
    """Return what came one token before; zeros at the start."""
    return jnp.pad(x, ((0, 0), (1, 0), (0, 0)))[:, :-1]


def after(last: Float[Array, "batch width"], x: Float[Array, "batch time width"]) -> Float[Array, "batch time width"]:
    """Return what came one token before, where `last` came before the first."""
    return jnp.concatenate([last[:, None], x[:, :-1]], 1)


def wkv(
    r: Float[Array, "batch time heads key"],
    k: Float[Array, "batch time heads key"],
    v: Float[Array, "batch time heads value"],
    rate: Float[Array, "heads key"],
    bonus: Float[Array, "heads key"],
    chunk: int,
) -> Float[Array, "batch time heads value"]:
    """Compute the WKV recurrence: `S_t = diag(w) S_{t-1} + k_t v_t^T`, `y_t = r_t (S_{t-1} + diag(u) k_t v_t^T)`.

    Within a chunk it is a masked product, between chunks a scan over states. Decays are taken relative to the middle
    of the chunk, so that no factor leaves `[e^{-chunk/2}, e^{chunk/2}]`: exact in f32 for chunks up to 64.

    Args:
      r: receptance, what is read.
      k: key.
      v: value.
      rate: decay per token, `w = exp(-rate)`, in (0, 1).
      bonus: weight u of the token itself.
      chunk: tokens treated at once; must divide the time.
    """
    batch, time, heads, size = r.shape
    if time % chunk:
        raise UsageError(f"wkv: chunk={chunk} does not divide {time} tokens: use a divisor")
    r, k, v = (a.reshape(batch, time // chunk, chunk, heads, -1).transpose(1, 0, 3, 2, 4) for a in (r, k, v))
    t = jnp.arange(chunk)

    def decay(tokens: Array) -> Array:
        return jnp.exp(-rate[:, None, :] * tokens[:, None])

    near = jnp.einsum("nbhtk,nbhsk->nbhts", r * decay(t - chunk / 2), k * decay(chunk / 2 - 1 - t))
    itself = jnp.einsum("nbhtk,hk,nbhtk->nbht", r, bonus, k)
    near = jnp.where(t[:, None] > t, near, 0) + itself[..., None] * jnp.eye(chunk)
    added = jnp.einsum("nbhsk,nbhsv->nbhkv", k * decay(chunk - 1 - t), v)
    kept = jnp.exp(-rate * chunk)[:, :, None]
    _, state = lax.scan(lambda s, a: (s * kept + a, s), jnp.zeros_like(added[0]), added)
    y = near @ v + (r * decay(t)) @ state
    return y.transpose(1, 0, 3, 2, 4).reshape(batch, time, heads, size)


def wkv_recurrent(r: Array, k: Array, v: Array, rate: Array, bonus: Array) -> Array:
    """Return the same, token by token: what `wkv` is tested against."""
    state = jnp.zeros_like(k[:, 0, ..., :, None] * v[:, 0, ..., None, :])
    return wkv_from(state, r, k, v, rate, bonus)[0]


def wkv_from(
    state: Float[Array, "batch heads key value"], r: Array, k: Array, v: Array, rate: Array, bonus: Array
) -> tuple[Array, Array]:
    """Go on from a state, token by token: return `y` and the state after them; for inference."""

    def step(state: Array, token: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        r, k, v = token
        kv = k[..., :, None] * v[..., None, :]
        y = jnp.einsum("bhk,bhkv->bhv", r, state + bonus[..., None] * kv)
        return jnp.exp(-rate)[..., None] * state + kv, y

    r, k, v = (jnp.moveaxis(a, 1, 0) for a in (r, k, v))
    state, y = lax.scan(step, state, (r, k, v))
    return jnp.moveaxis(y, 0, 1), state


class TimeMix(nnx.Module):
    """Mixes along time: token shift, WKV, gate."""

    def __init__(self, config: RWKVConfig, depth: float, rngs: nnx.Rngs):
        width, heads = config.width, config.heads
        self.feed = feed(width, config.time_steps)
        place = jnp.arange(width) / width
        self.mix = nnx.Param(jnp.tile(place ** (1 - depth), (4, 1)))
        # Rates from e^-6 to e^-1 a token, slow channels first, as in RWKV-5.
        wanted = jnp.exp(-6 + 5 * place ** (0.7 + 1.3 * depth))
        self.decay = nnx.Param(jax.scipy.special.logit(wanted).reshape(heads, -1), tensor_split=0)
        self.bonus = nnx.Param(jnp.full((heads, width // heads), 0.5), tensor_split=0)
        self.receptance, self.key, self.value, self.gate = (
            nnx.Linear(width, width, use_bias=False, kernel_metadata=split_along(1), rngs=rngs) for _ in range(4)
        )
        by_head, zeros = split_along(0), nnx.initializers.zeros
        self.norm = nnx.GroupNorm(width, num_groups=heads, scale_metadata=by_head, bias_metadata=by_head, rngs=rngs)
        self.output = nnx.Linear(
            width, width, use_bias=False, kernel_init=zeros, kernel_metadata=split_along(0), rngs=rngs
        )
        self.chunk = config.chunk
        self.region: Region = WholeRegion(width)

    def __call__(self, x: Float[Array, "batch time width"]) -> Float[Array, "batch time width"]:
        """Return what time mixing adds to the stream."""
        x, mix = self.region.enter((self.feed(x), self.mix[...]))
        r, k, v, g = self._projected(x, shift(x) - x, mix)
        return self._gated(wkv(r, k, v, jax.nn.sigmoid(self.decay[...]), self.bonus[...], self.chunk), g)

    def step(self, x: Array, state: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
        """Go on from a state: the last token's input, and that of `wkv_from`."""
        x, mix = self.region.enter((self.feed(x), self.mix[...]))
        r, k, v, g = self._projected(x, after(state[0], x) - x, mix)
        y, memory = wkv_from(state[1], r, k, v, jax.nn.sigmoid(self.decay[...]), self.bonus[...])
        return self._gated(y, g), (x[:, -1], memory)

    def _projected(self, x: Array, before: Array, mix: Array) -> tuple[Array, ...]:
        r, k, v, g = (x + before * m for m in mix)
        heads = (*x.shape[:2], *self.decay.shape)
        r, k, v = (f(a).reshape(heads) for f, a in ((self.receptance, r), (self.key, k), (self.value, v)))
        return r, k, v, g

    def _gated(self, y: Array, g: Array) -> Array:
        gate = jax.nn.silu(self.gate(g))
        y = self.norm(y.reshape(-1, gate.shape[-1])).reshape(gate.shape)
        return self.region.leave(self.output(y * gate))


class ChannelMix(nnx.Module):
    """Mixes channels: token shift, squared ReLU, gate."""

    def __init__(self, config: RWKVConfig, depth: float, rngs: nnx.Rngs):
        width, wide = config.width, config.width * 7 // 2
        self.feed = feed(width, config.time_steps)
        self.mix = nnx.Param(jnp.tile((jnp.arange(width) / width) ** (1 - depth), (2, 1)))
        self.key = nnx.Linear(width, wide, use_bias=False, kernel_metadata=split_along(1), rngs=rngs)
        self.receptance = nnx.Linear(width, width, use_bias=False, rngs=rngs)
        zeros = nnx.initializers.zeros
        self.value = nnx.Linear(
            wide, width, use_bias=False, kernel_init=zeros, kernel_metadata=split_along(0), rngs=rngs
        )
        self.hidden = hidden(wide, config.time_steps)
        self.region: Region = WholeRegion(width)

    def __call__(self, x: Float[Array, "batch time width"]) -> Float[Array, "batch time width"]:
        """Return what channel mixing adds to the stream."""
        x = self.feed(x)
        return self._mixed(x, shift(x) - x)

    def step(self, x: Array, last: Array) -> tuple[Array, Array]:
        """Go on from the last token's input."""
        x = self.feed(x)
        return self._mixed(x, after(last, x) - x), x[:, -1]

    def _mixed(self, x: Array, before: Array) -> Array:
        k, r = (x + before * m for m in self.mix[...])
        value = self.region.leave(self.value(self.hidden(self.key(self.region.enter(k)))))
        return jax.nn.sigmoid(self.receptance(r)) * value


class Block(nnx.Module):
    """`x + time_mix(ln(x))`, then `x + channel_mix(ln(x))`."""

    def __init__(self, config: RWKVConfig, depth: float, rngs: nnx.Rngs):
        self.norm1, self.norm2 = (nnx.LayerNorm(config.width, rngs=rngs) for _ in range(2))
        self.time_mix = TimeMix(config, depth, rngs)
        self.channel_mix = ChannelMix(config, depth, rngs)

    def __call__(self, x: Float[Array, "batch time width"]) -> Float[Array, "batch time width"]:
        """Return the stream after this block."""
        x = x + self.time_mix(self.norm1(x))
        return x + self.channel_mix(self.norm2(x))

    def initial_state(self, batch: int, positions: int) -> PyTree:
        """Return the state before the first token; it does not grow with the positions."""
        heads, size = self.time_mix.decay.shape
        last = jnp.zeros((batch, heads * size))
        return (last, jnp.zeros((batch, heads, size, size))), last

    def step(self, x: Array, state: PyTree, start: Array) -> tuple[Array, PyTree]:
        """Return the stream of the next tokens, and the state after them."""
        added, time = self.time_mix.step(self.norm1(x), state[0])
        x = x + added
        added, channel = self.channel_mix.step(self.norm2(x), state[1])
        return x + added, (time, channel)


class RWKV(LanguageNetwork):
    """The whole model, or with fewer `blocks` the part on one device.

    >>> model = RWKV(RWKVConfig(layers=2, width=16, heads=2, chunk=4), rngs=nnx.Rngs(0))
    >>> model(jnp.zeros((1, 8), jnp.int32)).shape
    (1, 8, 256)
    """

    def __init__(self, config: RWKVConfig, *, rngs: nnx.Rngs, each_block: EachBlock = whole):
        self.embed = nnx.Embed(config.vocabulary, config.width, rngs=rngs)
        self.norm_in = nnx.LayerNorm(config.width, rngs=rngs)
        size, streams, depths = config.of_a_layer, (config.width, config.streams), range(config.layers)
        blocks = (in_streams(Block(size, i / config.layers, rngs), *streams) for i in depths)
        self.blocks = nnx.List([each_block(i, block) for i, block in enumerate(blocks)])
        self.norm_out = norm_of_streams(lambda width: nnx.LayerNorm(width, rngs=rngs), *streams)
        self.head = nnx.Linear(size.width, config.vocabulary, use_bias=False, rngs=rngs)
