"""Networks: an entrance, blocks in a row that add to a stream, and an exit; what all models here are.

Law: `network(x) == leave(body(enter(x)))`, so a model can be cut between any two blocks.
"""

import abc
from typing import Any

from flax import nnx
from jaxtyping import Array, Float, Int

from snap_jax.errors import UsageError
from snap_jax.models.neurons import Activation, average, repeat


class Network(nnx.Module):
    """The whole model, or with `blocks` the part of it that one die holds; `leave = head(f(norm_out(x)))`."""

    blocks: nnx.List
    norm_out: Any
    head: Any

    @abc.abstractmethod
    def enter(self, inputs: Array) -> Array:
        """Inputs -> stream."""

    @abc.abstractmethod
    def width(self, place: int) -> int:
        """Channels of the stream behind so many blocks, one or more."""

    def body(self, x: Array) -> Array:
        """The stream through all blocks held here."""
        for block in self.blocks:
            x = block(x)
        return x

    @abc.abstractmethod
    def leave(self, x: Array) -> Array:
        """Stream -> logits."""

    def __call__(self, inputs: Array) -> Array:
        """Logits, on one chip."""
        return self.leave(self.body(self.enter(inputs)))


class LanguageNetwork(Network):
    """Tokens in, logits of the next token out: `x = norm_in(embed(token))`, `logits = head(norm_out(x))`."""

    embed: nnx.Embed
    norm_in: Any

    def enter(self, inputs: Int[Array, "batch time"]) -> Float[Array, "batch time width"]:
        """Tokens -> stream."""
        return self.norm_in(self.embed(inputs))

    def width(self, place: int) -> int:
        """Channels of the stream, the same behind every block."""
        return self.embed.features

    def leave(self, x: Float[Array, "batch time width"]) -> Float[Array, "batch time vocabulary"]:
        """Stream -> logits."""
        return self.head(self.norm_out(x))


class VisionNetwork(Network):
    """Images in, logits of the class out, averaged over places and ticks; the stream is `[ticks * batch, h, w, c]`."""

    ticks: int
    channels: int
    act: Activation
    stem: Any

    def enter(self, inputs: Float[Array, "batch height width channels"]) -> Float[Array, "ticks_batch h w features"]:
        """Images -> stream; with ticks, the same current at each.

        Raises:
          UsageError: if the images do not have the channels of the config.
        """
        if inputs.shape[-1] != self.channels:
            raise UsageError(
                f"{type(self).__name__}.enter: images of shape {inputs.shape}, channels={self.channels}: "
                "make the last axis that long"
            )
        return repeat(self.stem(inputs), self.ticks)

    def width(self, place: int) -> int:
        """Channels of the stream behind so many blocks, one or more."""
        return self.blocks[place - 1].region.features

    def leave(self, x: Float[Array, "ticks_batch h w features"]) -> Float[Array, "batch classes"]:
        """Stream -> logits."""
        return self.head(average(self.act(self.norm_out(x)).mean((1, 2)), self.ticks))
