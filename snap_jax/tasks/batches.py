"""Batches: what a model is asked, and how well it answered.

Law: scores of rows add up to those of the batch, so neither microbatches nor replicas change them.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float


class Batch(NamedTuple):
    """Inputs, and what is asked of them.

    Attributes:
      inputs: what the model enters, `[micro, batch, ...]`.
      labels: classes its logits are to name, `[micro, batch, ...]`.
    """

    inputs: Array | np.ndarray
    labels: Array | np.ndarray


class Scores(NamedTuple):
    """How each row did.

    Attributes:
      nats: cross-entropy, summed over its labels.
      correct: how many of its labels were named.
    """

    nats: Float[Array, "micro batch"]
    correct: Float[Array, "micro batch"]


def nats(logits: Array, labels: Array) -> Float[Array, ""]:
    """Cross-entropy, summed over all labels.

    >>> round(float(nats(jnp.zeros((3, 2)), jnp.array([0, 1, 1]))), 4)  # 3 log 2
    2.0794
    """
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).sum()


def scores(logits: Array, labels: Array) -> Scores:
    """Of each row of a microbatch.

    >>> found = scores(jnp.array([[[0.0, 1.0], [0.0, 1.0]]]), jnp.array([[1, 0]]))
    >>> found.correct.tolist()
    [1.0]
    """
    each = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    correct = (logits.argmax(-1) == labels).astype(jnp.float32)
    return Scores(*(a.reshape(len(a), -1).sum(-1) for a in (each, correct)))
