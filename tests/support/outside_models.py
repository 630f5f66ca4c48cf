"""Small models written as anybody writes them, who does not know this library."""

import jax
import jax.numpy as jnp
from flax import nnx

WIDTH = 8


class TokenBlock(nnx.Module):
    """Returns a cache beside the stream, takes a mask, and computes again in the backward pass."""

    def __init__(self, *, rngs):
        self.norm, self.linear = nnx.LayerNorm(WIDTH, rngs=rngs), nnx.Linear(WIDTH, WIDTH, rngs=rngs)

    @nnx.remat
    def __call__(self, x, mask):
        return {"length": mask.sum()}, x + jnp.tanh(self.linear(self.norm(x))) * mask


class TiedLanguageModel(nnx.Module):
    """The embedding is the head too."""

    def __init__(self, *, rngs, layers=4):
        self.embed = nnx.Embed(16, WIDTH, rngs=rngs)
        self.layers = nnx.List([TokenBlock(rngs=rngs) for _ in range(layers)])
        self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)

    def __call__(self, tokens):
        x, mask = self.embed(tokens), (tokens > 2)[..., None].astype(jnp.float32)
        for layer in self.layers:
            _, x = layer(x, mask)
        return self.embed.attend(self.norm(x))


class NoisyBlock(nnx.Module):
    """Dropout and running statistics; changes the width."""

    def __init__(self, inputs, outputs, *, rngs):
        self.linear = nnx.Linear(inputs, outputs, rngs=rngs)
        self.norm, self.dropout = nnx.BatchNorm(outputs, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.dropout(nnx.relu(self.norm(self.linear(x))))


class Funnel(nnx.Module):
    """Blocks of different shapes, a skip over one of them, and a loss that every block adds to."""

    def __init__(self, *, rngs, rate=0.5):
        self.stem = nnx.BatchNorm(WIDTH, rngs=rngs)
        self.blocks = nnx.List([NoisyBlock(i, o, rngs=rngs) for i, o in ((8, 6), (6, 6), (6, 4))])
        for block in self.blocks:
            block.dropout.rate = rate
        self.skip = nnx.Linear(6, 4, rngs=rngs)

    def __call__(self, x):
        first = self.blocks[0](self.stem(x))
        second = self.blocks[1](first)
        return self.blocks[2](second) + self.skip(first), jnp.mean(first**2) + jnp.mean(second**2)


class Scanned(nnx.Module):
    """Layers whose parameters are stacked, run by `nnx.scan`."""

    def __init__(self, layers, *, rngs):
        @nnx.split_rngs(splits=layers)
        @nnx.vmap(in_axes=(0,), out_axes=0)
        def make(rngs):
            return nnx.Linear(WIDTH, WIDTH, rngs=rngs)

        self.layers = make(rngs)

    def __call__(self, x):
        @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
        def run(layer, x):
            return x + jnp.tanh(layer(x)).astype(x.dtype)

        return run(self.layers, x)


class ScannedModel(nnx.Module):
    """A scan in a module of its own."""

    def __init__(self, *, rngs):
        self.decoder, self.head = Scanned(4, rngs=rngs), nnx.Linear(WIDTH, 2, rngs=rngs)

    def __call__(self, x):
        return self.head(self.decoder(x))


class MixedTypes(nnx.Module):
    """Scanned stacks, a stream of two arrays, one of them in half precision."""

    def __init__(self, *, rngs):
        self.parts = nnx.List([TwoStreams(rngs=rngs) for _ in range(2)])

    def __call__(self, x):
        pair = x, x[..., :4].astype(jnp.bfloat16)
        for part in self.parts:
            pair = part(pair)
        return pair[0].sum() + pair[1].astype(jnp.float32).sum()


class TwoStreams(nnx.Module):
    """A stream of two arrays."""

    def __init__(self, *, rngs):
        self.wide, self.narrow = Scanned(2, rngs=rngs), nnx.Linear(4, 4, param_dtype=jnp.bfloat16, rngs=rngs)

    def __call__(self, pair):
        return self.wide(pair[0]), pair[1] + self.narrow(pair[1])


def token_loss(model, tokens):
    """The mean of the negative log-likelihood of token 0, and the sum of the tokens."""
    return -jnp.mean(jax.nn.log_softmax(model(tokens))[..., 0]), tokens.sum()


def funnel_loss(model, x):
    """A loss with the term that the blocks add."""
    y, extra = model(x)
    return jnp.mean(y**2) + 0.1 * extra
