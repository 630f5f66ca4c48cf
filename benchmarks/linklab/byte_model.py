"""A small model of bytes that JAX and PyTorch train alike: its first weights, its batches, and its held-out loss.

A byte is predicted from the 16 before it: `logits = head(tanh(hidden(embeddings)))`. Needs numpy only.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

BEFORE, FEATURES, BYTES = 16, 32, 256
BATCH = 32  # windows of each host
RATE = 2e-3  # of Adam
_HELDOUT = 4096  # windows

Weights = dict[str, np.ndarray]


def text() -> np.ndarray:
    """Return the bytes of the documentation."""
    return np.frombuffer(b"".join(path.read_bytes() for path in sorted(Path("docs").glob("*.md"))), np.uint8)


def weights(hidden: int, seed: int) -> Weights:
    """Return the first weights, f32; those of the last layer are zeros."""
    rng = np.random.default_rng(seed)
    inputs = BEFORE * FEATURES
    return {
        "embed": rng.standard_normal((BYTES, FEATURES)).astype(np.float32),
        "hidden": (rng.standard_normal((inputs, hidden)) / inputs**0.5).astype(np.float32),
        "head": np.zeros((hidden, BYTES), np.float32),
    }


def batch(train: np.ndarray, *, step: int, host: int, seed: int) -> np.ndarray:
    """Return windows of one host, int32 `[BATCH, BEFORE + 1]`, whose last byte is to be predicted."""
    begin = np.random.default_rng((seed, step, host)).integers(len(train) - BEFORE, size=BATCH)
    return train[begin[:, None] + np.arange(BEFORE + 1)].astype(np.int32)


def divided(data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the bytes to train on, and the last tenth, which is held out."""
    end = len(data) * 9 // 10
    return data[:end], data[end:]


def bits_per_byte(model: Mapping[str, np.ndarray], heldout: np.ndarray) -> float:
    """Return the loss on windows spread over the held-out bytes."""
    begin = np.linspace(0, len(heldout) - BEFORE - 1, _HELDOUT).astype(int)
    rows = heldout[begin[:, None] + np.arange(BEFORE + 1)]
    read = model["embed"][rows[:, :-1]].reshape(len(rows), -1)
    logits = (np.tanh(read @ model["hidden"]) @ model["head"]).astype(np.float64)
    logits -= logits.max(-1, keepdims=True)
    nats = np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(rows)), rows[:, -1]]
    return float(nats.mean() / np.log(2))
