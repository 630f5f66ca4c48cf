"""Pipelines and tensor parallelism for models of others: what a user writes is rules, and the names of the blocks.

Each layout returns the loss and its gradient as a function of parameters and batch, the parameters, and how to get
those of the original model back.
"""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from examples.outside_models.layouts import mesh_of


def pipeline(model: nnx.Module, loss: Callable, batch: Any, blocks: str, codec: Any, stages: int = 2) -> tuple:
    """Give each stage some of the blocks; what leaves a stage travels as spikes, and its cotangent in bfloat16."""
    microbatch = jax.tree.map(lambda rows: rows[: len(rows) // 2], batch)
    links = {"codec": codec, "grad_codec": "bf16" if codec else None}
    split = snap.split_stages(model, loss, microbatch, stages=stages, blocks=blocks, **links)
    run = split.value_and_grad(mesh_of("stage", stages), microbatches=2)

    def value_and_grad(params: Any, batch: Any) -> tuple:
        (value, _, _), grads = run(params, split.state, batch)
        return value, grads

    return value_and_grad, split.params, lambda params: snap.unplace(split.join(params, split.state))


def over_axis(model: nnx.Module, loss: Callable, batch: Any, rules: list[snap.Rule], axis: str) -> tuple:
    """Place rules over the two devices of an axis, along which the rows of the batch are the same."""
    placed = snap.place(model, rules, sample=lambda model: loss(model, batch))
    graph, params, rest = nnx.split(placed, nnx.Param, ...)

    def local(params: Any, batch: Any) -> jax.Array:
        return loss(nnx.merge(graph, params, rest), batch)

    specs = (snap.place_specs(placed, params), P())
    value = jax.shard_map(local, mesh=mesh_of(axis, 2), in_specs=specs, out_specs=P())
    return jax.value_and_grad(value), params, lambda params: snap.unplace(nnx.merge(graph, params, rest))


def decoder_rules(codec: Any) -> list[snap.Rule]:
    """Return rules for the attention and the MLP of Llama 3 and Qwen 3."""
    tensor = {"axis": "tensor", "grad_codec": "bf16" if codec else None}
    return [
        snap.Rule("layers.*.attn.[qkv]_proj", "column", split={"w": 1}, **tensor),
        snap.Rule("layers.*.attn.o_proj", "row", codec, split={"w": 0}, **tensor),
        snap.Rule("layers.*.mlp.[gu]*_proj", "column", **tensor),  # gate and up
        snap.Rule("layers.*.mlp.down_proj", "row", codec, **tensor),
    ]


def mixture_rules(codec: Any) -> list[snap.Rule]:
    """Return rules for the attention and the experts of Qwen 3: each device has some of the features of all experts."""
    tensor = {"axis": "tensor", "grad_codec": "bf16" if codec else None}
    return [
        snap.Rule("layers.*.attn.[qkv]_proj", "column", split={"w": 1}, **tensor),
        snap.Rule("layers.*.attn.o_proj", "row", codec, split={"w": 0}, **tensor),
        snap.Rule("layers.*.mlp", "column", split={"gate_proj": 2, "up_proj": 2}, **tensor),
        snap.Rule("layers.*.mlp", "row", codec, split={"down_proj": 1}, **tensor),
    ]


def vision_rules(codec: Any) -> list[snap.Rule]:
    """Return rules for the attention of Flax and an MLP that is an `nnx.Sequential`."""
    tensor = {"axis": "tensor", "grad_codec": "bf16" if codec else None}
    return [
        snap.Rule("encoder.layers.*.attn.[qkv]*", "column", **tensor),  # query, key and value
        snap.Rule("encoder.layers.*.attn.out", "row", codec, **tensor),
        snap.Rule("encoder.layers.*.mlp.layers.0", "column", **tensor),
        snap.Rule("encoder.layers.*.mlp.layers.3", "row", codec, **tensor),
    ]
