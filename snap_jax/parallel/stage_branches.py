"""Turns: branches that the dies of a pipeline take apart from each other, each named so that traffic is counted right.

Law: they are `lax.cond` and `lax.switch`; all that is added are names.

Collectives in them are for axes along which all devices are on the same die.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import lax
from jaxtyping import Array, Bool, Int, PyTree

from snap_jax.traffic import branch_scopes


def while_busy(
    busy: Bool[Array, ""],
    work: Callable[..., PyTree],
    idle: Callable[..., PyTree],
    *operands: Any,
    sizes: Sequence[int],
) -> PyTree:
    """`lax.cond`: a die works while it has a microbatch.

    Args:
      busy: whether it does at this tick.
      work: operands -> a pytree.
      idle: the same for a die without.
      operands: pytrees.
      sizes: how many microbatches there are, and how many dies.
    """
    with jax.named_scope(branch_scopes.SWITCH):
        return lax.cond(busy, _named(branch_scopes.busy(*sizes), work), idle, *operands)


def each_its_own(die: Int[Array, ""], works: Sequence[Callable[..., PyTree]], *operands: Any) -> PyTree:
    """`lax.switch`: each die has a branch to itself; inside the `work` of `while_busy`."""
    with jax.named_scope(branch_scopes.SWITCH):
        return lax.switch(die, [_named(branch_scopes.alone(len(works)), work) for work in works], *operands)


def _named(scope: str, function: Callable[..., PyTree]) -> Callable[..., PyTree]:
    def named(*operands: Any) -> PyTree:
        with jax.named_scope(scope):
            return function(*operands)

    return named
