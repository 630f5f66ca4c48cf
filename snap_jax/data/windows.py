"""Cut a text into the windows that a step of training or evaluation reads."""

import numpy as np
from jaxtyping import Int, UInt8

from snap_jax.data.corpus import Text
from snap_jax.errors import UsageError


def windows(text: Text, length: int) -> UInt8[np.ndarray, "n length_plus_1"]:
    """Return consecutive windows, in which all bytes but the first are predicted: [n, length + 1], a view of the text.

    The last byte of one window is the first of the next, so every byte of the text but the first is predicted
    exactly once, up to a remainder shorter than `length` at the end.

    Raises:
      UsageError: the text is shorter than one window, or length < 1.

    >>> windows(np.frombuffer(b"abcdefg", np.uint8), 3).view("S4").ravel().tolist()
    [b'abcd', b'defg']
    """
    _check(text, "length", length)
    return np.lib.stride_tricks.sliding_window_view(text, length + 1)[::length]


def batch(
    train: Text, *, step: int, seed: int, batch: int, seq_len: int, rows: Int[np.ndarray, " rows"] | None = None
) -> UInt8[np.ndarray, "rows seq_len_plus_1"]:
    """Cut windows of seq_len + 1 bytes at uniformly random places: [batch, seq_len + 1], or only some rows of it.

    A pure function of (seed, step): a resumed run reads the bytes that the stopped one would have read. Of the text,
    only the windows themselves are read.

    Raises:
      UsageError: the text is shorter than one window, batch or seq_len < 1, seed or step outside [0, 2**32).

    >>> drawn = batch(np.arange(99, dtype=np.uint8), step=7, seed=0, batch=2, seq_len=3)
    >>> drawn.shape, (drawn - drawn[:, :1]).tolist()
    ((2, 4), [[0, 1, 2, 3], [0, 1, 2, 3]])
    """
    begin = starts(train, step=step, seed=seed, batch=batch, seq_len=seq_len)
    begin = begin if rows is None else begin[rows]
    return train[begin[:, None] + np.arange(seq_len + 1)]


def starts(train: Text, *, step: int, seed: int, batch: int, seq_len: int) -> Int[np.ndarray, " batch"]:
    """Return where the windows of that `batch` begin in the text: byte offsets, [batch].

    >>> text = np.arange(99, dtype=np.uint8)
    >>> drawn = batch(text, step=7, seed=0, batch=2, seq_len=3)
    >>> (text[starts(text, step=7, seed=0, batch=2, seq_len=3)] == drawn[:, 0]).all()
    np.True_
    """
    _check(train, "seq_len", seq_len)
    if batch < 1:
        raise UsageError(f"batch={batch}: give a batch of at least 1")
    for name, value in (("seed", seed), ("step", step)):
        if not 0 <= value < 2**32:  # one 32-bit word each: NumPy mixes longer ones so that two pairs could meet
            raise UsageError(f"{name}={value}: give a whole number from 0 to {2**32 - 1}")
    return np.random.default_rng((seed, step)).integers(len(train) - seq_len, size=batch)


def _check(text: Text, name: str, length: int) -> None:
    if length < 1:
        raise UsageError(f"{name}={length}: give a length of at least 1 byte")
    if len(text) <= length:
        raise UsageError(
            f"{name}={length} needs a text of at least {length + 1} bytes, and this one has {len(text)}: "
            f"give a longer text or a {name} of at most {max(len(text) - 1, 1)}"
        )
