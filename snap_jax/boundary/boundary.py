"""Boundary: the place in a model where a tensor leaves the device.

Invariant: a model with boundaries computes the same on one device, where a boundary only quantizes, as over many,
where it sends.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from snap_jax import collectives
from snap_jax.boundary.learned_codec import Constant, Threshold, assemble, take_apart
from snap_jax.boundary.telemetry import Telemetry, observe
from snap_jax.boundary.transforms import PrunedChannels, TransformChain, TransformMaker, chain
from snap_jax.boundary.transforms.pruned_channels import require_channels
from snap_jax.codecs.codec import Codec
from snap_jax.codecs.link_spec import as_codec
from snap_jax.collectives.message import Sent
from snap_jax.collectives.scale_exchange import handshake
from snap_jax.errors import UsageError
from snap_jax.wires import Wire


class Boundary(nnx.Module):
    """A codec whose arrays are learned, and a chain of transforms around it.

    Each array of the encoding is an `nnx.Param`; a threshold is one number per channel, kept as its logarithm
    (`Threshold`), so it stays positive. Of the transforms there are two copies: `sender`, which prepares, and
    `receiver`, which restores. In a pipeline the receiver lives on the next device.

    Args:
      codec: what to send instead of floats, e.g. `"count:3"`; `None` sends floats. Learning starts at its thresholds.
      features: size of the last axis of the tensor.
      grad_codec: how the cotangent is sent back; `None` sends it as it is. Its arrays are not learned.
      transform: `(features, rngs=) -> Transform`: what is applied before the codec and undone after it, e.g.
        `LearnedTransform(rank=20)`; `None` sends the tensor itself.
      rngs: for the transforms; `nnx.Rngs(0)` without.

    Raises:
      UsageError: for less than one feature, and for a threshold that is not positive and finite or does not fit the
        channels.

    >>> from snap_jax.encodings import Ternary
    >>> boundary = Boundary(Codec(Ternary(threshold=0.5)), features=3)
    >>> boundary(jnp.array([0.7, -0.1, -2.0])).tolist()
    [0.5, 0.0, -0.5]
    >>> Boundary("count:3", features=64).log_threshold.shape
    (64,)
    """

    log_threshold: Threshold  # of an encoding with a threshold

    def __init__(
        self,
        codec: Codec | str | None,
        features: int,
        *,
        grad_codec: Codec | str | None = None,
        transform: TransformMaker | None = None,
        rngs: nnx.Rngs | None = None,
    ):
        if features < 1:
            raise UsageError(f"Boundary: features={features}: use the size of the last axis, 1 or more")
        self.features = features
        make, rngs = chain(transform) if transform else chain(), rngs or nnx.Rngs(0)
        self.sender, self.receiver = make(features, rngs=rngs), make(features, rngs=rngs)
        structure, params = take_apart(as_codec(codec), self.channels)
        self._structure, self._names = nnx.static(structure), nnx.static(tuple(params))
        for name, param in params.items():
            setattr(self, name, param)
        self.set_grad_codec(grad_codec)

    @property
    def codec(self) -> Codec | None:
        """Return the codec with its arrays as learned so far."""
        return assemble(self._structure, [getattr(self, name) for name in self._names])

    @property
    def grad_codec(self) -> Codec | None:
        """Return how the cotangent is sent back."""
        structure, numbers = self._grad
        arrays = iter(self.grad_arrays)
        return jax.tree.unflatten(structure, [next(arrays)[...] if n is None else n for n in numbers])

    def set_grad_codec(self, codec: Codec | str | None) -> None:
        """Send the cotangent back by another codec from now on."""
        leaves, structure = jax.tree.flatten(as_codec(codec))
        arrays = [isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves]
        numbers = [None if array else leaf for leaf, array in zip(leaves, arrays, strict=True)]
        self._grad = nnx.static((structure, tuple(numbers)))
        self.grad_arrays = nnx.List([Constant(leaf) for leaf, array in zip(leaves, arrays, strict=True) if array])

    def set_wire(self, wire: Wire) -> None:
        """Send the same spikes on another wire from now on.

        Raises:
          UsageError: for a boundary that sends floats.
        """
        self._structure = nnx.static(jax.tree.structure(dataclasses.replace(self._spiking("set_wire"), wire=wire)))

    def lower_limit(self, limit: int) -> None:
        """Let an element fire at most `limit` spikes from now on.

        Raises:
          UsageError: unless the encoding has a higher limit.
        """
        codec = self._spiking("lower_limit")
        lowered = dataclasses.replace(codec, encoding=codec.encoding.lowered(limit))
        self._structure = nnx.static(jax.tree.structure(lowered))

    def prune(self, kept: Sequence[int]) -> None:
        """Send only these channels from now on, and forget what was learned of the others.

        Raises:
          UsageError: for none, for one twice, and for a channel that is not sent.
        """
        channels, index = self.channels, np.asarray(kept, np.int32)
        require_channels("Boundary.prune", kept, channels)
        for name in self._names:
            param = getattr(self, name)
            if param.shape == (channels,):
                setattr(self, name, type(param)(param[...][index]))
        for side in ("sender", "receiver"):
            links = [*getattr(self, side).links, PrunedChannels(channels, kept)]
            setattr(self, side, TransformChain(self.features, links))

    @property
    def thresholds(self) -> list[Threshold]:
        """Return the parameters that are logarithms of thresholds; none where floats are sent."""
        return [p for p in (getattr(self, name) for name in self._names) if isinstance(p, Threshold)]

    def raise_thresholds(self, by: Array | float) -> None:
        """Add `by` to the logarithms of all thresholds."""
        for threshold in self.thresholds:
            threshold[...] = threshold[...] + by

    @property
    def channels(self) -> int:
        """Return the size of the last axis of what is sent."""
        return self.sender.channels

    @property
    def share(self) -> float:
        """Return how many numbers are sent per number of the tensor."""
        return self.sender.share

    def prepare(self, x: Float[Array, "... features"], context: Array | None = None) -> Float[Array, "... channels"]:
        """Return what is to be coded and sent of `x`; `context` is what both sides know, e.g. token ids.

        Raises:
          UsageError: if `x` has another number of features.
        """
        if x.shape[-1:] != (self.features,):
            raise UsageError(
                f"Boundary: got shape {x.shape}, this boundary is for {self.features} features: "
                f"use Boundary(..., features={x.shape[-1] if x.ndim else 1})"
            )
        return self.sender.prepare(x, context)

    def restore(self, z: Float[Array, "... channels"], context: Array | None = None) -> Float[Array, "... features"]:
        """Return what stands for `x`, where `z` has arrived."""
        return self.receiver.restore(z, context)

    def __call__(self, x: Float[Array, "... features"], context: Array | None = None) -> Float[Array, "... features"]:
        """Return what the other side will see of `x`; on one device this is the boundary."""
        z = self.prepare(x, context)
        return self.restore(z if self.codec is None else self.codec.quantize(z), context)

    def handshake(self, axis_name: str, perm: Sequence[tuple[int, int]]) -> Codec | None:
        """Return the codec of the device that sends to this one along `perm`, for the `sender_codec` of many sends."""
        with jax.named_scope("boundary"):
            return handshake(self.codec, axis_name, perm)

    def send(
        self,
        prepared: Array,
        axis_name: str,
        perm: Sequence[tuple[int, int]],
        *,
        sender_codec: Codec | None = None,
        return_sent: bool = False,
    ) -> Any:
        """Send what `prepare` returned by a coded `ppermute`; what arrives is for the `restore` of another device.

        With `return_sent=True` return also what was sent, for `observe` and `rate_control.crossing`.
        """
        with jax.named_scope("boundary"):
            return collectives.ppermute(
                prepared,
                axis_name,
                perm,
                codec=self.codec,
                grad_codec=self.grad_codec,
                sender_codec=sender_codec,
                return_sent=return_sent,
            )

    def ppermute(
        self, x: Array, axis_name: str, perm: Sequence[tuple[int, int]], *, context: Array | None = None
    ) -> Array:
        """Send `x` by a coded `ppermute`; `context` is that of the sender, known here too."""
        return self.restore(self.send(self.prepare(x, context), axis_name, perm), context)

    def all_gather(
        self, x: Array, axis_name: str, *, axis: int = 0, tiled: bool = False, return_sent: bool = False
    ) -> Any:
        """Send `x` by a coded `all_gather`; for a boundary without transforms, as all that follow.

        With `return_sent=True` return also what was sent, for `observe`.
        """
        with self._plain("all_gather"):
            return collectives.all_gather(
                x,
                axis_name,
                axis=axis,
                tiled=tiled,
                codec=self.codec,
                grad_codec=self.grad_codec,
                return_sent=return_sent,
            )

    def all_to_all(self, x: Array, axis_name: str, split_axis: int, concat_axis: int, *, tiled: bool = False) -> Array:
        """Send `x` by a coded `all_to_all`."""
        with self._plain("all_to_all"):
            return collectives.all_to_all(
                x, axis_name, split_axis, concat_axis, tiled=tiled, codec=self.codec, grad_codec=self.grad_codec
            )

    def psum(self, x: Array, axis_name: str, *, sum_codec: Codec | None = None) -> Array:
        """Add `x` over devices by a coded `psum`."""
        with self._plain("psum"):
            return collectives.psum(x, axis_name, codec=self.codec, sum_codec=sum_codec)

    def pmean(self, x: Array, axis_name: str, *, sum_codec: Codec | None = None) -> Array:
        """Average `x` over devices by a coded `pmean`."""
        with self._plain("pmean"):
            return collectives.pmean(x, axis_name, codec=self.codec, sum_codec=sum_codec)

    def psum_scatter(self, x: Array, axis_name: str, *, scatter_dimension: int = 0, tiled: bool = False) -> Array:
        """Add `x` over devices by a coded `psum_scatter`."""
        with self._plain("psum_scatter"):
            return collectives.psum_scatter(
                x,
                axis_name,
                scatter_dimension=scatter_dimension,
                tiled=tiled,
                codec=self.codec,
                grad_codec=self.grad_codec,
            )

    def observe(self, sent: Sent | Array, axis_name: str | None = None) -> Telemetry:
        """Count what is sent, or what `prepare` returned: `telemetry.observe` with the codec as learned so far."""
        return observe(self.codec, sent, axis_name)

    def _plain(self, name: str):
        if self.sender.links:
            raise UsageError(f"Boundary.{name}: applies no transforms: use ppermute, or no transform=")
        return jax.named_scope("boundary")

    def _spiking(self, name: str) -> Codec:
        if self.codec is None:
            raise UsageError(f"Boundary.{name}: this boundary sends floats: give it a codec")
        return self.codec
