"""The experts of Qwen 3 over devices: tokens are sent to the devices that have their experts, and back, as spikes."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from examples.outside_models.layouts import mesh_of


class Experts(nnx.Module):
    """The experts of a layer: `[experts, tokens, width]` in and out."""

    def __init__(self, layer: Any):
        self.gate, self.up, self.down = layer.gate_proj, layer.up_proj, layer.down_proj

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return what each expert makes of its tokens."""
        return (nnx.silu(x @ self.gate[...]) * (x @ self.up[...])) @ self.down[...]


class Routed(nnx.Module):
    """A layer of tunix with room for all tokens at each expert; those that are not for it are zero."""

    def __init__(self, layer: Any):
        self.layer, self.experts = layer, Experts(layer)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the weighted sum of what the chosen experts make of each token."""
        weights, chosen = lax.top_k(jax.nn.softmax(self.layer.router(x)), self.layer.experts_per_tok)
        share = jax.nn.one_hot(chosen, self.layer.num_experts) * (weights / weights.sum(-1, keepdims=True))[..., None]
        share = share.sum(-2).reshape(-1, self.layer.num_experts)
        made = self.experts(jnp.where(share.T[..., None] > 0, x.reshape(1, -1, x.shape[-1]), 0))
        return jnp.einsum("etd,te->td", made, share).reshape(x.shape)


def routed(model: Any) -> Any:
    """Return a copy of a Qwen 3 whose experts are modules of their own."""
    model = nnx.clone(model)
    for layer in model.layers:
        layer.mlp = Routed(layer.mlp)
    return model


def unrouted(model: Any) -> Any:
    """Return a copy of a routed model with the layers of tunix."""
    model = nnx.clone(model)
    for layer in model.layers:
        layer.mlp = layer.mlp.layer
    return model


def expert_parallel(model: Any, loss: Any, batch: Any, codec: Any) -> tuple:
    """Give each of two devices half of the rows and half of the experts of a routed model."""
    rule = snap.Rule("layers.*.mlp.experts", "all_to_all", codec, axis="expert", grad_codec="bf16" if codec else None)
    placed = snap.place(model, [rule], sample=lambda model: loss(model, batch))
    graph, params, rest = nnx.split(placed, nnx.Param, ...)

    def local(params: Any, batch: Any) -> jax.Array:
        return lax.pmean(loss(nnx.merge(graph, params, rest), batch), "expert")

    specs = (snap.place_specs(placed, params), P("expert"))
    value = jax.shard_map(local, mesh=mesh_of("expert", 2), in_specs=specs, out_specs=P())
    return jax.value_and_grad(value), params, lambda params: snap.unplace(nnx.merge(graph, params, rest))
