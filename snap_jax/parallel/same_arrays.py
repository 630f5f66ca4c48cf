"""Whether arrays that several processes hold are the same in each of them, compared by a hash before a run starts."""

import hashlib
from collections.abc import Mapping

import jax
import numpy as np
from jaxtyping import PyTree

from snap_jax.errors import UsageError
from snap_jax.parallel.processes import count, from_each


def require_same_arrays(what: str, tree: PyTree) -> None:
    """Check that all processes hold the same arrays, each whole; does nothing in a single process.

    Args:
      what: an array is, for the message.
      tree: the arrays.

    Raises:
      UsageError: names the first that differs, and the processes.
    """
    if count() > 1:
        require_same_hashes(what, hashes(tree))


def hashes(tree: PyTree, prefix: str = "") -> dict[str, str]:
    """Return the SHA-256 of each array by its path.

    >>> list(hashes({"bias": [np.zeros(2)]}, "block."))
    ['block.bias.0']
    """
    found = {}
    for path, array in jax.tree.leaves_with_path(tree):
        name = jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".value")
        numbers = np.ascontiguousarray(array).reshape(-1).view(np.uint8)  # bfloat16 has no buffer of its own
        found[prefix + name] = hashlib.sha256(numbers.data).hexdigest()
    return found


def require_same_hashes(what: str, own: Mapping[str, str]) -> None:
    """Check that `hashes` returned the same in all processes.

    Raises:
      UsageError: names the first array that differs, and the processes.
    """
    first, *others = from_each(dict(own))
    for process, found in enumerate(others, 1):
        for name in [*first, *found]:
            if found.get(name) != first.get(name):
                raise UsageError(
                    f"process {process} has another {what} {name} than process 0: use the same code, seed and versions "
                    "on all hosts"
                )
