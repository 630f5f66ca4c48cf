"""A sequential model that somebody else wrote becomes the stages of a pipeline.

Invariant: with `codec=None` loss and gradient are those of the model on one device, averaged over microbatches; with a
codec they are those of the model with boundaries that quantize, which `PlacedStages.join` returns.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec
from jaxtyping import PyTree

from snap_jax.boundary.boundary import Boundary
from snap_jax.boundary.transforms import TransformMaker
from snap_jax.codecs.codec import Codec
from snap_jax.codecs.link_spec import as_codec
from snap_jax.errors import UsageError
from snap_jax.parallel.mesh import STAGE
from snap_jax.placement.block_calls import Program, longest_list, siblings
from snap_jax.placement.cut_boundaries import CutBoundary, take_boundary_apart
from snap_jax.placement.hooks import hooks_of, remove_hooks
from snap_jax.placement.module_paths import matching, modules_of
from snap_jax.placement.place import splits_of
from snap_jax.placement.placed_stages import PlacedStages
from snap_jax.placement.placed_work import Structure
from snap_jax.placement.roles import BoundaryAfter
from snap_jax.placement.stage_costs import block_costs, even_cuts
from snap_jax.placement.stage_plan import Key, StagePlan, make_plan, record
from snap_jax.placement.stage_rows import stack


def split_stages(
    model: nnx.Module,
    program: Program,
    microbatch: PyTree,
    *,
    at: Sequence[str] | None = None,
    stages: int | None = None,
    blocks: str | None = None,
    codec: Codec | str | None = None,
    grad_codec: Codec | str | None = None,
    transform: TransformMaker | None = None,
    axis: str = STAGE,
) -> PlacedStages:
    """Divide a model into the stages of a pipeline.

    The program is traced, not run. Each stage computes what the program does between two cuts, whatever the model is
    made of. What crosses a cut is what the program reads after it of what blocks before it have returned. What stands
    in front of the first block, such as masks and positions, is computed on every stage that reads it. Parameters live
    on the stage that reads them; of those that several read, such as a tied embedding, the gradient is summed once.

    Args:
      model: any NNX model whose blocks are called one after the other; it is not changed.
      program: `(model, microbatch) -> loss`, or `-> (loss, aux)`: the loss of your own training loop.
      microbatch: the arrays of one microbatch on one device, or their shapes; the first axis is that of the rows.
      at: paths of the modules after whose calls the model is cut, e.g. `["layers.3", "layers.7"]`.
      stages: how many, instead of `at`: of the blocks so that the multiply-accumulates of the costliest are least.
        With neither, the model is cut at the boundaries that `place` has put into it.
      blocks: paths of the blocks for `stages`, e.g. `"layers.*"`; without, the modules of the longest list.
      codec: how what a block has returned crosses the cut after it; None for floats. Arrays that earlier blocks have
        returned, numbers and integers cross as they are.
      grad_codec: how cotangents go back.
      transform: what is learned around the codec.
      axis: mesh axis of the stages.

    Raises:
      UsageError: for a path that does not exist, for a module that is called never or twice, and where nothing crosses.

    >>> model = nnx.Sequential(*[nnx.Linear(4, 4, rngs=nnx.Rngs(i)) for i in range(4)])
    >>> loss = lambda model, x: jnp.mean(model(x) ** 2)
    >>> print(split_stages(model, loss, jnp.ones((2, 4)), stages=2, codec="count:3"))
    stage  blocks                 parameters  crosses to the next stage
    0      layers.0 ... layers.1  44          float32[2, 4] coded
    1      layers.2 ... layers.3  40          -
    shared by stages: 0 parameters
    """
    core: Any = nnx.clone(model)
    modules = modules_of(core)
    paths = _cuts(core, program, microbatch, at, stages, blocks)
    placed = {path: remove_hooks(modules[path], BoundaryAfter) for path in paths}
    watched = siblings(paths, modules)
    calls, _ = record(core, program, microbatch, watched)
    ends = [_end(path, calls.paths) for path in paths]
    order = sorted(range(len(paths)), key=lambda i: ends[i])
    plan = make_plan(core, program, microbatch, watched, [*(ends[i] for i in order), len(calls.paths)])
    make = _BoundaryMaker(as_codec(codec), as_codec(grad_codec), transform)
    boundaries = [make.at_cut(plan, cut, placed[paths[i]]) for cut, i in enumerate(order)]
    rows = len(jax.tree.leaves(microbatch)[0])
    return _assembled(core, program, plan, boundaries, axis, rows)


def _cuts(
    core: nnx.Module,
    program: Program,
    microbatch: PyTree,
    at: Sequence[str] | None,
    stages: int | None,
    blocks: str | None,
) -> list[str]:
    modules = modules_of(core)
    if at is not None:
        return [path for one in at for path in matching(one, modules, where="split_stages: at")]
    if stages is not None:
        found = matching(blocks, modules, where="split_stages: blocks") if blocks else longest_list(modules)
        costs = block_costs(core, program, microbatch, found)
        return [list(costs)[count - 1] for count in even_cuts(list(costs.values()), stages)]
    found = [path for path, m in modules.items() if any(isinstance(h, BoundaryAfter) for h in hooks_of(m))]
    if not found:
        raise UsageError("split_stages: where to cut? give at=[paths of blocks] or stages=, or place boundaries first")
    return found


def _end(path: str, called: Sequence[str]) -> int:
    if called.count(path) != 1:
        raise UsageError(
            f"split_stages: {path} is called {called.count(path)} times by the program; a cut needs a module that is "
            f"called once; called are {', '.join(dict.fromkeys(called)) or 'none of its list'}"
        )
    return called.index(path) + 1


class _BoundaryMaker:
    """Makes the boundaries at a cut, or takes those that were placed there."""

    def __init__(self, codec: Codec | None, grad_codec: Codec | None, transform: TransformMaker | None):
        self.codec, self.grad_codec, self.transform = codec, grad_codec, transform

    def at_cut(self, plan: StagePlan, cut: int, placed: Sequence[Any]) -> dict[Key, Boundary]:
        message, call = plan.messages[cut], plan.ends[cut] - 1
        if not message:
            raise UsageError(f"split_stages: nothing crosses the cut after {plan.paths[call]}: cut elsewhere")
        found = {(call, leaf): b for hook in placed for leaf, b in zip(hook.leaves, hook.crossing, strict=True)}
        if found or (self.codec is None and self.grad_codec is None and self.transform is None):
            return {key: boundary for key, boundary in found.items() if key in message}
        floats = [
            key
            for key in message
            if key[0] == call and plan.shape(key).ndim and jnp.issubdtype(plan.shape(key).dtype, jnp.floating)
        ]
        return {
            key: Boundary(self.codec, plan.shape(key).shape[-1], grad_codec=self.grad_codec, transform=self.transform)
            for key in floats
        }


def _assembled(
    core: nnx.Module,
    program: Program,
    plan: StagePlan,
    boundaries: Sequence[Mapping[Key, Boundary]],
    axis: str,
    rows: int,
) -> PlacedStages:
    graph, params, state = nnx.split(core, nnx.Param, ...)
    divided_by = splits_of(core)
    flat, flat_state = dict(nnx.to_flat_state(params)), dict(nnx.to_flat_state(state))
    names, state_names = {_name(path): path for path in flat}, {_name(path): path for path in flat_state}
    count = len(plan.ends)
    owned: list[dict[str, Any]] = [{} for _ in range(count)]
    kept: list[dict[str, Any]] = [{} for _ in range(count)]
    shared = {}
    for i, (name, path) in enumerate(names.items()):
        readers = [s for s in range(count) if i in plan.reads[s]]
        (owned[readers[0]] if len(readers) == 1 else shared)[name] = flat[path]
    for i, (name, path) in enumerate(state_names.items()):
        for s in [s for s in range(count) if i in plan.state_reads[s]] or [0]:
            kept[s][name] = flat_state[path]
    bare: list[dict[Key, CutBoundary]] = []
    for cut, coded in enumerate(boundaries):
        bare.append({})
        for key, boundary in coded.items():
            bare[cut][key], variables = take_boundary_apart(cut, key, boundary)
            for stage, name, variable in variables:
                (owned if isinstance(variable, nnx.Param) else kept)[stage][name] = variable
    specs = {name: _spec(*divided_by(path)) for name, path in {**names, **state_names}.items()}
    specs = {name: specs.get(name, PartitionSpec()) for each in (*owned, *kept, shared) for name in each}
    own, own_rows = stack(owned, specs, axis)
    own_state, state_rows = stack(kept, specs, axis)
    structure = Structure(
        graph=graph,
        program=program,
        plan=plan,
        boundaries=tuple(bare),
        params=names,
        state=state_names,
        param_shapes={name: _shape(flat[path]) for name, path in names.items()},
        state_shapes={name: _shape(flat_state[path]) for name, path in state_names.items()},
        own=own,
        own_state=own_state,
        shared_specs={name: specs[name] for name in shared},
        axis_name=axis,
    )
    return PlacedStages(structure, {"own": own_rows, "shared": shared}, state_rows, rows)


def _name(path: tuple) -> str:
    return ".".join(map(str, path))


def _spec(dimension: int, axis: str | None) -> PartitionSpec:
    return PartitionSpec() if axis is None else PartitionSpec(*[None] * dimension, axis)


def _shape(variable: Any) -> Any:
    leaf = jax.tree.leaves(variable)[0]
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return leaf if is_key else jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
