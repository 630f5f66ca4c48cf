"""The text of a compiled program, if the names of operations in it are its own.

JAX's persistent compilation cache finds programs by what they compute, not by the names of their operations. A program
out of it may therefore show the scopes and the direction (forward, backward) of another one.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax

from snap_jax.errors import UsageError

_KEY = "jax_compilation_cache_include_metadata_in_key"


def program_text(compiled: Any) -> str:
    """Return the HLO text of a compiled program; a text is returned as it is.

    Raises:
      UsageError: for what is not compiled, for a backend without HLO text, and if the program may come from a
        persistent compilation cache that ignores the names of operations.
    """
    if isinstance(compiled, str):
        return compiled
    if not isinstance(compiled, jax.stages.Compiled):
        raise UsageError(
            f"compiled_traffic: got {type(compiled).__name__}, which is not compiled: "
            "pass jax.jit(fn).lower(*args).compile()"
        )
    if not _names_are_its_own():
        raise UsageError(
            "compiled_traffic: this program may come from JAX's persistent compilation cache, with the names and the "
            "direction of another program: set JAX_COMPILATION_CACHE_INCLUDE_METADATA_IN_KEY=true"
        )
    text = compiled.as_text()
    if text is None:
        raise UsageError("compiled_traffic: this backend gives no HLO text: use collective_traffic")
    return text


@contextlib.contextmanager
def names_in_cache_key() -> Iterator[None]:
    """Let the persistent compilation cache tell programs apart by the names of their operations, inside the block.

    >>> with names_in_cache_key():
    ...     compiled = jax.jit(jax.numpy.sin).lower(1.0).compile()
    """
    before = getattr(jax.config, _KEY)
    jax.config.update(_KEY, True)
    try:
        yield
    finally:
        jax.config.update(_KEY, before)


def _names_are_its_own() -> bool:
    names = ("jax_enable_compilation_cache", "jax_compilation_cache_dir", _KEY)
    enabled, folder, names_in_key = (getattr(jax.config, name) for name in names)
    return names_in_key or not (enabled and folder)
