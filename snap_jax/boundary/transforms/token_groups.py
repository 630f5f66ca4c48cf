"""Token groups: send vectors of similar tokens side by side, with thresholds and frequency tables of their own.

How far a vector is from its prediction depends on its token: some are nearly always as expected, some never are.
Sorted by that and cut into equal groups, a tensor `[n, features]` is sent as `[n / groups, groups * features]`. A wire
with a table per channel then has one per group and feature. The receiver holds the tokens and knows the order, so
nothing more is sent.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float, Int

from snap_jax.boundary.transforms.base import Transform, require_context
from snap_jax.errors import UsageError


class TokenGroups(Transform):
    """Sort vectors by the residual norm of their tokens, and send equal groups side by side.

    `residual_norm` has one number per token, measured by `calibrate` and the same on both sides. No gradient reaches
    it, and weight decay leaves its order as it was.

    Args:
      features: size of the last axis of `x`.
      groups: how many; they must divide the number of vectors.
      vocabulary: how many different tokens there are.
      rngs: not used; nothing is random.

    >>> order = TokenGroups(1, groups=2, vocabulary=3)
    >>> order.residual_norm[...] = jnp.array([0.0, 2.0, 1.0])
    >>> tokens, z = jnp.array([[1, 0, 2, 0]]), jnp.array([[[9.0], [1.0], [5.0], [2.0]]])
    >>> order.prepare(z, tokens).tolist()
    [[1.0, 5.0], [2.0, 9.0]]
    >>> order.restore(order.prepare(z, tokens), tokens).tolist() == z.tolist()
    True
    """

    def __init__(self, features: int, groups: int, vocabulary: int = 256, *, rngs: nnx.Rngs | None = None):
        self.channels, self.groups = groups * features, groups
        self.residual_norm = nnx.Param(jnp.zeros(vocabulary))

    @property
    def lags(self):
        """None: the order depends on all vectors of a message."""
        return None

    def prepare(self, x, context=None):
        """Return the vectors by group, those with the smallest residuals first.

        Raises:
          UsageError: without tokens, or if the groups do not divide the vectors.
        """
        tokens = require_context(self, context)
        if tokens.size % self.groups:
            raise UsageError(
                f"TokenGroups: {self.groups} groups do not divide {tokens.size} vectors: use a divisor of them"
            )
        rows = x.reshape(-1, x.shape[-1])[self._order(tokens)]
        return rows.reshape(self.groups, -1, x.shape[-1]).swapaxes(0, 1).reshape(-1, self.groups * x.shape[-1])

    def restore(self, z, context=None):
        """Return the vectors in the order of their tokens."""
        tokens = require_context(self, context)
        rows = z.reshape(len(z), self.groups, -1).swapaxes(0, 1).reshape(tokens.size, -1)
        return rows[jnp.argsort(self._order(tokens))].reshape(*tokens.shape, -1)

    def unsort(self, z, context=None):
        """Return the vectors in the order of their tokens."""
        return self.restore(z, context)

    def calibrate(self, x, context=None):
        """Measure the residual norm of each token; without tokens, leave it."""
        if context is not None:
            self.residual_norm[...] = residual_norms(x, context, len(self.residual_norm[...]))

    def _order(self, tokens: Int[Array, "batch time"]) -> Int[Array, " n"]:
        return jnp.argsort(lax.stop_gradient(self.residual_norm[...])[tokens.reshape(-1)], stable=True)


def residual_norms(
    x: Float[Array, "batch time features"], tokens: Int[Array, "batch time"], vocabulary: int
) -> Float[Array, " vocabulary"]:
    """Return the mean `|x|` of the vectors of each token; for a token that does not occur, that of all vectors.

    >>> residual_norms(jnp.array([[[1.0], [-3.0], [5.0]]]), jnp.array([[0, 0, 1]]), 3).tolist()
    [2.0, 5.0, 3.0]
    """
    each, flat = jnp.abs(x).mean(-1).reshape(-1), tokens.reshape(-1)
    total, count = (jax.ops.segment_sum(a, flat, vocabulary) for a in (each, jnp.ones_like(each)))
    return jnp.where(count > 0, total / jnp.maximum(count, 1), each.mean())
