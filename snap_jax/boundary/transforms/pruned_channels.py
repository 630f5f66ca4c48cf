"""Pruned channels: send only some channels; the receiver puts zeros in the place of the others."""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import nnx

from snap_jax.boundary.transforms.base import Transform
from snap_jax.errors import UsageError


def require_channels(name: str, channels: Sequence[int], count: int) -> None:
    """Raise unless `channels` are one or several different ones of `count`.

    Raises:
      UsageError: naming the function.
    """
    if not len(channels) or len(set(channels)) < len(channels) or not set(channels) <= set(range(count)):
        raise UsageError(f"{name}: channels {list(channels)}: use different ones from 0 to {count - 1}")


class PrunedChannels(Transform):
    """`prepare(x) = x[..., kept]`, and `restore` puts zeros where nothing was sent.

    Args:
      features: size of the last axis of `x`.
      kept: the channels that are sent.
      rngs: not used; nothing is random.

    Raises:
      UsageError: for channels that do not exist.

    >>> pruned = PrunedChannels(3, kept=(0, 2))
    >>> z = pruned.prepare(jnp.array([1.0, 2.0, 3.0]))
    >>> z.tolist(), pruned.restore(z).tolist()
    ([1.0, 3.0], [1.0, 0.0, 3.0])
    """

    def __init__(self, features: int, kept: Sequence[int], *, rngs: nnx.Rngs | None = None):
        require_channels("PrunedChannels", kept, features)
        self.features, self.channels, self.share = features, len(kept), len(kept) / features
        self.kept = nnx.static(tuple(kept))

    def prepare(self, x, context=None):
        """Return the channels that are sent."""
        return x[..., jnp.asarray(self.kept)]

    def restore(self, z, context=None):
        """Return all channels, those that were not sent as zeros."""
        zeros = jnp.zeros_like(z, shape=(*z.shape[:-1], self.features))
        return zeros.at[..., jnp.asarray(self.kept)].set(z)

    def unsort(self, z, context=None):
        """Return all channels in their places."""
        return self.restore(z, context)
