"""What each stage of a program reads and changes, and what crosses between stages: read off the traced program.

Invariant: a stage gets all that it reads. What an earlier block has returned crosses a cut if and only if the program
reads it after the cut; what stands before the first block is computed on each stage that reads it.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.extend import core
from jaxtyping import PyTree

from snap_jax.errors import UsageError
from snap_jax.placement.block_calls import Calls, Program

Key = tuple[int, int]
"""The number of a call, and the place of an array in `jax.tree.leaves` of what it returned."""


@dataclasses.dataclass(frozen=True)
class StagePlan:
    """What the stages of a program need.

    Attributes:
      blocks: paths of the modules whose calls are counted.
      ends: after how many calls each stage is left; the last entry is the number of all calls.
      outputs: the shapes of what each call returns.
      result: the shape of what the program returns.
      messages: after each stage but the last, what crosses.
      reads: for each stage, the places of the parameters that it reads.
      state_reads: for each stage, the places of other variables that it reads or changes.
      changes: for each stage, those that it changes.
    """

    blocks: tuple[str, ...]
    paths: tuple[str, ...]
    ends: tuple[int, ...]
    outputs: tuple[Any, ...]
    result: Any
    messages: tuple[tuple[Key, ...], ...]
    reads: tuple[frozenset[int], ...]
    state_reads: tuple[frozenset[int], ...]
    changes: tuple[frozenset[int], ...]

    def first(self, stage: int) -> int:
        """Return the number of the first call of a stage."""
        return self.ends[stage - 1] if stage else 0

    def shape(self, key: Key) -> jax.ShapeDtypeStruct:
        """Return the shape of one array of what a call returns."""
        return jax.tree.leaves(self.outputs[key[0]])[key[1]]

    def given(self, stage: int, arrived: Mapping[Key, Any]) -> list[Any]:
        """Return what calls before a stage return on it: what has arrived, and zeros that nobody reads."""
        made = []
        for call in range(self.first(stage)):
            leaves, structure = jax.tree.flatten(self.outputs[call])
            found = [
                arrived[call, i] if (call, i) in arrived else jnp.zeros(leaf.shape, leaf.dtype)
                for i, leaf in enumerate(leaves)
            ]
            made.append(jax.tree.unflatten(structure, found))
        return made


@dataclasses.dataclass(frozen=True)
class _Traced:
    """One stage, traced with all that earlier blocks have returned as inputs."""

    jaxpr: Any
    made: Mapping[Key, int]  # what its own blocks return -> place among the outputs
    state: range  # places of the variables after it, among the outputs
    result: range
    sizes: tuple[int, int, int]  # of parameters, of variables, of a microbatch
    earlier: Sequence[Key]

    def changed(self) -> frozenset[int]:
        inputs = self.jaxpr.invars[self.sizes[0] :]
        return frozenset(i for i, out in enumerate(self.state) if self.jaxpr.outvars[out] is not inputs[i])

    def reads(self, outputs: Iterable[int]) -> tuple[frozenset[int], frozenset[int], frozenset[Key]]:
        found = _read(self.jaxpr, outputs)
        params, state, batch = self.sizes
        others = params + state + batch
        return (
            frozenset(i for i in found if i < params),
            frozenset(i - params for i in found if params <= i < params + state),
            frozenset(self.earlier[i - others] for i in found if i >= others),
        )


def _read(jaxpr: Any, outputs: Iterable[int]) -> set[int]:
    """The places of the inputs on which some outputs depend."""
    variables = [jaxpr.outvars[i] for i in outputs]
    needed = {v for v in variables if not isinstance(v, core.Literal)}
    for eqn in reversed(jaxpr.eqns):
        if not needed.isdisjoint(eqn.outvars):
            needed |= {v for v in eqn.invars if not isinstance(v, core.Literal)}
    return {i for i, v in enumerate(jaxpr.invars) if v in needed}


def shapes_of(tree: PyTree) -> PyTree:
    """Return the shapes and types of arrays and numbers."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(jnp.shape(a), jnp.result_type(a)), tree)


def record(model: nnx.Module, program: Program, microbatch: PyTree, blocks: Sequence[str]) -> tuple[Calls, Any]:
    """Return the calls of blocks that a program makes, with the shapes of what they return, and that of its result."""
    graph, state = nnx.split(model)
    calls, shapes = Calls(), []

    def run(state: PyTree, microbatch: PyTree) -> Any:
        result = calls.run(program, nnx.merge(graph, state), microbatch, blocks)
        shapes.extend(map(shapes_of, calls.outputs))
        return result

    result = jax.eval_shape(run, state, microbatch)
    loss = jax.tree.leaves(result)[:1]
    if not loss or loss[0].shape:
        shape = loss[0].shape if loss else "none"
        raise UsageError(f"split_stages: the loss has shape {shape}: return one number, such as its mean")
    return Calls(paths=calls.paths, outputs=shapes), result


def make_plan(
    model: nnx.Module, program: Program, microbatch: PyTree, blocks: Sequence[str], ends: Sequence[int]
) -> StagePlan:
    """Return what the stages of a program need, where stage i ends after `ends[i]` calls of blocks."""
    recorded, result = record(model, program, microbatch, blocks)
    unread = StagePlan(
        tuple(blocks), tuple(recorded.paths), tuple(ends), tuple(recorded.outputs), result, (), (), (), ()
    )
    stages = [_trace(unread, model, program, microbatch, stage) for stage in range(len(ends))]
    changes = [traced.changed() for traced in stages]
    messages: list[tuple[Key, ...]] = [()]
    reads, state_reads = [], []
    for stage, traced in reversed(list(enumerate(stages))):
        first_change = frozenset(i for i in changes[stage] if not any(i in changes[s] for s in range(stage)))
        own = [traced.made[key] for key in messages[0] if key in traced.made]
        outputs = [*own, *traced.result, *(traced.state[i] for i in first_change)]
        params, state, earlier = traced.reads(outputs)
        passed = {key for key in messages[0] if key not in traced.made}
        messages.insert(0, tuple(sorted(earlier | passed)))
        reads.insert(0, params)
        state_reads.insert(0, state | first_change)
    changed = [changes[s] & state_reads[s] for s in range(len(ends))]
    return dataclasses.replace(
        unread,
        messages=tuple(messages[1:-1]),
        reads=tuple(reads),
        state_reads=tuple(state_reads),
        changes=tuple(changed),
    )


def _trace(plan: StagePlan, model: nnx.Module, program: Program, microbatch: PyTree, stage: int) -> _Traced:
    graph, params, state = nnx.split(model, nnx.Param, ...)
    last, first = stage == len(plan.ends) - 1, plan.first(stage)
    earlier = [(call, i) for call in range(first) for i in range(len(jax.tree.leaves(plan.outputs[call])))]
    keys = [
        (call, i) for call in range(first, plan.ends[stage]) for i in range(len(jax.tree.leaves(plan.outputs[call])))
    ]

    def run(params: PyTree, state: PyTree, microbatch: PyTree, arrived: list[Any]) -> tuple[list, list, Any]:
        merged = nnx.merge(graph, params, state)
        calls = Calls(plan.given(stage, dict(zip(earlier, arrived, strict=True))), None if last else plan.ends[stage])
        result = calls.run(program, merged, microbatch, plan.blocks)
        made = jax.tree.leaves(calls.outputs[first:])
        return made, jax.tree.leaves(nnx.state(merged, nnx.Not(nnx.Param))), result

    closed = jax.make_jaxpr(run)(params, state, microbatch, [plan.shape(key) for key in earlier])
    sizes = (len(jax.tree.leaves(params)), len(jax.tree.leaves(state)), len(jax.tree.leaves(microbatch)))
    results = range(len(keys) + sizes[1], len(closed.jaxpr.outvars))
    made = {key: i for i, key in enumerate(keys)}
    return _Traced(closed.jaxpr, made, range(len(keys), len(keys) + sizes[1]), results, sizes, earlier)
