"""Transform: a change of what is sent, which the receiver undoes; transforms compose into a chain.

Invariant: `restore(prepare(x, context), context)` is `x` where nothing is lost in between.

A boundary holds two copies of its chain. The sender's copy only prepares and the receiver's copy only restores; each
lives on its own device and learns from its own use, so nothing of them is sent.
"""

import abc
import math
from collections.abc import Callable, Sequence

from flax import nnx
from jaxtyping import Array, Float, Num

from snap_jax.errors import UsageError


class Transform(nnx.Module):
    """A change of what is sent. To add one, write a subclass whose `__init__` takes `(features, *, rngs)`.

    Attributes:
      channels: size of the last axis of what `prepare` returns; a threshold is learned for each.
      share: numbers that are sent per number of the input.
    """

    channels: int
    share: float = 1.0

    @property
    def lags(self) -> int | None:
        """Return how many earlier tokens of the context a vector needs; 0 unless a transform says otherwise.

        None where what is sent of one vector depends on the others of its message, so that text cannot be written
        token by token.
        """
        return 0

    @abc.abstractmethod
    def prepare(self, x: Float[Array, "... features"], context: Array | None = None) -> Float[Array, "... channels"]:
        """Return what is to be sent of `x`; `context` is what both sides know, e.g. token ids."""

    @abc.abstractmethod
    def restore(self, z: Float[Array, "... channels"], context: Array | None = None) -> Float[Array, "... features"]:
        """Return what stands for `x`, where `z` has arrived."""

    def unsort(self, z: Num[Array, "... channels"], context: Array | None = None) -> Num[Array, "..."]:
        """Undo only where `prepare` has moved numbers to other places; for reports of what was sent."""
        return z

    def calibrate(self, x: Float[Array, "... features"], context: Array | None = None) -> None:
        """Start from a sample of what `prepare` will get; by default, change nothing."""


TransformMaker = Callable[..., Transform]
"""What a `Boundary` calls as `make(features, rngs=rngs)`: a `Transform` class, a `LearnedTransform` or a `chain`."""


class TransformChain(Transform):
    """Transforms one after the other: `prepare` from the first to the last, `restore` from the last to the first."""

    def __init__(self, features: int, links: Sequence[Transform] = ()):
        self.links = nnx.List(list(links))
        self.channels = links[-1].channels if links else features
        self.share = math.prod((link.share for link in links), start=1.0)

    def prepare(self, x, context=None):
        """Return `x` after all links."""
        for link in self.links:
            x = link.prepare(x, context)
        return x

    def restore(self, z, context=None):
        """Return `z` with all links undone."""
        for link in reversed(self.links):
            z = link.restore(z, context)
        return z

    def unsort(self, z, context=None):
        """Return `z` with every change of place undone."""
        for link in reversed(self.links):
            z = link.unsort(z, context)
        return z


def chain(*makers: TransformMaker) -> Callable[..., TransformChain]:
    """Compose transforms: each gets what the one before it returns. A chain in a chain is one chain.

    >>> from functools import partial
    >>> from snap_jax.boundary.transforms import Basis, PrunedChannels
    >>> made = chain(partial(Basis, rank=3), partial(PrunedChannels, kept=(0, 2)))(4, rngs=nnx.Rngs(0))
    >>> made.channels, made.share
    (2, 0.5)
    """

    def make(features: int, *, rngs: nnx.Rngs) -> TransformChain:
        links, width = [], features
        for maker in makers:
            made = maker(width, rngs=rngs)
            links += made.links if isinstance(made, TransformChain) else [made]
            width = made.channels
        return TransformChain(features, links)

    return make


def require_context(transform: Transform, context: Array | None) -> Array:
    """Return `context`.

    Raises:
      UsageError: if there is none.
    """
    if context is None:
        raise UsageError(
            f"{type(transform).__name__}: needs the tokens that both sides know: pass context=tokens to the boundary, "
            "or use LearnedTransform(context_tokens=0, token_groups=1)"
        )
    return context
