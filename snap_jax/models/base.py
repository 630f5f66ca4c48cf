"""Networks: an entrance, blocks that each change a stream, and an exit. All models here are networks.

Invariant: `network(x) == leave(body(enter(x)))`, so a model can be cut between any two blocks.
"""

import abc
from collections.abc import Callable
from typing import Any

from flax import nnx
from jaxtyping import Array, Float, Int

from snap_jax.errors import UsageError
from snap_jax.models.neurons import Activation, average, repeat

EachBlock = Callable[[int, Any], Any]
"""Number of a block and the block that has just been made -> what the model holds of it."""


def whole(number: int, block: Any) -> Any:
    """Return all of a block."""
    return block


class Network(nnx.Module):
    """The whole model, or with fewer `blocks` the part on one device; `leave = head(f(norm_out(x)))`."""

    blocks: nnx.List
    norm_out: Any
    head: Any

    @abc.abstractmethod
    def enter(self, inputs: Array) -> Array:
        """Return the stream from the inputs."""

    @abc.abstractmethod
    def width(self, place: int) -> int:
        """Return the channels of the stream after so many blocks, one or more."""

    def body(self, x: Array) -> Array:
        """Return the stream after all blocks held here."""
        for block in self.blocks:
            x = block(x)
        return x

    @abc.abstractmethod
    def leave(self, x: Array) -> Array:
        """Return logits from the stream."""

    def __call__(self, inputs: Array) -> Array:
        """Return logits, on one device."""
        return self.leave(self.body(self.enter(inputs)))


class LanguageNetwork(Network):
    """Tokens in, logits of the next token out: `x = norm_in(embed(token))`, `logits = head(norm_out(x))`."""

    embed: nnx.Embed
    norm_in: Any

    def enter(self, inputs: Int[Array, "batch time"]) -> Float[Array, "batch time width"]:
        """Return the stream from tokens."""
        return self.norm_in(self.embed(inputs))

    def width(self, place: int) -> int:
        """Return the channels of the stream, the same after every block."""
        return self.embed.features

    def leave(self, x: Float[Array, "batch time width"]) -> Float[Array, "batch time vocabulary"]:
        """Return logits from the stream."""
        return self.head(self.norm_out(x))


class VisionNetwork(Network):
    """Images in, class logits out, averaged over places and time steps; streams are `[time_steps * batch, h, w, c]`."""

    time_steps: int
    channels: int
    act: Activation
    stem: Any

    def enter(self, inputs: Float[Array, "batch height width channels"]) -> Float[Array, "steps_batch h w features"]:
        """Return the stream from images; with time steps, the same input current at each.

        Raises:
          UsageError: if the images do not have the channels of the config.
        """
        if inputs.shape[-1] != self.channels:
            raise UsageError(
                f"{type(self).__name__}.enter: images of shape {inputs.shape}, channels={self.channels}: "
                "make the last axis that long"
            )
        return repeat(self.stem(inputs), self.time_steps)

    def width(self, place: int) -> int:
        """Return the channels of the stream after so many blocks, one or more."""
        return self.blocks[place - 1].region.features

    def leave(self, x: Float[Array, "steps_batch h w features"]) -> Float[Array, "batch classes"]:
        """Return logits from the stream."""
        return self.head(average(self.act(self.norm_out(x)).mean((1, 2)), self.time_steps))
