"""Which values of a program may differ between the devices of a `shard_map`, and where that decides on a collective.

Values differ over an axis when they come from `axis_index`, from a divided input, or from a collective that gives each
device its own part. What all devices received alike (`psum`, `pmax`, `all_gather`) does not differ over its axes. This
is read from the equations, not from JAX's types. So it holds with `check_vma=False` too, and knows that the result of
an `all_gather` is the same everywhere.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from jax.extend import core

from snap_jax._compat import scan_operands
from snap_jax.traffic.name_stack import direction, scope
from snap_jax.traffic.primitives import OPS, as_tuple
from snap_jax.traffic.transfer import Direction
from snap_jax.traffic.trip_count import open_jaxpr

Axes = frozenset[str]
_NONE: Axes = frozenset()
# Collectives whose result is the same on all devices of a group.
_SHARED = {"psum", "pmax", "pmin", "all_gather", "pbroadcast"}
_CALLBACKS = {"io_callback", "pure_callback"}


@dataclasses.dataclass(frozen=True)
class Divergence:
    """A collective that some devices of its group may reach and others not.

    Attributes:
      op: `jax.lax` name of the collective.
      axes: mesh axes it runs over.
      path: its `jax.named_scope` path.
      direction: pass it belongs to.
      control: "cond" (or `switch`), or "while".
      control_path: scope of that.
      over: those of `axes` over which the predicate differs.
    """

    op: str
    axes: tuple[str, ...]
    path: str
    direction: Direction
    control: str
    control_path: str
    over: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Control:
    """A branch or loop around an equation: its primitive, its scope, and the axes its predicate differs over."""

    kind: str
    path: str
    over: Axes


@dataclasses.dataclass(frozen=True)
class _Walk:
    """Name stack, enclosing control flow and manual axes of a place, and what was found so far, one per equation."""

    found: dict[tuple[int, str], Divergence]
    stack: str = ""
    controls: tuple[_Control, ...] = ()
    manual: Axes = _NONE

    def run(self, jaxpr: Any, inputs: Sequence[Axes]) -> list[Axes]:
        """Return the axes over which each result of a jaxpr differs."""
        jaxpr = open_jaxpr(jaxpr)
        known: dict[Any, Axes] = dict(zip(jaxpr.invars, inputs, strict=True))

        def read(variable: Any) -> Axes:
            return _NONE if isinstance(variable, core.Literal) else known.get(variable, _NONE)

        for eqn in jaxpr.eqns:
            here = dataclasses.replace(self, stack=f"{self.stack}/{eqn.source_info.name_stack}".strip("/"))
            known.update(zip(eqn.outvars, here.visit(eqn, list(map(read, eqn.invars))), strict=True))
        return list(map(read, jaxpr.outvars))

    def visit(self, eqn: core.JaxprEqn, inputs: list[Axes]) -> list[Axes]:
        name, every = eqn.primitive.name, _NONE.union(*inputs)
        if name.removesuffix("_start") in OPS:
            every = self.collective(eqn, every)
        match name:
            case "axis_index":
                every = frozenset(as_tuple(eqn.params["axis_name"]))
            case "shard_map":
                return self.mapped(eqn, inputs)
            case "cond":
                return self.branches(eqn, inputs)
            case "while":
                return self.loop(eqn, inputs)
            case "scan":
                return self.scan(eqn, inputs)
        if name in _CALLBACKS:
            every |= self.manual
        for held in _held(eqn):
            if len(held.invars) == len(inputs) and len(held.outvars) == len(eqn.outvars):
                return self.run(held, inputs)
            self.run(held, [every] * len(held.invars))
        return [every] * len(eqn.outvars)

    def collective(self, eqn: core.JaxprEqn, every: Axes) -> Axes:
        """Record a collective that devices may miss; return the axes over which its result differs."""
        op = OPS[eqn.primitive.name.removesuffix("_start")]
        named = as_tuple(eqn.params["axes"] if "axes" in eqn.params else eqn.params["axis_name"])
        axes = tuple(a for a in named if not isinstance(a, int))
        for control in self.controls:
            if over := tuple(a for a in axes if a in control.over):
                self.found[id(eqn), control.path] = Divergence(
                    op, axes, scope(self.stack), direction(self.stack), control.kind, control.path, over
                )
        whole = op in _SHARED and not eqn.params.get("axis_index_groups")
        return every.difference(axes) if whole else every.union(axes)

    def under(self, kind: str, over: Axes) -> "_Walk":
        return dataclasses.replace(self, controls=(*self.controls, _Control(kind, scope(self.stack), over)))

    def mapped(self, eqn: core.JaxprEqn, inputs: list[Axes]) -> list[Axes]:
        manual = frozenset(eqn.params["newly_manual_axes"])
        specs = [_NONE.union(*map(as_tuple, spec)) for spec in eqn.params["in_specs"]]
        inner = dataclasses.replace(self, manual=self.manual | manual)
        results = inner.run(eqn.params["jaxpr"], [a | (spec & manual) for a, spec in zip(inputs, specs, strict=True)])
        return [axes & self.manual for axes in results]

    def branches(self, eqn: core.JaxprEqn, inputs: list[Axes]) -> list[Axes]:
        predicate, *operands = inputs
        inner = self.under("cond", predicate)
        results = [inner.run(branch, operands) for branch in eqn.params["branches"]]
        return [predicate.union(*each) for each in zip(*results, strict=True)]

    def loop(self, eqn: core.JaxprEqn, inputs: list[Axes]) -> list[Axes]:
        first, second = eqn.params["cond_nconsts"], eqn.params["cond_nconsts"] + eqn.params["body_nconsts"]
        condition, body, carry = inputs[:first], inputs[first:second], inputs[second:]
        while True:
            [predicate] = self.run(eqn.params["cond_jaxpr"], condition + carry)
            inner = self.under("while", predicate)
            inner.run(eqn.params["cond_jaxpr"], condition + carry)
            after = inner.run(eqn.params["body_jaxpr"], body + carry)
            grown = [a | b | predicate for a, b in zip(carry, after, strict=True)]
            if grown == carry:
                return carry
            carry = grown

    def scan(self, eqn: core.JaxprEqn, inputs: list[Axes]) -> list[Axes]:
        first, carried = scan_operands(eqn.params)
        second = first + carried
        carry = inputs[first:second]
        while True:
            results = self.run(eqn.params["jaxpr"], inputs[:first] + carry + inputs[second:])
            grown = [a | b for a, b in zip(carry, results, strict=False)]
            if grown == carry:
                return results
            carry = grown


def divergences(jaxpr: Any) -> list[Divergence]:
    """Return the collectives that some devices of a group may reach and others not."""
    walk = _Walk({})
    walk.run(jaxpr, [_NONE] * len(open_jaxpr(jaxpr).invars))
    return list(walk.found.values())


def _held(eqn: core.JaxprEqn) -> Iterator[core.Jaxpr]:
    for value in eqn.params.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            if isinstance(one, core.Jaxpr | core.ClosedJaxpr):
                yield open_jaxpr(one)
