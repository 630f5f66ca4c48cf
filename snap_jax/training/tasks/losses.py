"""Batches: what a model is asked, and how well it answered.

Law: scores of rows add up to those of the batch, so neither microbatches nor replicas change them.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float


class Distilled(NamedTuple):
    """Labels, and what a teacher makes of them.

    Attributes:
      classes: the labels themselves, `[micro, batch, ...]`.
      teacher_logits: what the softmax of logits is to be, `[die, micro, batch, ..., classes]`; that of the last die
      counts.
    """

    classes: Array
    teacher_logits: Array


class Batch(NamedTuple):
    """Inputs, and what is asked of them.

    Attributes:
      inputs: what the model enters, `[micro, batch, ...]`.
      labels: classes its logits are to name, `[micro, batch, ...]`; of a batch to learn from, perhaps `Distilled`.
    """

    inputs: Array | np.ndarray
    labels: Array | np.ndarray | Distilled

    @property
    def classes(self) -> Array | np.ndarray:
        """The labels, whoever teaches."""
        return self.labels.classes if isinstance(self.labels, Distilled) else self.labels


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


def losses(logits: Array, labels: Array | Distilled) -> tuple[Float[Array, ""], ...]:
    """Summed over all labels: the cross-entropy; and behind it, where there is a teacher, that with what it wants.

    >>> labels = Distilled(jnp.array([0]), jnp.array([[0.5, 0.5]]))
    >>> [round(float(nats), 4) for nats in losses(jnp.zeros((1, 2)), labels)]
    [0.6931, 0.6931]
    """
    if not isinstance(labels, Distilled):
        return (nats(logits, labels),)
    return nats(logits, labels.classes), optax.softmax_cross_entropy(logits, labels.teacher_logits).sum()


def teacher_logits(logits: Array, labels: Array, weight: float) -> Float[Array, "*batch classes"]:
    """`(1 - weight) onehot(label) + weight softmax(logits)`, for logits of a teacher.

    >>> wanted(jnp.zeros((1, 2)), jnp.array([1]), 0.5).tolist()
    [[0.25, 0.75]]
    """
    return (1 - weight) * jax.nn.one_hot(labels, logits.shape[-1]) + weight * jax.nn.softmax(logits)


def scores(logits: Array, labels: Array) -> Scores:
    """Of each row of a microbatch.

    >>> found = scores(jnp.array([[[0.0, 1.0], [0.0, 1.0]]]), jnp.array([[1, 0]]))
    >>> found.correct.tolist()
    [1.0]
    """
    each = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    correct = (logits.argmax(-1) == labels).astype(jnp.float32)
    return Scores(*(a.reshape(len(a), -1).sum(-1) for a in (each, correct)))
