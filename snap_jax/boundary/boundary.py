"""Boundary: where a tensor leaves the chip.

Law: a model with boundaries computes the same on one chip, where a boundary only quantises, as over many, where it
sends (laws 2 and 6).
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from snap_jax import collectives
from snap_jax.boundary.telemetry import Telemetry, observe
from snap_jax.boundary.transform import LearnedTransform, Receiver, Sender
from snap_jax.codecs.codec import Codec
from snap_jax.collectives.scale_exchange import handshake
from snap_jax.encodings import Count
from snap_jax.wires import Wire


class Boundary(nnx.Module):
    """The place in a model where a tensor leaves the chip; owns the learnable threshold, one per channel.

    `threshold = exp(log_threshold)`: always positive, and a step of the optimizer changes it by a ratio.

    Args:
      codec: what to send instead of floats; `None` sends floats. The threshold it comes with is where learning starts.
      features: size of the last axis of what crosses.
      grad_codec: how the cotangent crosses back; `None` sends it as it is.
      transform: what is learned around the codec: a basis, a mean, a prediction (`innovation`); `None` sends `x`
      itself.
      rngs: for the predictor.

    >>> from snap_jax.encodings import Ternary
    >>> boundary = Boundary(Codec(Ternary(threshold=0.5)), features=3)
    >>> boundary(jnp.array([0.7, -0.1, -2.0])).tolist()
    [0.5, 0.0, -0.5]
    """

    def __init__(
        self,
        codec: Codec | None,
        features: int,
        *,
        grad_codec: Codec | None = None,
        transform: LearnedTransform | None = None,
        rngs: nnx.Rngs | None = None,
    ):
        self._template = nnx.static(codec)
        self.grad_codec = nnx.static(grad_codec)
        self.features = features
        self.channels = transform.rank if transform else features
        self.token_groups = transform.token_groups if transform else 1
        self.live: tuple[int, ...] | None = nnx.static(None)
        self.transform = nnx.static(transform)
        if transform is not None:
            rngs = rngs or nnx.Rngs(0)
            self.sender, self.receiver = (
                Sender(features, transform, rngs=rngs),
                Receiver(features, transform, rngs=rngs),
            )
        if codec is not None and codec.encoding.threshold is not None:
            shape = (self.channels,) if self.token_groups == 1 else (self.token_groups, self.channels)
            start = jnp.broadcast_to(jnp.asarray(codec.encoding.threshold, jnp.float32), shape)
            self.log_threshold = nnx.Param(jnp.log(start))

    @property
    def codec(self) -> Codec | None:
        """The codec with the threshold as learned so far."""
        if self._template is None or self._template.encoding.threshold is None:
            return self._template
        threshold = jnp.exp(self.log_threshold[...])
        live = threshold if self.live is None else threshold[..., jnp.asarray(self.live)]
        encoding = self._template.encoding.with_threshold(live.reshape(-1))
        return dataclasses.replace(self._template, encoding=encoding)

    def lower_limit(self, limit: int) -> None:
        """Lets an element fire at most `limit` spikes from now on; for a `Count`."""
        assert self._template is not None
        assert isinstance(self._template.encoding, Count)
        encoding = dataclasses.replace(self._template.encoding, limit=limit)
        self._template = nnx.static(dataclasses.replace(self._template, encoding=encoding))

    def set_wire(self, wire: Wire) -> None:
        """Sends the same spikes on another wire from now on."""
        assert self._template is not None
        self._template = nnx.static(dataclasses.replace(self._template, wire=wire))

    @property
    def sent_channels(self) -> int:
        """Size of the last axis of what is sent: of the basis, less what is frozen."""
        return self.channels if self.live is None else len(self.live)

    @property
    def share(self) -> float:
        """Numbers sent for each of the tensor."""
        return self.sent_channels / self.features

    def prepare(self, x: Float[Array, "... features"], context: Array | None = None) -> Float[Array, "... wide"]:
        """What is to be coded and sent of `x`: `sent_channels` numbers a vector, side by side for all segments."""
        z = x if self.transform is None else self.sender(x, context)
        z = z if self.live is None else z[..., jnp.asarray(self.live)]
        return z if self.transform is None else self.sender.arrange(z, context)

    def restore(self, z: Float[Array, "... wide"], context: Array | None = None) -> Float[Array, "... features"]:
        """What stands for `x`, where `z` arrived."""
        z = z if self.transform is None else self.receiver.undo(z, context)
        if self.live is not None:
            silence = jnp.zeros_like(z, shape=(*z.shape[:-1], self.channels))
            z = silence.at[..., jnp.asarray(self.live)].set(z)
        return z if self.transform is None else self.receiver(z, context)

    def __call__(self, x: Float[Array, "... features"], context: Array | None = None) -> Float[Array, "... features"]:
        """What the other side will see; on one chip this is the boundary."""
        z = self.prepare(x, context)
        return self.restore(z if self.codec is None else self.codec.quantize(z), context)

    def all_gather(self, x: Array, axis_name: str, *, axis: int = 0, tiled: bool = False) -> Array:
        """Coded `all_gather`."""
        with jax.named_scope("boundary"):
            return collectives.all_gather(
                x, axis_name, axis=axis, tiled=tiled, codec=self.codec, grad_codec=self.grad_codec
            )

    def handshake(self, axis_name: str, perm: Sequence[tuple[int, int]]) -> Codec | None:
        """The codec of who sends to this device along `perm`, for the `sender` of many `ppermute`s."""
        with jax.named_scope("boundary"):
            return handshake(self.codec, axis_name, perm)

    def ppermute(
        self, x: Array, axis_name: str, perm: Sequence[tuple[int, int]], *, context: Array | None = None
    ) -> Array:
        """Coded `ppermute`; `context` is that of the sender, known here too."""
        return self.restore(self.send(self.prepare(x, context), axis_name, perm), context)

    def send(
        self, prepared: Array, axis_name: str, perm: Sequence[tuple[int, int]], *, sender: Codec | None = None
    ) -> Array:
        """Coded `ppermute` of what `prepare` gave: what arrives is for the `restore` of another device."""
        with jax.named_scope("boundary"):
            return collectives.ppermute(
                prepared, axis_name, perm, codec=self.codec, grad_codec=self.grad_codec, sender=sender
            )

    def all_to_all(self, x: Array, axis_name: str, split_axis: int, concat_axis: int, *, tiled: bool = False) -> Array:
        """Coded `all_to_all`."""
        with jax.named_scope("boundary"):
            return collectives.all_to_all(
                x, axis_name, split_axis, concat_axis, tiled=tiled, codec=self.codec, grad_codec=self.grad_codec
            )

    def observe(self, x: Array, axis_name: str | None = None) -> Telemetry:
        """What is to know of `x` as it crosses: `telemetry.observe` with the codec as learned so far."""
        return observe(self.codec, x, axis_name)

    def psum(self, x: Array, axis_name: str, *, sum_codec: Codec | None = None) -> Array:
        """Coded `psum`."""
        with jax.named_scope("boundary"):
            return collectives.psum(x, axis_name, codec=self.codec, sum_codec=sum_codec)

    def pmean(self, x: Array, axis_name: str, *, sum_codec: Codec | None = None) -> Array:
        """Coded `pmean`."""
        with jax.named_scope("boundary"):
            return collectives.pmean(x, axis_name, codec=self.codec, sum_codec=sum_codec)

    def psum_scatter(self, x: Array, axis_name: str, *, scatter_dimension: int = 0, tiled: bool = False) -> Array:
        """Coded `psum_scatter`."""
        with jax.named_scope("boundary"):
            return collectives.psum_scatter(
                x,
                axis_name,
                scatter_dimension=scatter_dimension,
                tiled=tiled,
                codec=self.codec,
                grad_codec=self.grad_codec,
            )
