"""Prediction from the embeddings of tokens, in closed form: nothing of it needs training."""

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from snap_jax.boundary.learned_codec import Constant
from snap_jax.boundary.transforms.base import Transform, require_context
from snap_jax.errors import UsageError

_RIDGE = 0.03  # of the variance of a feature: with 0.003 or 0.3, what is left has 1 % more energy or less than that


class EmbeddingPrediction(Transform):
    """Send `x - P(tokens)`, with `P(tokens)_t = mean + sum_j e(token_(t-j)) A_j` for embeddings e that both sides hold.

    The first vector of a sequence has a mean of its own, `first`, and no other prediction: pretrained transformers put
    a vector there that is a thousand times as large as the others and nearly the same in every sequence.

    `calibrate` finds mean and A by ridge regression. In a pipeline each stage needs the table of embeddings.

    Args:
      features: size of the last axis of `x`.
      embedding: the table of the model, which is not learned here.
      context_tokens: how many of the latest tokens predict.
      rngs: not used; nothing is random.

    Raises:
      UsageError: for less than one context token.

    >>> table = jnp.eye(3)
    >>> prediction, tokens = EmbeddingPrediction(2, table, context_tokens=1), jnp.array([[2, 0, 1, 0, 1, 0]])
    >>> x = jnp.array([[[900.0, 0.0], [1.0, 2.0], [3.0, 4.0], [1.0, 2.0], [3.0, 4.0], [1.0, 2.0]]])
    >>> prediction.calibrate(x, tokens)
    >>> bool(jnp.abs(prediction.prepare(x, tokens)).max() < 0.2)
    True
    """

    def __init__(
        self,
        features: int,
        embedding: Float[Array, "vocabulary width"],
        context_tokens: int = 2,
        *,
        rngs: nnx.Rngs | None = None,
    ):
        if context_tokens < 1:
            raise UsageError(f"EmbeddingPrediction: context_tokens={context_tokens}: use 1 or more")
        self.channels = features
        self.embedding = Constant(embedding)
        self.mean, self.first = nnx.Param(jnp.zeros(features)), nnx.Param(jnp.zeros(features))
        self.maps = nnx.Param(jnp.zeros((context_tokens, embedding.shape[1], features)))

    def predict(self, tokens: Int[Array, "batch time"]) -> Float[Array, "batch time features"]:
        """Return what is to be expected at each token."""
        maps, embedded = self.maps[...], self.embedding[...][tokens]
        delayed = (_delayed(embedded, lag) @ maps[lag] for lag in range(len(maps)))
        return (sum(delayed, self.mean[...])).at[:, 0].set(self.first[...])

    def prepare(self, x, context=None):
        """Return `x - P(context)`."""
        return x - self.predict(require_context(self, context))

    def restore(self, z, context=None):
        """Return `z + P(context)`."""
        return z + self.predict(require_context(self, context))

    def calibrate(self, x, context=None):
        """Set the means and A, from a sample of sequences and their tokens."""
        embedded, x = self.embedding[...][require_context(self, context)], np.asarray(x)
        lags, width = self.maps.shape[:2]
        inputs = np.concatenate([np.asarray(_delayed(embedded, lag), np.float64)[:, 1:] for lag in range(lags)], -1)
        inputs, target = inputs.reshape(-1, lags * width), x[:, 1:].reshape(-1, x.shape[-1]).astype(np.float64)
        center, mean = inputs.mean(0), target.mean(0)
        inputs = inputs - center
        ridge = _RIDGE * len(inputs) * np.maximum(inputs.var(0), 1e-12)
        maps = np.linalg.solve(inputs.T @ inputs + np.diag(ridge), inputs.T @ (target - mean))
        self.mean[...] = jnp.asarray(mean - center @ maps, jnp.float32)
        self.first[...] = jnp.asarray(x[:, 0].mean(0), jnp.float32)
        self.maps[...] = jnp.asarray(maps.reshape(self.maps.shape), jnp.float32)


def _delayed(x: Float[Array, "batch time width"], lag: int) -> Float[Array, "batch time width"]:
    """Each vector `lag` places later; zeros at the start."""
    return jnp.pad(x, ((0, 0), (lag, 0), (0, 0)))[:, : x.shape[1]]
