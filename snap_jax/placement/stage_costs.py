"""Where to cut a model so that its stages have equal work."""

import itertools
from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx

from snap_jax.errors import UsageError
from snap_jax.placement.block_calls import Program
from snap_jax.placement.hooks import Hook, add_hook
from snap_jax.placement.module_paths import modules_of
from snap_jax.traffic.count_operations import count


class _Counter(Hook):
    """Notes the multiply-accumulates of the calls of a block."""

    def __init__(self, path: str, found: dict[str, int]):
        self.noted = nnx.static((path, found))

    def around(self, call, module, *args, **kwargs):
        path, found = self.noted
        graph, state = nnx.split(module)
        arrays = [leaf for leaf in jax.tree.leaves((args, kwargs)) if isinstance(leaf, jax.Array)]

        def alone(state: Any, arrays: Any) -> Any:
            leaves, structure = jax.tree.flatten((args, kwargs))
            rest = iter(arrays)
            filled = [next(rest) if isinstance(leaf, jax.Array) else leaf for leaf in leaves]
            inner_args, inner_kwargs = jax.tree.unflatten(structure, filled)
            return jax.tree.leaves(call(nnx.merge(graph, state), *inner_args, **inner_kwargs))

        found[path] = sum(int(c.times) for c in count(alone)(state, arrays).counts if c.kind == "mac")
        return call(module, *args, **kwargs)


def block_costs(model: nnx.Module, program: Program, microbatch: Any, blocks: Sequence[str]) -> dict[str, int]:
    """Return the multiply-accumulates of one call of each block, in the order of their calls."""
    watched, found = nnx.clone(model), {}
    modules = modules_of(watched)
    for path in blocks:
        add_hook(modules[path], _Counter(path, found))
    graph, state = nnx.split(watched)
    jax.eval_shape(lambda state, batch: program(nnx.merge(graph, state), batch), state, microbatch)
    return found


def even_cuts(costs: Sequence[int], stages: int) -> list[int]:
    """Return how many blocks are in front of each cut, so that the costliest stage costs least.

    Raises:
      UsageError: for more stages than blocks, and for fewer than one.

    >>> even_cuts([1, 1, 1, 5], 2)
    [3]
    """
    if not 1 <= stages <= len(costs):
        raise UsageError(f"split_stages: stages={stages} of {len(costs)} blocks: use 1 to {len(costs)}")
    sums = [0, *itertools.accumulate(costs)]
    best: dict[tuple[int, int], tuple[int, list[int]]] = {(0, 0): (0, [])}
    for stage, end in itertools.product(range(1, stages + 1), range(1, len(costs) + 1)):
        options = [
            (max(best[stage - 1, begin][0], sums[end] - sums[begin]), [*best[stage - 1, begin][1], end])
            for begin in range(end)
            if (stage - 1, begin) in best
        ]
        if options:
            best[stage, end] = min(options)
    return best[stages, len(costs)][1][:-1]
