"""A toy language model for tests of layouts: blocks of two matrices of width 8, which compile fast."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from snap_jax.models.base import LanguageNetwork
from snap_jax.parallel.partition import split_along
from snap_jax.parallel.tensor_parallel import WholeRegion
from snap_jax.training.tasks.losses import Batch

WIDTH, VOCABULARY = 8, 16


class Block(nnx.Module):
    """`x + down(tanh(up(x)))`; devices may divide the hidden features."""

    def __init__(self, rngs):
        self.up = nnx.Linear(WIDTH, 2 * WIDTH, use_bias=False, kernel_metadata=split_along(1), rngs=rngs)
        self.down = nnx.Linear(2 * WIDTH, WIDTH, use_bias=False, kernel_metadata=split_along(0), rngs=rngs)
        self.region = WholeRegion(WIDTH)

    def __call__(self, x):
        return x + self.region.leave(self.down(jnp.tanh(self.up(self.region.enter(x)))))


class Toy(LanguageNetwork):
    """An embedding, blocks and a head."""

    def __init__(self, blocks, *, rngs):
        self.embed = nnx.Embed(VOCABULARY, WIDTH, rngs=rngs)
        self.norm_in, self.norm_out = nnx.RMSNorm(WIDTH, rngs=rngs), nnx.RMSNorm(WIDTH, rngs=rngs)
        self.blocks = nnx.List([Block(rngs) for _ in range(blocks)])
        self.head = nnx.Linear(WIDTH, VOCABULARY, use_bias=False, rngs=rngs)


@functools.cache
def build(blocks=2):
    """A toy model; callers do not change it."""
    return Toy(blocks, rngs=nnx.Rngs(0))


def batch(microbatches=4, rows=2, seq_len=4):
    """Random tokens and the tokens that follow them, by microbatch."""
    tokens = np.random.default_rng(0).integers(0, VOCABULARY, (microbatches, rows, seq_len + 1))
    return Batch(jnp.asarray(tokens[..., :-1], jnp.int32), jnp.asarray(tokens[..., 1:], jnp.int32))


def cross_entropy(model, boundaries, data):
    """The mean over all labels on one device; every boundary but the last quantizes."""
    inputs, labels = (jnp.asarray(a).reshape(-1, a.shape[-1]) for a in data)
    x = model.enter(inputs)
    for block, boundary in zip(model.blocks, [*boundaries[:-1], None], strict=True):
        x = block(x)
        x = x if boundary is None else boundary(x)
    return optax.softmax_cross_entropy_with_integer_labels(model.leave(x), labels).mean()


def on_one_device(tree):
    """Arrays off their mesh."""
    return jax.tree.map(np.asarray, tree)
