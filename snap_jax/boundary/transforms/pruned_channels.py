"""Pruned channels: send only some channels; the receiver puts zeros in the place of the others."""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import nnx

from snap_jax.boundary.transforms.base import Transform


class PrunedChannels(Transform):
    """`prepare(x) = x[..., kept]`, and `restore` puts zeros where nothing was sent.

    Args:
      features: size of the last axis of `x`.
      kept: the channels that are sent.
      rngs: not used; nothing is random.

    >>> pruned = PrunedChannels(3, kept=(0, 2))
    >>> z = pruned.prepare(jnp.array([1.0, 2.0, 3.0]))
    >>> z.tolist(), pruned.restore(z).tolist()
    ([1.0, 3.0], [1.0, 0.0, 3.0])
    """

    def __init__(self, features: int, kept: Sequence[int], *, rngs: nnx.Rngs | None = None):
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
