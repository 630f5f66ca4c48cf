"""Layers whose parameters are stacked, and run by one scan, become several modules that each scan some of them.

Invariant: `restack(unstack(model, layers, parts))` has the graph and the parameters of the model.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
from flax import nnx
from jaxtyping import Array

from snap_jax.errors import UsageError
from snap_jax.placement.module_paths import matching, modules_of

M = TypeVar("M", bound=nnx.Module)


class ScanParts(nnx.Module):
    """A module that scans over stacked layers, as several modules of its class, called one after the other.

    Attributes:
      parts: each with some of the layers.
      layers: name of the stacked layers in each.
    """

    def __init__(self, parts: list[nnx.Module], layers: str):
        self.parts, self.layers = nnx.List(parts), layers

    def __call__(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Return what the last part returns; each gets what the one before returned, and the other arguments."""
        for part in self.parts:
            x = part(x, *args, **kwargs)
        return x


def unstack(model: M, layers: str, parts: int) -> M:
    """Return a copy of a model in which one scan over stacked layers is several scans, to cut it between them.

    The module that holds the layers must run the scan in its call, take the stream first, and return it. Its parts then
    have the paths `<module>.parts.<i>`, as `split_stages` wants them.

    Args:
      model: any NNX model; it is not changed.
      layers: path of the stacked layers, e.g. `"decoder.layers"`.
      parts: how many.

    Raises:
      UsageError: if the path does not exist, the model itself runs the scan, or the parts do not divide the layers.
    """
    copy = nnx.clone(model)
    (path,) = matching(layers, modules_of(copy), where="unstack")
    holder, _, name = path.rpartition(".")
    if not holder:
        raise UsageError(
            f"unstack: the model itself runs the scan over {layers}: move the scan into a module of its own"
        )
    count = jax.tree.leaves(nnx.state(modules_of(copy)[path]))[0].shape[0]
    if parts < 1 or count % parts:
        raise UsageError(
            f"unstack: {parts} parts do not divide the {count} layers of {layers}: use a divisor of {count}"
        )
    size = count // parts
    whole = modules_of(copy)[holder]
    made = [_with(whole, name, lambda a, i=i: a[i * size : (i + 1) * size]) for i in range(parts)]
    _put(copy, holder, ScanParts(made, name))
    return copy


def restack(model: M) -> M:
    """Return a copy of a model in which every `ScanParts` is one module again."""
    copy = nnx.clone(model)
    for path, module in modules_of(copy).items():
        if isinstance(module, ScanParts):
            states = [jax.tree.leaves(nnx.state(getattr(part, module.layers))) for part in module.parts]
            joined = iter([jax.numpy.concatenate(leaves) for leaves in zip(*states, strict=True)])
            _put(copy, path, _with(module.parts[0], module.layers, lambda _, joined=joined: next(joined)))
    return copy


def _with(module: Any, name: str, change: Callable[[Array], Array]) -> nnx.Module:
    """A copy of a module with changed arrays in one of its modules."""
    made = nnx.clone(module)
    layers = getattr(made, name)
    nnx.update(layers, jax.tree.map(change, nnx.state(layers)))
    return made


def _put(model: nnx.Module, path: str, module: nnx.Module) -> None:
    parent, _, name = path.rpartition(".")
    holder: Any = modules_of(model)[parent]
    if isinstance(holder, nnx.List):
        holder[int(name)] = module
    else:
        setattr(holder, name, module)
