"""Tiny models from packages of others, with random weights, data to learn and the loss of an ordinary training loop.

Each function builds one `Example`. Nothing here knows of several devices. `make outside-models` installs the packages.
"""

import functools
import importlib.util
import sys
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

LAYERS, WIDTH, HIDDEN, HEADS, VOCABULARY, TIME, BATCH = 2, 32, 64, 4, 64, 16, 8


class Example(NamedTuple):
    """A model, how it is trained, and data.

    Attributes:
      model: an NNX module; of Linen, its parameters.
      loss: the model (of Linen, its parameters) and a batch -> a scalar.
      batch: a tuple of arrays, rows first.
    """

    model: Any
    loss: Callable[[Any, Any], jax.Array]
    batch: tuple[jax.Array, ...]


def tokens(rows: int = BATCH) -> jax.Array:
    """Return rows that count upward, each from another number and in other steps."""
    start, step = jax.random.randint(jax.random.key(1), (2, rows, 1), 0, VOCABULARY)
    return (start + (step % 5 + 1) * jnp.arange(TIME)) % VOCABULARY


def images(rows: int = BATCH) -> tuple[jax.Array, jax.Array]:
    """Return images of four classes, each a pattern with noise, and their labels."""
    labels = jnp.arange(rows) % 4
    patterns = jax.random.normal(jax.random.key(2), (4, 16, 16, 3))
    return patterns[labels] + 0.3 * jax.random.normal(jax.random.key(3), (rows, 16, 16, 3)), labels


def next_token_loss(logits: jax.Array, ids: jax.Array) -> jax.Array:
    """Return the mean cross-entropy of the next tokens, in nats."""
    return optax.softmax_cross_entropy_with_integer_labels(logits[:, :-1], ids[:, 1:]).mean()


@functools.cache
def build(name: str) -> Example:
    """Return the example that the function of this name builds, once."""
    return globals()[name]()


def llama3() -> Example:
    """Llama 3 of tunix (NNX), whose head is its embedding."""
    llama = tunix("llama3")
    config = llama.ModelConfig(**_tunix_sizes(), norm_eps=1e-5, weight_tying=True)
    return Example(_awake(llama.Llama3(config, rngs=nnx.Rngs(0))), _decoder_loss, (tokens(),))


def qwen3() -> Example:
    """Qwen 3 of tunix (NNX), with a head of its own."""
    qwen = tunix("qwen3")
    config = qwen.ModelConfig(**_tunix_sizes(), norm_eps=1e-6, use_tied_embedding=False)
    return Example(_awake(qwen.Qwen3(config, rngs=nnx.Rngs(0))), _decoder_loss, (tokens(),))


def qwen3_moe() -> Example:
    """Qwen 3 of tunix (NNX) with four experts per layer, of which each token takes two."""
    qwen = tunix("qwen3")
    experts = {"num_experts": 4, "num_experts_per_tok": 2}
    config = qwen.ModelConfig(**_tunix_sizes(), norm_eps=1e-6, use_tied_embedding=False, **experts)
    return Example(_awake(qwen.Qwen3(config, rngs=nnx.Rngs(0))), _decoder_loss, (tokens(),))


def mamba2() -> Example:
    """Mamba 2 of mamba2-jax (NNX), a state-space model whose head is its embedding."""
    import mamba2_jax

    config = mamba2_jax.Mamba2Config(
        vocab_size=VOCABULARY, hidden_size=WIDTH, state_size=8, head_dim=16, chunk_size=8, num_hidden_layers=LAYERS
    )
    model = mamba2_jax.Mamba2ForCausalLM(config, rngs=nnx.Rngs(0))
    return Example(model, lambda model, batch: next_token_loss(model(batch[0])["logits"], batch[0]), (tokens(),))


def vision_transformer(*, dropout: float = 0.0) -> Example:
    """The vision transformer of vitax (NNX), an `nnx.Sequential` of blocks with dropout."""
    from vitax.models.vit import VisionTransformer

    sizes = {"num_layers": LAYERS, "num_heads": HEADS, "mlp_dim": HIDDEN, "hidden_size": WIDTH}
    model = VisionTransformer(
        num_classes=4, img_size=16, patch_size=4, dropout_rate=dropout, fsdp=False, rngs=nnx.Rngs(0), **sizes
    )
    return Example(model, _image_loss, images())


def gpt2() -> Example:
    """GPT-2 of Hugging Face (Linen), its blocks and ends as NNX modules through `flax.nnx.bridge`."""
    from transformers import FlaxGPT2LMHeadModel, GPT2Config

    from examples.outside_models.linen import GPT2

    config = GPT2Config(vocab_size=VOCABULARY, n_positions=TIME, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS)
    return Example(GPT2(FlaxGPT2LMHeadModel(config, seed=0)), _gpt2_loss, (tokens(),))


def nano_moe() -> Example:
    """A small mixture of experts of nano-moe-jax (Linen, compact), without its balance loss."""
    import nano_moe

    config = nano_moe.NanoMoEConfig(
        vocab_size=VOCABULARY, n_layers=LAYERS, n_heads=HEADS, d_model=WIDTH, d_ff=HIDDEN, block_size=TIME
    )
    module, batch = nano_moe.NanoMoE(config), (tokens(),)

    def loss(params: Any, batch: tuple[jax.Array, ...]) -> jax.Array:  # the balance loss is not a mean over rows
        return next_token_loss(module.apply({"params": params}, batch[0])[0], batch[0])

    return Example(module.init(jax.random.key(0), *batch)["params"], loss, batch)


def tunix(name: str) -> Any:
    """Import a model of tunix without its trainers, which need many more packages."""
    if "tunix" not in sys.modules:
        spec = importlib.util.find_spec("tunix")
        if spec is None:
            raise ModuleNotFoundError("No module named 'tunix'", name="tunix")
        package = types.ModuleType("tunix")
        package.__spec__, package.__path__ = spec, list(spec.submodule_search_locations or ())
        sys.modules["tunix"] = package
    return importlib.import_module(f"tunix.models.{name}.model")


def _tunix_sizes() -> dict[str, int]:
    heads = {"num_heads": HEADS, "num_kv_heads": 2, "head_dim": WIDTH // HEADS, "rope_theta": 10_000}
    return {"num_layers": LAYERS, "vocab_size": VOCABULARY, "embed_dim": WIDTH, "hidden_dim": HIDDEN, **heads}


def _decoder_loss(model: Any, batch: tuple[jax.Array, ...]) -> jax.Array:
    (ids,) = batch
    positions = jnp.broadcast_to(jnp.arange(ids.shape[1]), ids.shape)
    causal = jnp.tril(jnp.ones((1, ids.shape[1], ids.shape[1]), bool))
    logits, _ = model(ids, positions, None, causal)
    return next_token_loss(logits, ids)


def _gpt2_loss(model: Any, batch: tuple[jax.Array, ...]) -> jax.Array:
    return next_token_loss(model(batch[0]), batch[0])


def _image_loss(model: Any, batch: tuple[jax.Array, ...]) -> jax.Array:
    inputs, labels = batch
    return optax.softmax_cross_entropy_with_integer_labels(model(inputs), labels).mean()


def _awake(model: nnx.Module) -> nnx.Module:
    """Give random numbers to kernels that start at zero, since two zero layers in a row never learn."""
    params = nnx.state(model, nnx.Param)
    for i, (_, variable) in enumerate(nnx.to_flat_state(params)):
        value = variable[...]
        if value.ndim > 1 and not value.any():
            variable.set_value(0.1 * jax.random.normal(jax.random.key(i), value.shape, value.dtype))
    nnx.update(model, params)
    return model
