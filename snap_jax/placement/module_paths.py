"""Paths of modules, as the user writes them: `layers.3.mlp.down`, `layers.*.mlp`, `**.attention`."""

import difflib
import re
from collections.abc import Iterable

from flax import nnx

from snap_jax.errors import UsageError

HOOKS = "snap_hooks"  # the attribute that holds what `place` adds to a module
_MOST_NAMED = 4  # of the nearest paths, in an error


def modules_of(model: nnx.Module) -> dict[str, nnx.Module]:
    """Return every module below the model by its path with dots, the model itself by ""; what hooks hold is left out.

    >>> model = nnx.Sequential(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), nnx.relu)
    >>> sorted(modules_of(model))
    ['', 'layers', 'layers.0']
    """
    found = nnx.iter_modules(model)
    return {".".join(map(str, path)): module for path, module in found if HOOKS not in path}


def matching(pattern: str, paths: Iterable[str], *, where: str) -> list[str]:
    """Return the paths that a pattern matches, in their order; `*` is within one name, `**` any number of names.

    Raises:
      UsageError: if none matches; it names the nearest paths.

    >>> matching("layers.*.mlp", ["layers.0.mlp", "layers.0.mlp.up", "layers.1.mlp"], where="Rule")
    ['layers.0.mlp', 'layers.1.mlp']
    """
    known = list(paths)
    expression = re.compile(_expression(pattern))
    found = [path for path in known if expression.fullmatch(path)]
    if not found:
        nearest = difflib.get_close_matches(pattern, [p for p in known if p], _MOST_NAMED, 0.0)
        raise UsageError(f"{where}: no module has the path {pattern!r}; the nearest are {', '.join(nearest)}")
    return found


def _expression(pattern: str) -> str:
    names = [".*" if name == "**" else _name(name) for name in pattern.split(".")]
    return r"\.".join(names).replace(r".*\.", r"(?:.*\.)?").replace(r"\..*", r"(?:\..*)?")


def _name(name: str) -> str:
    """One name: `*` and `?` are wild, `[0-3]` is a set."""
    parts = re.split(r"(\*|\?|\[[^\]]*\])", name)
    wild = {"*": "[^.]*", "?": "[^.]"}
    return "".join(wild.get(part, part if part.startswith("[") else re.escape(part)) for part in parts)
