"""Batches of inputs and labels, and how well a model predicts the labels.

Invariant: scores of rows add up to those of the batch, so neither microbatches nor replicas change them.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float


class Distilled(NamedTuple):
    """Labels, and the targets that a teacher sets.

    Attributes:
      classes: the labels themselves, `[micro, batch, ...]`.
      teacher_logits: the target probabilities, `[stage, micro, batch, ..., classes]`; those of the last stage count.
    """

    classes: Array
    teacher_logits: Array


class Batch(NamedTuple):
    """Inputs and their labels.

    Attributes:
      inputs: what the model enters, `[micro, batch, ...]`.
      labels: classes, `[micro, batch, ...]`; of a batch to learn from, perhaps `Distilled`.
    """

    inputs: Array | np.ndarray
    labels: Array | np.ndarray | Distilled

    @property
    def classes(self) -> Array | np.ndarray:
        """Return the labels, with or without a teacher."""
        return self.labels.classes if isinstance(self.labels, Distilled) else self.labels


def by_microbatch(rows: Batch, count: int) -> Batch:
    """Divide rows into `count` microbatches, `[rows, ...]` -> `[count, rows / count, ...]`."""
    return Batch(*(jnp.asarray(a).reshape(count, -1, *a.shape[1:]) for a in (rows.inputs, rows.classes)))


class Scores(NamedTuple):
    """How well each row was predicted.

    Attributes:
      nats: cross-entropy, summed over its labels.
      correct: how many of its labels were predicted.
    """

    nats: Float[Array, "micro batch"]
    correct: Float[Array, "micro batch"]


def nats(logits: Array, labels: Array) -> Float[Array, ""]:
    """Return the cross-entropy, summed over all labels.

    >>> round(float(nats(jnp.zeros((3, 2)), jnp.array([0, 1, 1]))), 4)  # 3 log 2
    2.0794
    """
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).sum()


def losses(logits: Array, labels: Array | Distilled) -> tuple[Float[Array, ""], ...]:
    """Return the cross-entropy, summed over all labels; and where there is a teacher, that with its targets.

    >>> labels = Distilled(jnp.array([0]), jnp.array([[0.5, 0.5]]))
    >>> [round(float(nats), 4) for nats in losses(jnp.zeros((1, 2)), labels)]
    [0.6931, 0.6931]
    """
    if not isinstance(labels, Distilled):
        return (nats(logits, labels),)
    return nats(logits, labels.classes), optax.softmax_cross_entropy(logits, labels.teacher_logits).sum()


def teacher_logits(logits: Array, labels: Array, weight: float) -> Float[Array, "*batch classes"]:
    """Return `(1 - weight) onehot(label) + weight softmax(logits)`, for logits of a teacher.

    >>> teacher_logits(jnp.zeros((1, 2)), jnp.array([1]), 0.5).tolist()
    [[0.25, 0.75]]
    """
    return (1 - weight) * jax.nn.one_hot(labels, logits.shape[-1]) + weight * jax.nn.softmax(logits)


def scores(logits: Array, labels: Array) -> Scores:
    """Return the scores of each row of a microbatch.

    >>> found = scores(jnp.array([[[0.0, 1.0], [0.0, 1.0]]]), jnp.array([[1, 0]]))
    >>> found.correct.tolist()
    [1.0]
    """
    each = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    correct = (logits.argmax(-1) == labels).astype(jnp.float32)
    return Scores(*(a.reshape(len(a), -1).sum(-1) for a in (each, correct)))
