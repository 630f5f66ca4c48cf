"""Hooks: what is done around the calls of a module that somebody else wrote.

Invariant: a module with hooks keeps its class (as a subclass), its attributes and the paths of its parameters; what
hooks hold lies below `snap_hooks`. `unhook` gives back the class and the attributes as they were.
"""

import abc
import functools
from collections.abc import Callable
from typing import Any, ClassVar

from flax import nnx

from snap_jax.placement.module_paths import HOOKS

Call = Callable[..., Any]
"""A module and its arguments -> what its own method returns."""


class Hook(nnx.Module):
    """What is done around the calls of one module."""

    @abc.abstractmethod
    def around(self, call: Call, module: nnx.Module, *args: Any, **kwargs: Any) -> Any:
        """Return what the call returns now; `call(module, *args, **kwargs)` is the call as it was."""


class Hooked:
    """A module whose calls pass through hooks, the first of them innermost."""

    __slots__ = ()  # so that a module may take a subclass of this as its class
    original: ClassVar[type]
    snap_hooks: nnx.List


@functools.cache
def _hooked_class(cls: type) -> type:
    """The subclass of a class of modules, one for all modules, so that equal models have equal graphs."""

    def own(module: Any, *args: Any, **kwargs: Any) -> Any:
        parent: Any = super(hooked, module)
        return parent.__call__(*args, **kwargs)

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        inner: Call = own
        for hook in self.snap_hooks:
            inner = functools.partial(hook.around, inner)
        return inner(self, *args, **kwargs)

    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    hooked = type(cls)(cls.__name__, (cls, Hooked), {**names, "__call__": call, "original": cls})
    return hooked


def add_hook(module: nnx.Module, hook: Hook) -> None:
    """Let the calls of a module pass through a hook too, outside of those that it has."""
    if not isinstance(module, Hooked):
        object.__setattr__(module, "__class__", _hooked_class(type(module)))
        setattr(module, HOOKS, nnx.List([]))
    getattr(module, HOOKS).append(hook)


def remove_hooks(module: nnx.Module, kind: type[Hook]) -> list[Hook]:
    """Take the hooks of a kind off a module, and give it its class back where none is left; return them."""
    if not isinstance(module, Hooked):
        return []
    hooks = list(module.snap_hooks)
    kept = [hook for hook in hooks if not isinstance(hook, kind)]
    if kept:
        setattr(module, HOOKS, nnx.List(kept))
    else:
        delattr(module, HOOKS)
        object.__setattr__(module, "__class__", module.original)
    return [hook for hook in hooks if isinstance(hook, kind)]


def hooks_of(module: nnx.Module) -> list[Hook]:
    """Return the hooks of a module, innermost first."""
    return list(module.snap_hooks) if isinstance(module, Hooked) else []
