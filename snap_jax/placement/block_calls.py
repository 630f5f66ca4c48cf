"""Calls of the blocks of a model: watched, replaced by what has arrived from elsewhere, and left early.

A program that calls a model is run as it is, up to a call of a block: calls of earlier stages return what is given, and
after the last call of a stage the program is left. So a stage computes what the program does between two calls.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from flax import nnx

from snap_jax.errors import UsageError
from snap_jax.placement.hooks import Hook, add_hook, remove_hooks
from snap_jax.placement.module_paths import modules_of

Program = Callable[[Any, Any], Any]
"""A model and a microbatch -> a loss, or a loss and anything else."""


class _StageDoneError(Exception):
    """The calls of a stage are done."""


@dataclasses.dataclass(eq=False)
class Calls:
    """The calls of blocks in one run of a program.

    Attributes:
      given: what the first calls return, instead of being made.
      end: after how many calls the program is left; None for at its own end.
      paths: of the blocks called so far.
      outputs: what they returned.
      modules: of the model that is run, by path.

    Raises:
      UsageError: for a block that is called inside a transformation of JAX.
    """

    given: Sequence[Any] = ()
    end: int | None = None
    paths: list[str] = dataclasses.field(default_factory=list)
    outputs: list[Any] = dataclasses.field(default_factory=list)
    modules: dict[str, nnx.Module] = dataclasses.field(default_factory=dict)

    def make(self, path: str, call: Callable[[], Any]) -> Any:
        """Return what a block returns, or what is given instead of it."""
        place = len(self.outputs)
        output = self.given[place] if place < len(self.given) else call()
        self.paths.append(path)
        self.outputs.append(output)
        if len(self.outputs) == self.end:
            raise _StageDoneError
        return output

    def run(self, program: Program, model: nnx.Module, microbatch: Any, blocks: Sequence[str]) -> Any:
        """Return what the program returns, None if it was left; the state of the model changes as it does there."""
        self.modules.update(modules_of(model))
        for path in blocks:
            add_hook(self.modules[path], _Watch(path, self))
        try:
            result = program(model, microbatch)
        except _StageDoneError:
            result = None
        except jax.errors.UnexpectedTracerError as error:
            raise _inside_a_transformation(self.paths[-1]) from error
        for path in blocks:
            remove_hooks(self.modules[path], _Watch)
        return result


def _inside_a_transformation(path: str) -> UsageError:
    return UsageError(
        f"split_stages: {path} is called inside a transformation such as nnx.jit, nnx.remat or nnx.scan: "
        "cut after the module whose call holds the transformation, and name it in at= or blocks="
    )


class _Watch(Hook):
    """Passes the calls of a block on."""

    def __init__(self, path: str, calls: Calls):
        self.watched = nnx.static((path, calls))

    def around(self, call, module, *args, **kwargs):
        path, calls = self.watched
        if module is not calls.modules[path]:
            raise _inside_a_transformation(path)
        return calls.make(path, lambda: call(module, *args, **kwargs))


def siblings(paths: Sequence[str], modules: Mapping[str, nnx.Module]) -> list[str]:
    """Return these paths and those of the other modules in the same lists.

    >>> model = nnx.Dict(layers=nnx.List([nnx.Dropout(0.1), nnx.Dropout(0.1)]), norm=nnx.Dropout(0.1))
    >>> siblings(["layers.0"], modules_of(model))
    ['layers.0', 'layers.1']
    """
    lists = {path.rpartition(".")[0] for path in paths if path.rpartition(".")[2].isdigit()}
    return [p for p in modules if p in paths or (p.rpartition(".")[0] in lists and p.rpartition(".")[2].isdigit())]


def longest_list(modules: Mapping[str, nnx.Module]) -> list[str]:
    """Return the paths of the modules in the longest list of a model; none if it has no list."""
    lists: dict[str, list[str]] = {}
    for path in modules:
        parent, _, name = path.rpartition(".")
        if name.isdigit():
            lists.setdefault(parent, []).append(path)
    return max(lists.values(), key=len, default=[])
