"""Prediction: send only what the receiver cannot predict from tokens that both sides know."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from snap_jax.boundary.transforms.base import Transform, require_context


class Prediction(Transform):
    """`prepare(x) = x - P(tokens)` and `restore(z) = z + P(tokens)`; the prediction is zero at first.

    `P(tokens)_t = relu(sum_j E_j[token_(t-j)] + b) W`, from the latest `context_tokens` tokens, one look-up each.

    Args:
      features: size of the last axis of `x`.
      context_tokens: how many of the latest tokens are used.
      vocabulary: how many different tokens there are.
      hidden: width of the hidden layer.
      rngs: for the embeddings.

    >>> Prediction(3, context_tokens=2, rngs=nnx.Rngs(0)).predict(jnp.zeros((1, 5), jnp.int32)).shape
    (1, 5, 3)
    """

    def __init__(self, features: int, context_tokens: int, vocabulary: int = 256, hidden: int = 128, *, rngs: nnx.Rngs):
        self.channels = features
        table = (context_tokens, vocabulary, hidden)
        self.embeddings = nnx.Param(jax.random.normal(rngs.params(), table) / context_tokens**0.5)
        self.bias = nnx.Param(jnp.zeros(hidden))
        self.output = nnx.Param(jnp.zeros((hidden, features)))

    def predict(self, tokens: Int[Array, "batch time"]) -> Float[Array, "batch time features"]:
        """Return what is to be expected at each token."""
        tables = self.embeddings[...]
        held = sum(tables[lag][delayed(tokens, lag)] for lag in range(len(tables)))
        return jax.nn.relu(held + self.bias[...]) @ self.output[...]

    @property
    def lags(self):
        """The latest token itself needs none."""
        return self.embeddings.shape[0] - 1

    def prepare(self, x, context=None):
        """Return `x - P(context)`."""
        return x - self.predict(require_context(self, context))

    def restore(self, z, context=None):
        """Return `z + P(context)`."""
        return z + self.predict(require_context(self, context))

    def calibrate(self, x, context=None):
        """Predict zero again: what was learned belongs to another basis."""
        self.output[...] = jnp.zeros_like(self.output[...])


def delayed(tokens: Int[Array, "batch time"], lag: int) -> Int[Array, "batch time"]:
    """Return the token that came `lag` before each; 0 at the start."""
    return jnp.pad(tokens, ((0, 0), (lag, 0)))[:, : tokens.shape[1]]
