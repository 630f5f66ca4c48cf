"""Linen models as NNX modules, through `flax.nnx.bridge`, so that their blocks are modules that have a path."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx


class GPT2(nnx.Module):
    """The language model of `transformers.FlaxGPT2LMHeadModel`: the same parameters, the same logits."""

    def __init__(self, pretrained: Any):
        from transformers.models.gpt2.modeling_flax_gpt2 import FlaxGPT2Block

        config, params = pretrained.config, pretrained.params["transformer"]
        self.wte = Bridged(nn.Embed(config.vocab_size, config.n_embd), params["wte"])
        self.wpe = Bridged(nn.Embed(config.n_positions, config.n_embd), params["wpe"])
        self.h = nnx.List([Bridged(FlaxGPT2Block(config), params["h"][str(i)]) for i in range(config.n_layer)])
        self.ln_f = Bridged(nn.LayerNorm(epsilon=config.layer_norm_epsilon), params["ln_f"])

    def __call__(self, ids: jax.Array) -> jax.Array:
        """Return the logits of the next tokens."""
        x = self.wte(ids) + self.wpe(jnp.arange(ids.shape[1])[None])
        for block in self.h:
            (x,) = block(x, jnp.ones(ids.shape))
        return self.ln_f(x) @ self.wte.linen.embedding[...].T


class Bridged(nnx.Module):
    """A Linen module with its parameters as an NNX module.

    Rules hold codecs in the modules that they match, and `ToNNX` takes all that it holds for variables of Linen: so it
    is held by a module of its own.
    """

    def __init__(self, module: nn.Module, params: Any):
        self.linen = nnx.bridge.ToNNX(module)
        for name, value in params.items():
            setattr(self.linen, name, nnx.data(jax.tree.map(nnx.Param, value)))

    def __call__(self, *args: Any) -> Any:
        """Return what the Linen module returns."""
        return self.linen(*args)
