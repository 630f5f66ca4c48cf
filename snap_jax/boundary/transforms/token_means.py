"""Token means: send only how a vector differs from the mean of its tokens, one look-up per token and no arithmetic."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from snap_jax.boundary.transforms.base import Transform, require_context
from snap_jax.boundary.transforms.prediction import delayed


class TokenMeans(Transform):
    """`prepare(x) = x - M(tokens)` and `restore(z) = z + M(tokens)`, `M(tokens)_t = sum_j M_j[token_(t-j)]`.

    Args:
      features: size of the last axis of `x`.
      context_tokens: how many of the latest tokens are used.
      vocabulary: how many different tokens there are.
      rngs: not used; nothing is random.

    >>> means = TokenMeans(2, context_tokens=1, vocabulary=3)
    >>> means.calibrate(jnp.array([[[1.0, 2.0], [3.0, 2.0], [5.0, 0.0]]]), jnp.array([[0, 0, 1]]))
    >>> means.tables[...][0].tolist()  # of a token that does not occur, the mean of all
    [[2.0, 2.0], [5.0, 0.0], [3.0, 1.3333333730697632]]
    """

    def __init__(self, features: int, context_tokens: int = 1, vocabulary: int = 256, *, rngs: nnx.Rngs | None = None):
        self.channels = features
        self.tables = nnx.Param(jnp.zeros((context_tokens, vocabulary, features)))

    def mean(self, tokens: Int[Array, "batch time"]) -> Float[Array, "batch time features"]:
        """Return what is to be expected at each token."""
        tables = self.tables[...]
        return sum((tables[lag][delayed(tokens, lag)] for lag in range(1, len(tables))), start=tables[0][tokens])

    @property
    def lags(self):
        """The latest token itself needs none."""
        return self.tables.shape[0] - 1

    def prepare(self, x, context=None):
        """Return `x - M(context)`."""
        return x - self.mean(require_context(self, context))

    def restore(self, z, context=None):
        """Return `z + M(context)`."""
        return z + self.mean(require_context(self, context))

    def calibrate(self, x, context=None):
        """Take the means of a sample, and for earlier tokens zeros; without tokens, leave them."""
        if context is None:
            return
        rows, tokens = x.reshape(-1, self.channels), context.reshape(-1)
        size = self.tables.shape[1]
        total, count = (jax.ops.segment_sum(a, tokens, size) for a in (rows, jnp.ones(len(rows))))
        means = jnp.where(count[:, None] > 0, total / jnp.maximum(count, 1)[:, None], rows.mean(0))
        self.tables[...] = jnp.zeros_like(self.tables[...]).at[0].set(means)
