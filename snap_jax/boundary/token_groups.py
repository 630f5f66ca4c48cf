"""Ordering: vectors that both sides know to be alike cross side by side, with thresholds and tables of their own.

Law: `undo(arrange(z, tokens), tokens) == z`; nothing more crosses, for the order follows from tokens both sides hold.

How far a vector is from what was predicted of it depends on its token: some are nearly always as expected, some never
are. Sorted by that and cut into equal segments, a tensor `[n, dims]` crosses as `[n / segments, segments dims]`: to a
wire that has a table for each channel, each segment's dims are channels of their own.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float, Int, Num

from snap_jax.errors import UsageError


class Order(nnx.Module):
    """Who stands next to whom; both ends of a boundary hold the same.

    No gradient reaches `loudness`: it is measured (`calibrate`), and an optimizer that lets parameters decay leaves
    their order as it was.

    Args:
      token_groups: parts of a tensor; they must divide its vectors.
      vocabulary: how many tokens there are.

    >>> order = Order(2, vocabulary=3)
    >>> order.loudness[...] = jnp.array([0.0, 2.0, 1.0])
    >>> tokens, z = jnp.array([[1, 0, 2, 0]]), jnp.array([[[9.0], [1.0], [5.0], [2.0]]])
    >>> order.arrange(z, tokens).tolist()
    [[1.0, 5.0], [2.0, 9.0]]
    >>> order.undo(order.arrange(z, tokens), tokens).tolist() == z.tolist()
    True
    """

    def __init__(self, token_groups: int, vocabulary: int):
        self.token_groups = token_groups
        self.loudness = nnx.Param(jnp.zeros(vocabulary))

    def arrange(self, z: Float[Array, "batch time dims"], tokens: Int[Array, "batch time"]) -> Float[Array, "n wide"]:
        """The vectors by segment: `[n / segments, segments dims]`, the quiet ones first.

        Raises:
          UsageError: if the segments do not divide the vectors.
        """
        if tokens.size % self.token_groups:
            raise UsageError(
                f"Order.arrange: {self.token_groups} segments do not divide {tokens.size} vectors: use a divisor"
            )
        rows = z.reshape(-1, z.shape[-1])[self._places(tokens)]
        return (
            rows.reshape(self.token_groups, -1, z.shape[-1]).swapaxes(0, 1).reshape(-1, self.token_groups * z.shape[-1])
        )

    def undo(self, rows: Num[Array, "n wide"], tokens: Int[Array, "batch time"]) -> Num[Array, "batch time dims"]:
        """The vectors where they came from."""
        flat = rows.reshape(len(rows), self.token_groups, -1).swapaxes(0, 1).reshape(tokens.size, -1)
        return flat[jnp.argsort(self._places(tokens))].reshape(*tokens.shape, -1)

    def _places(self, tokens: Int[Array, "batch time"]) -> Int[Array, " n"]:
        return jnp.argsort(lax.stop_gradient(self.loudness[...])[tokens.reshape(-1)], stable=True)


def loudness(
    z: Float[Array, "batch time dims"], tokens: Int[Array, "batch time"], vocabulary: int
) -> Float[Array, " vocabulary"]:
    """Mean `|z|` of the vectors of each token; that of all for a token that does not occur.

    >>> loudness(jnp.array([[[1.0], [-3.0], [5.0]]]), jnp.array([[0, 0, 1]]), 3).tolist()
    [2.0, 5.0, 3.0]
    """
    each, flat = jnp.abs(z).mean(-1).reshape(-1), tokens.reshape(-1)
    total, count = (jax.ops.segment_sum(a, flat, vocabulary) for a in (each, jnp.ones_like(each)))
    return jnp.where(count > 0, total / jnp.maximum(count, 1), each.mean())
