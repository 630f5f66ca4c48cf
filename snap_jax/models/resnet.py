"""MS-ResNet: its shortcuts carry membrane potentials, never spikes (Hu et al. 2021, arXiv:2112.08954).

`x = norm(conv(image))`; each block adds `norm(conv(act(norm(conv(act(x))))))` to the stream; `logits = head(mean(
act(norm(x))))`. The stream is real-valued, so the identity goes straight through; what reads activations, with
`time_steps` spikes, are all convolutions but the first and, where the shape changes, the one of size 1 in the shortcut.
Invariant: an image's logits do not depend on the other images of its batch, so microbatches and replicas do not change
them.
"""

import dataclasses
from collections.abc import Iterator

from flax import nnx
from jaxtyping import Array, Float

from snap_jax.errors import UsageError
from snap_jax.models.base import EachBlock, VisionNetwork, whole
from snap_jax.models.convolution import INPUTS, OUTPUTS, conv, norm
from snap_jax.models.neurons import fired
from snap_jax.parallel.tensor_parallel import Region, WholeRegion


@dataclasses.dataclass(frozen=True)
class ResNetConfig:
    """The size of the model.

    Attributes:
      stages: blocks of each stage.
      width: channels of the first stage, a multiple of 8.
      classes: of the head.
      channels: of an image.
      stem: `small` is a 3x3 convolution, for images of 8 to 64 pixels; `large` 7x7 by 2 and a 3x3 max-pool by 2.
      downsample: whether each stage after the first halves the image and doubles the width; without, the stream has
        one shape everywhere, and all stages of a pipeline are alike.
      time_steps: time steps of spiking neurons; 0 for ReLU.

    Raises:
      UsageError: a number that makes no network.
    """

    stages: tuple[int, ...] = (2, 2, 2, 2)
    width: int = 64
    classes: int = 10
    channels: int = 1
    stem: str = "small"
    downsample: bool = True
    time_steps: int = 0

    def __post_init__(self):
        if not self.stages or min(*self.stages, self.width, self.classes, self.channels) < 1:
            raise UsageError(f"{self}: use 1 or more of everything, in one stage or more")
        if self.stem not in ("small", "large"):
            raise UsageError(f"resnet.ResNetConfig: stem={self.stem!r}: use 'small' or 'large'")
        if self.time_steps < 0:
            raise UsageError(f"resnet.ResNetConfig: time_steps={self.time_steps}: use 0 for dense activations, or more")


def resnet18(
    *,
    classes: int = 1000,
    width: int = 64,
    channels: int = 3,
    stem: str = "large",
    time_steps: int = 0,
) -> ResNetConfig:
    """MS-ResNet-18: eight blocks in four stages.

    >>> resnet18(classes=10).stages
    (2, 2, 2, 2)
    """
    return ResNetConfig((2, 2, 2, 2), width, classes, channels, stem, time_steps=time_steps)


class Stem(nnx.Module):
    """The entrance, from an image to the stream."""

    def __init__(self, config: ResNetConfig, rngs: nnx.Rngs):
        self.large = config.stem == "large"
        size, stride = (7, 2) if self.large else (3, 1)
        self.conv = conv(config.channels, config.width, size, stride=stride, rngs=rngs)
        self.norm = norm(config.width, rngs=rngs)

    def __call__(self, images: Float[Array, "batch height width channels"]) -> Float[Array, "batch h w features"]:
        """Return the stream that the first block reads."""
        x = self.norm(self.conv(images))
        return nnx.max_pool(x, (3, 3), (2, 2), "SAME") if self.large else x


class Block(nnx.Module):
    """`shortcut(x) + norm(conv(act(norm(conv(act(x))))))`; the last norm starts at zero, so depth costs nothing."""

    def __init__(self, inputs: int, outputs: int, stride: int, time_steps: int, rngs: nnx.Rngs):
        self.act, self.stride = fired(time_steps), stride
        self.conv1 = conv(inputs, outputs, 3, stride=stride, split=OUTPUTS, rngs=rngs)
        self.norm_inside = norm(outputs, split=True, rngs=rngs)
        self.conv2, self.norm2 = conv(outputs, outputs, 3, split=INPUTS, rngs=rngs), norm(outputs, scale=0.0, rngs=rngs)
        self.region: Region = WholeRegion(outputs)
        self.project = stride != 1 or inputs != outputs
        if self.project:
            self.conv0, self.norm0 = conv(inputs, outputs, 1, stride=stride, rngs=rngs), norm(outputs, rngs=rngs)

    def __call__(self, x: Float[Array, "batch h w inputs"]) -> Float[Array, "batch h2 w2 outputs"]:
        """Return the stream after this block."""
        inside = self.act(self.norm_inside(self.conv1(self.region.enter(self.act(x)))))
        branch = self.norm2(self.region.leave(self.conv2(inside)))
        return branch + (self.norm0(self.conv0(x)) if self.project else x)


class ResNet(VisionNetwork):
    """The whole model, or with fewer `blocks` the part on one device.

    The stream is `[batch, h, w, width]`, with time steps `[time_steps * batch, h, w, width]`.

    >>> model = ResNet(ResNetConfig(stages=(1, 1), width=16), rngs=nnx.Rngs(0))
    >>> model.enter(jnp.zeros((2, 8, 8, 1))).shape, model(jnp.zeros((2, 8, 8, 1))).shape
    ((2, 8, 8, 16), (2, 10))
    """

    def __init__(self, config: ResNetConfig, *, rngs: nnx.Rngs, each_block: EachBlock = whole):
        self.time_steps, self.channels = config.time_steps, config.channels
        self.act = fired(config.time_steps)
        self.stem = Stem(config, rngs)
        self.blocks = nnx.List([each_block(i, block) for i, block in enumerate(_blocks(config, rngs))])
        width = config.width * 2 ** (len(config.stages) - 1) if config.downsample else config.width
        self.norm_out = norm(width, rngs=rngs)
        self.head = nnx.Linear(width, config.classes, rngs=rngs)


def _blocks(config: ResNetConfig, rngs: nnx.Rngs) -> Iterator[Block]:
    inputs = config.width
    for stage, count in enumerate(config.stages):
        outputs = config.width * 2**stage if config.downsample else config.width
        for i in range(count):
            halve = config.downsample and stage > 0 and i == 0
            yield Block(inputs, outputs, 2 if halve else 1, config.time_steps, rngs)
            inputs = outputs
