"""EfficientNet: inverted bottlenecks, squeeze-excitation, compound scaling (Tan & Le 2019, arXiv:1905.11946).

Each block: `x + project(gate * act(depthwise(act(expand(x)))))`, with a norm after each convolution; no shortcut where
the shape changes. Without the paper's dropout and stochastic depth, which only regularise.
Invariant: B0 to B4 have as many parameters as the published ones.

Divided over devices (`tensor_parallel`), each has some of the channels between the first and the last convolution of a
block. What they squeeze out of theirs is summed for the gate, what they project is summed for the stream.

With `time_steps`, neurons fire in place of SiLU. The stream stays real (its bottlenecks are linear), so what reads
spikes is the depthwise convolution and, scaled by the gate, the projection; the gate itself is a rate and stays dense.
"""

import dataclasses
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from snap_jax.errors import UsageError
from snap_jax.models.base import EachBlock, VisionNetwork, whole
from snap_jax.models.convolution import INPUTS, OUTPUTS, conv, norm
from snap_jax.models.neurons import fired
from snap_jax.parallel.partition import split_along
from snap_jax.parallel.tensor_parallel import Region, WholeRegion

_PARTS = 8  # devices that may divide the channels inside a block: their norms have so many groups, or a multiple


@dataclasses.dataclass(frozen=True)
class StageSpec:
    """Blocks of one kind.

    Attributes:
      kernel: size of the depthwise convolution.
      expand: hidden channels over incoming ones.
      width: outgoing channels, a multiple of 8.
      stride: of the first block.
      blocks: how many.
    """

    kernel: int
    expand: int
    width: int
    stride: int
    blocks: int


@dataclasses.dataclass(frozen=True)
class Scaling:
    """Compound scaling: factors of width and depth, and pixels along each side of the image."""

    width: float
    depth: float
    pixels: int


# Table 1 of the paper.
B0 = (
    StageSpec(3, 1, 16, 1, 1),
    StageSpec(3, 6, 24, 2, 2),
    StageSpec(5, 6, 40, 2, 2),
    StageSpec(3, 6, 80, 2, 3),
    StageSpec(5, 6, 112, 1, 3),
    StageSpec(5, 6, 192, 2, 4),
    StageSpec(3, 6, 320, 1, 1),
)

# `efficientnet_params` of the authors' github.com/tensorflow/tpu/models/official/efficientnet/efficientnet_builder.py
SCALINGS = {
    "b0": Scaling(1.0, 1.0, 224),
    "b1": Scaling(1.0, 1.1, 240),
    "b2": Scaling(1.1, 1.2, 260),
    "b3": Scaling(1.2, 1.4, 300),
    "b4": Scaling(1.4, 1.8, 380),
}


@dataclasses.dataclass(frozen=True)
class EfficientNetConfig:
    """The size of the model; the default is B0.

    Attributes:
      stages: kinds of blocks, in order. One stage of stride 1 as wide as the stem makes a stream of one shape, so that
        all stages of a pipeline are alike.
      stem: channels of the first convolution, a multiple of 8.
      stem_stride: its stride; 1 for images of 8 to 32 pixels.
      features: what the head reads, a multiple of 8.
      classes: of the head.
      channels: of an image.
      time_steps: time steps of spiking neurons; 0 for SiLU.

    Raises:
      UsageError: a number that makes no network.
    """

    stages: tuple[StageSpec, ...] = B0
    stem: int = 32
    stem_stride: int = 2
    features: int = 1280
    classes: int = 1000
    channels: int = 3
    time_steps: int = 0

    def __post_init__(self):
        numbers = [n for stage in self.stages for n in dataclasses.astuple(stage)]
        if not numbers or min(*numbers, self.stem, self.stem_stride, self.features, self.classes, self.channels) < 1:
            raise UsageError(f"efficientnet.{self}: use 1 or more of everything, in one stage or more")
        if self.time_steps < 0:
            raise UsageError(
                f"efficientnet.EfficientNetConfig: time_steps={self.time_steps}: use 0 for dense activations, or more"
            )


def efficientnet(variant: str, *, classes: int = 1000, channels: int = 3, time_steps: int = 0) -> EfficientNetConfig:
    """B0 to B4: B0 with its widths and depths scaled; images should have `SCALINGS[variant].pixels` a side.

    Raises:
      UsageError: no such variant.

    >>> [stage.blocks for stage in efficientnet("b4").stages]
    [2, 4, 4, 6, 6, 8, 2]
    """
    if variant not in SCALINGS:
        raise UsageError(f"efficientnet: variant={variant!r}: use one of {', '.join(SCALINGS)}")
    scaling = SCALINGS[variant]
    stages = tuple(
        dataclasses.replace(s, width=scaled(s.width, scaling.width), blocks=math.ceil(s.blocks * scaling.depth))
        for s in B0
    )
    stem, features = scaled(32, scaling.width), scaled(1280, scaling.width)
    return EfficientNetConfig(
        stages, stem, features=features, classes=classes, channels=channels, time_steps=time_steps
    )


def scaled(width: int, factor: float) -> int:
    """`width * factor` to the nearest multiple of 8 that takes away at most a tenth.

    >>> scaled(24, 1.1), scaled(40, 1.2), scaled(16, 1.2)
    (24, 48, 24)
    """
    wanted = width * factor
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


class ConvNorm(nnx.Module):
    """A convolution and the norm after it."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        rngs: nnx.Rngs,
        *,
        stride: int = 1,
        depthwise: bool = False,
        scale: float = 1.0,
        parts: int = 1,
        split: int | None = None,
    ):
        groups = inputs if depthwise else 1
        self.conv = conv(inputs, outputs, size, stride=stride, groups=groups, split=split, rngs=rngs)
        self.norm = norm(outputs, scale=scale, parts=parts, split=split == OUTPUTS, rngs=rngs)

    def __call__(self, x: Float[Array, "batch h w inputs"]) -> Float[Array, "batch h2 w2 outputs"]:
        """Return `norm(conv(x))`."""
        return self.norm(self.conv(x))


class Gate(nnx.Module):
    """Squeeze-excitation (Hu et al. 2018): `sigmoid(up(silu(down(mean of x over the image)))) * x`."""

    def __init__(self, width: int, squeezed: int, rngs: nnx.Rngs):
        self.down = nnx.Linear(width, squeezed, use_bias=False, kernel_metadata=split_along(0), rngs=rngs)
        self.bias = nnx.Param(jnp.zeros(squeezed))  # of what all devices squeezed together
        self.up = nnx.Linear(squeezed, width, kernel_metadata=split_along(1), bias_metadata=split_along(0), rngs=rngs)
        self.region: Region = WholeRegion(squeezed)

    def __call__(self, x: Float[Array, "batch h w width"]) -> Float[Array, "batch h w width"]:
        """Return `x`, each channel scaled by its gate."""
        squeezed = self.region.leave(self.down(x.mean((1, 2))))
        inside = self.region.enter(jax.nn.silu(squeezed + self.bias[...].astype(squeezed.dtype)))
        gate = jax.nn.sigmoid(self.up(inside))
        return x * gate[:, None, None, :]


class Block(nnx.Module):
    """An inverted bottleneck, "MBConv"; with a shortcut, it starts as the identity."""

    def __init__(self, inputs: int, stage: StageSpec, stride: int, time_steps: int, rngs: nnx.Rngs):
        hidden = inputs * stage.expand
        self.act, self.stride = fired(time_steps, jax.nn.silu), stride
        self.region: Region = WholeRegion(stage.width)
        self.shortcut = stride == 1 and inputs == stage.width
        self.expand = ConvNorm(inputs, hidden, 1, rngs, parts=_PARTS, split=OUTPUTS) if stage.expand > 1 else None
        self.depthwise = ConvNorm(
            hidden, hidden, stage.kernel, rngs, stride=stride, depthwise=True, parts=_PARTS, split=OUTPUTS
        )
        self.gate = Gate(hidden, max(1, inputs // 4), rngs)  # `se0.25` in the authors' builder
        self.project = ConvNorm(hidden, stage.width, 1, rngs, scale=0.0 if self.shortcut else 1.0, split=INPUTS)

    def __call__(self, x: Float[Array, "batch h w inputs"]) -> Float[Array, "batch h2 w2 outputs"]:
        """Return the stream after this block."""
        inside = self.region.enter(x)
        hidden = self.act(self.expand(inside)) if self.expand else self.region.share(inside)
        gated = self.gate(self.act(self.depthwise(hidden)))
        branch = self.project.norm(self.region.leave(self.project.conv(gated)))
        return x + branch if self.shortcut else branch


class EfficientNet(VisionNetwork):
    """The whole model, or with fewer `blocks` the part on one device.

    >>> stage = StageSpec(3, 4, 16, 1, 2)
    >>> config = EfficientNetConfig((stage,), stem=16, stem_stride=1, features=32, classes=10, channels=1)
    >>> model = EfficientNet(config, rngs=nnx.Rngs(0))
    >>> jax.eval_shape(model, jnp.zeros((2, 8, 8, 1))).shape
    (2, 10)
    """

    def __init__(self, config: EfficientNetConfig, *, rngs: nnx.Rngs, each_block: EachBlock = whole):
        self.time_steps, self.channels = config.time_steps, config.channels
        self.act = fired(config.time_steps, jax.nn.silu)
        self.stem = ConvNorm(config.channels, config.stem, 3, rngs, stride=config.stem_stride)
        self.blocks = nnx.List([each_block(i, block) for i, block in enumerate(_blocks(config, rngs))])
        self.norm_out = ConvNorm(config.stages[-1].width, config.features, 1, rngs)
        self.head = nnx.Linear(config.features, config.classes, rngs=rngs)

    def enter(self, inputs: Float[Array, "batch height width channels"]) -> Float[Array, "steps_batch h w features"]:
        """Return the stream from images, after the activation that an MS-ResNet leaves to its blocks."""
        return self.act(super().enter(inputs))


def _blocks(config: EfficientNetConfig, rngs: nnx.Rngs) -> Iterator[Block]:
    inputs = config.stem
    for stage in config.stages:
        for i in range(stage.blocks):
            yield Block(inputs, stage, stage.stride if i == 0 else 1, config.time_steps, rngs)
            inputs = stage.width
