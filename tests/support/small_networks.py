"""Small networks whose stream changes its shape, none of whose weights is zero, and images for them.

`Plain` is for what does not depend on what blocks compute: it compiles in a fraction of the time.
"""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from snap_jax.models import efficientnet, resnet
from snap_jax.models.base import VisionNetwork
from snap_jax.models.neurons import fired
from snap_jax.parallel.tensor_parallel import WholeRegion
from snap_jax.training.tasks.losses import Batch

# 32 channels are two groups of a norm, so two chips can divide them.
RESNET = resnet.ResNetConfig(stages=(2, 2), width=32, classes=3)
SMALLER = resnet.ResNetConfig(stages=(1, 1), width=8, classes=3)
STAGES = (efficientnet.StageSpec(3, 1, 16, 1, 1), efficientnet.StageSpec(3, 2, 24, 2, 1))
EFFICIENTNET = efficientnet.EfficientNetConfig(STAGES, stem=16, stem_stride=1, features=32, classes=3, channels=1)


class Block(nnx.Module):
    """`act(x) W + b` of every second place."""

    def __init__(self, inputs, outputs, *, rngs):
        self.act, self.stride, self.region = fired(0), 2, WholeRegion(outputs)
        self.linear = nnx.Linear(inputs, outputs, rngs=rngs)

    def __call__(self, x):
        return self.linear(self.act(x[:, ::2, ::2]))


class Plain(VisionNetwork):
    """Three blocks, `[8, 8, 8]` -> `[4, 4, 8]` -> `[2, 2, 16]` -> `[1, 1, 24]`, and linear ends."""

    def __init__(self, classes, *, rngs):
        self.time_steps, self.channels, self.act, self.stem = 0, 1, fired(0), nnx.Linear(1, 8, rngs=rngs)
        widths = [8, 8, 16, 24]
        self.blocks = nnx.List([Block(a, b, rngs=rngs) for a, b in itertools.pairwise(widths)])
        self.norm_out, self.head = nnx.LayerNorm(24, rngs=rngs), nnx.Linear(24, classes, rngs=rngs)


@functools.cache
def build(name):
    """An MS-ResNet with down-sampling, of four blocks or two, an EfficientNet whose first block expands nothing, or not
    much of a network at all.
    """
    kind, config = {
        "resnet": (resnet.ResNet, RESNET),
        "smaller": (resnet.ResNet, SMALLER),
        "efficientnet": (efficientnet.EfficientNet, EFFICIENTNET),
        "plain": (Plain, 3),
    }[name]
    graph, shapes = nnx.split(nnx.eval_shape(lambda: kind(config, rngs=nnx.Rngs(0))))
    rng = np.random.default_rng(0)

    def some(path, leaf):
        numbers = rng.standard_normal(leaf.shape, np.float32) / max(1, math.prod(leaf.shape[:-1])) ** 0.5
        return jnp.asarray(numbers if leaf.ndim > 1 else 0.2 * numbers + ("scale" in jax.tree_util.keystr(path)))

    return nnx.merge(graph, jax.tree.map_with_path(some, shapes))


def images(micro=2, batch=2, size=4):
    """Noise, and labels for it."""
    rng = np.random.default_rng(1)
    pixels = rng.standard_normal((micro, batch, size, size, 1))
    return Batch(jnp.asarray(pixels, jnp.float32), jnp.asarray(rng.integers(0, 3, (micro, batch)), jnp.int32))
