"""Real text that every installation has, of four kinds; and windows of tokens from it."""

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


def descriptions() -> str:
    """Return the starts of the long descriptions of all packages that are installed, as on PyPI."""
    from importlib import metadata

    found = {d.metadata["Name"]: str(d.metadata.get_payload() or "").strip()[:6000] for d in metadata.distributions()}
    return "\n\n".join(found[name] for name in sorted(found) if len(found[name]) > 2000)


def source() -> str:
    """Return held-out source code of Python's standard library, 0.4 MB."""
    return load_stdlib().heldout.tobytes().decode()


def windows(tokenizer: Any, text: str, count: int) -> Int[np.ndarray, "count time"]:
    """Return the first windows of a text."""
    ids = tokenizer.encode(text[: 16 * TIME * count]).ids
    return np.asarray(ids[: min(len(ids) // TIME, count) * TIME], np.int32).reshape(-1, TIME)


def calibration_windows(tokenizer: Any) -> Int[np.ndarray, "count time"]:
    """Return windows of documentation, articles and descriptions, about 128: what codes are calibrated on."""
    texts = (documentation()[60_000:], 64), (articles(), 20), (descriptions(), 44)
    return np.concatenate([windows(tokenizer, text, count) for text, count in texts])


def held_out_windows(tokenizer: Any, count: int = 18) -> Int[np.ndarray, "count time"]:
    """Return windows of source code, from places 20 kB apart: what codes are tested on."""
    text = source()
    return np.concatenate([windows(tokenizer, text[20_000 * i :], 1) for i in range(count)])


def byte_count(tokenizer: Any, tokens: Int[np.ndarray, "count time"]) -> int:
    """Return the bytes of the text that is predicted: all tokens but the first of each window."""
    return sum(len(tokenizer.decode(row[1:].tolist()).encode()) for row in tokens)
