"""The two tasks of the experiments: text for an RWKV, digits for an MS-ResNet; each cut behind every block.

Law 2 lets one device stand for many: where a tensor would cross, a boundary shows what the other side would see.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array

from snap_jax.boundary.boundary import Boundary
from snap_jax.boundary.side_information import mean_token_bits, token_wire
from snap_jax.codecs import Codec
from snap_jax.data import image_loader, text_loader
from snap_jax.models import resnet, rwkv
from snap_jax.wires import Rans


class Cut(nnx.Module):
    """A model and the boundaries between its blocks; without boundaries, the dense model."""

    def __init__(self, net: Any, boundaries: Sequence[Boundary]):
        self.net, self.boundaries = net, nnx.List(list(boundaries))

    def __call__(self, inputs: Array, context: Array | None) -> tuple[Array, list[Array], list[Array]]:
        """Logits, what each boundary is about to send, and the stream in front of it."""
        x, sent, streams = self.net.enter(inputs), [], []
        for place, block in enumerate(self.net.blocks):
            x = block(x)
            if place < len(self.net.blocks) - 1:
                streams.append(x)
                if len(self.boundaries):
                    boundary = self.boundaries[place]
                    sent.append(boundary.prepare(x, context))
                    coded = sent[-1] if boundary.codec is None else boundary.codec.quantize(sent[-1])
                    x = boundary.restore(coded_back(boundary.grad_codec, coded), context)
        return self.net.leave(x), sent, streams


def coded_back(codec: Codec | None, z: Array) -> Array:
    """`z`; its cotangent goes back as `codec.quantize` of it, as behind `grad_codec=` of a collective."""
    if codec is None:
        return z
    cross = jax.custom_vjp(lambda z: z)
    cross.defvjp(lambda z: (z, None), lambda _, cotangent: (codec.quantize(cotangent),))
    return cross(z)


@dataclasses.dataclass(frozen=True)
class Task:
    """Data and a model.

    Attributes:
      width: features of the stream that is cut.
      build: a seed -> the dense model.
      batch: `(seed, step)` -> inputs, labels, context.
      heldout: batches of the same kind, each as large as one of training.
      token_wire: how the context is told to chips that do not read it themselves.
      learning_rate: peak.
    """

    name: str
    width: int
    build: Callable[[int], Any]
    batch: Callable[[int, int], tuple]
    heldout: tuple
    token_wire: Rans | None
    learning_rate: float

    @functools.cached_property
    def context_bits(self) -> float:
        """Bits an element that the context of some batches of training takes."""
        return self.bits_of([self.batch(0, 10**6 + i)[2] for i in range(8)])

    def bits_of(self, contexts: Sequence[Array]) -> float:
        """Bits an element of the stream that contexts take, each in a payload of its own."""
        if self.token_wire is None:
            return 0.0
        return mean_token_bits(self.token_wire, contexts) / self.width


@functools.lru_cache
def language(
    width: int = 64, blocks: int = 4, seq_len: int = 128, batch: int = 8, heldout: int = 256, ticks: int = 0
) -> Task:
    """Next byte of the standard library's text; quality in bits a byte; with ticks, it spikes inside too."""
    corpus = text_loader.load("stdlib")
    size = rwkv.RWKVConfig(blocks, width, 4, chunk=32, ticks=ticks)

    def split(rows: np.ndarray) -> tuple:
        tokens = jnp.asarray(rows.astype(np.int32))
        return tokens[:, :-1], tokens[:, 1:], tokens[:, :-1]

    windows = text_loader.windows(corpus.heldout, seq_len)
    windows = windows[np.linspace(0, len(windows) - 1, heldout).round().astype(int)]
    return Task(
        f"text{width}" + ("" if blocks == 4 else f"x{blocks}") + (f"t{ticks}" if ticks else ""),
        width,
        lambda seed: rwkv.RWKV(size, rngs=nnx.Rngs(seed)),
        lambda seed, step: split(text_loader.batch(corpus.train, step=step, seed=seed, batch=batch, seq_len=seq_len)),
        tuple(split(windows[i : i + batch]) for i in range(0, heldout, batch)),
        token_wire(corpus.train),
        6e-3,
    )


def noisy(width: int = 32, blocks: int = 4) -> Task:
    """Digits under new noise at every step, half as large as they are: nothing to learn by heart."""
    return digits(width, blocks, noise=0.5)


@functools.lru_cache
def digits(width: int = 32, blocks: int = 4, batch: int = 64, noise: float = 0.0, ticks: int = 0) -> Task:
    """The 8x8 digits of scikit-learn; quality in percent right, and nats; with ticks, it spikes inside too.

    `noise` is its standard deviation, in those of the pixels; held-out images come under eight draws of it.
    """
    data = image_loader.load("digits")
    size = resnet.ResNetConfig((blocks,), width=width, classes=data.classes, channels=1, downsample=False, ticks=ticks)

    def ready(pixels: np.ndarray, labels: np.ndarray, *draw: int) -> tuple:
        clean = image_loader.normalise(data, pixels)
        seen = clean + noise * np.random.default_rng(draw).standard_normal(clean.shape, np.float32) if noise else clean
        return jnp.asarray(seen), jnp.asarray(labels, jnp.int32), None

    def draw(seed: int, step: int) -> tuple:
        return ready(*image_loader.batch(data, step=step, seed=seed, batch=batch), seed, step)

    count = len(data.heldout_labels)
    rows = [np.arange(i, min(i + batch, count)) for i in range(0, count, batch)]
    draws = range(2**40, 2**40 + (8 if noise else 1))
    heldout = tuple(ready(data.heldout_images[r], data.heldout_labels[r], d, r[0]) for d in draws for r in rows)
    name = f"digits{width}" + (f"+{noise}" if noise else "") + (f"t{ticks}" if ticks else "")
    return Task(name, width, lambda seed: resnet.ResNet(size, rngs=nnx.Rngs(seed)), draw, heldout, None, 5e-3)


def nats(logits: Array, labels: Array) -> Array:
    """Mean cross-entropy."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def optimizer(steps: int, peak: float) -> optax.GradientTransformation:
    """The same for everybody: AdamW under a norm clip, 5 % warm-up, cosine to 5 %."""
    schedule = optax.warmup_cosine_decay_schedule(0.0, peak, max(1, steps // 20), steps, 0.05 * peak)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, b2=0.98, weight_decay=0.01))


def jitted(function: Callable) -> Callable:
    """`jax.jit` with the first two arguments donated."""
    return jax.jit(function, donate_argnums=(0, 1))
