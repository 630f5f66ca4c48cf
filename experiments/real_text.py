"""Real text that every installation has, of three kinds; and windows of tokens from it."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from snap_jax.data.python_stdlib import load_stdlib

TIME = 512
"""Tokens of a window."""


def documentation() -> str:
    """Return the language reference that Python prints as its help, about 0.7 MB."""
    from pydoc_data import topics

    return Path(topics.__file__).read_text(encoding="utf-8").replace("\\n", "\n")


def articles() -> str:
    """Return the descriptions of the data sets of scikit-learn, 43 kB of English."""
    import sklearn

    folder = Path(sklearn.__file__).parent / "datasets" / "descr"
    return "".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.rst")))


def source() -> str:
    """Return held-out source code of Python's standard library, 0.4 MB."""
    return load_stdlib().heldout.tobytes().decode()


def windows(tokenizer: Any, text: str, count: int) -> Int[np.ndarray, "count time"]:
    """Return the first windows of a text."""
    ids = tokenizer.encode(text[: 16 * TIME * count]).ids[: TIME * count]
    return np.asarray(ids, np.int32).reshape(-1, TIME)


def calibration_windows(tokenizer: Any) -> Int[np.ndarray, "count time"]:
    """Return 32 windows of documentation and of articles: what codes are calibrated on."""
    parts = [windows(tokenizer, documentation()[60_000:], 24), windows(tokenizer, articles(), 8)]
    return np.concatenate(parts)


def held_out_windows(tokenizer: Any, count: int = 8) -> Int[np.ndarray, "count time"]:
    """Return windows of source code, from places far apart: what codes are tested on."""
    text = source()
    return np.concatenate([windows(tokenizer, text[40_000 * i :], 1) for i in range(count)])


def byte_count(tokenizer: Any, tokens: Int[np.ndarray, "count time"]) -> int:
    """Return the bytes of the text that is predicted: all tokens but the first of each window."""
    return sum(len(tokenizer.decode(row[1:].tolist()).encode()) for row in tokens)
