"""Small language models, none of whose weights is zero, and what they should predict."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from snap_jax.models import rwkv, transformer

WIDTH = 32


def tokens(*shape):
    """Random bytes, `[*shape]`."""
    return jnp.asarray(np.random.default_rng(0).integers(0, 256, shape), jnp.int32)


@functools.cache
def build(name, layers=1, heads=8, time_steps=0):
    """A transformer or an RWKV of width 32; outputs that would start at zero get weight."""
    if name == "transformer":
        size = transformer.TransformerConfig(layers, WIDTH, heads, time_steps=time_steps)
        model = transformer.Transformer(size, rngs=nnx.Rngs(0))
    else:
        model = rwkv.RWKV(rwkv.RWKVConfig(layers, WIDTH, heads, chunk=4, time_steps=time_steps), rngs=nnx.Rngs(0))
    leaves, tree = jax.tree.flatten(nnx.state(model))
    rng = np.random.default_rng(1)
    noisy = [leaf + 0.2 * jnp.asarray(rng.standard_normal(leaf.shape), jnp.float32) for leaf in leaves]
    nnx.update(model, jax.tree.unflatten(tree, noisy))
    return model


def cross_entropy(model, rows):
    """Mean over all tokens, nats."""
    logits = model(rows[:, :-1])
    return optax.softmax_cross_entropy_with_integer_labels(logits, rows[:, 1:]).mean()


def compiled(function, *args):
    """A program that XLA has optimised little: it compiles faster."""
    return jax.jit(function).lower(*args).compile({"xla_backend_optimization_level": 0})


def run(function, *args):
    """What it gives."""
    return compiled(function, *args)(*args)
