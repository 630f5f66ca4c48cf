"""What a stage of anybody's model computes and sends, for the schedules of `snap_jax.parallel`.

A message is a list with one entry per group of cuts that are alike; an entry is one array per key of the plan.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.sharding import PartitionSpec
from jaxtyping import Array, PyTree

from snap_jax import collectives
from snap_jax._compat import as_varying
from snap_jax.boundary.boundary import Boundary
from snap_jax.parallel.schedule import scope_of, switch, zeros
from snap_jax.parallel.stage_work import Hops, StageWork
from snap_jax.placement.block_calls import Calls, Program
from snap_jax.placement.cut_boundaries import CutBoundary, grouped, named_by
from snap_jax.placement.stage_plan import Key, StagePlan
from snap_jax.placement.stage_rows import Name, StageRows


@dataclasses.dataclass(frozen=True, eq=False)
class Structure:
    """All of a model in stages that is not an array.

    Attributes:
      graph: of the model without the boundaries at its cuts.
      program: a model and a microbatch -> the loss.
      plan: what each stage reads.
      boundaries: for each cut, those of what is coded; other arrays of its message are sent as they are.
      params: names of the parameters, in the order of the leaves of their state; each with its path.
      state: those of other variables.
      param_shapes: of each parameter.
      state_shapes: of each other variable; a key of random numbers stands for itself.
      own: where stages have their parameters.
      own_state: where they have their other variables.
      shared_specs: how each parameter that several stages read lies on the mesh.
      axis_name: mesh axis of the stages.
    """

    graph: nnx.GraphDef
    program: Program
    plan: StagePlan
    boundaries: tuple[Mapping[Key, CutBoundary], ...]
    params: Mapping[Name, tuple]
    state: Mapping[Name, tuple]
    param_shapes: Mapping[Name, jax.ShapeDtypeStruct]
    state_shapes: Mapping[Name, Any]
    own: StageRows
    own_state: StageRows
    shared_specs: Mapping[Name, PartitionSpec]
    axis_name: str

    @property
    def groups(self) -> list[list[int]]:
        """The cuts that are alike, whose messages one collective sends."""

        def kind(cut: int) -> Any:
            message, coded = self.plan.messages[cut], self.boundaries[cut]
            shapes = [self.plan.shape(key) for key in message]
            return tuple(
                (s.shape, s.dtype, (coded[k].graph, coded[k].shapes) if k in coded else None)
                for k, s in zip(message, shapes, strict=True)
            )

        return grouped([kind(cut) for cut in range(len(self.plan.messages))])


@dataclasses.dataclass(frozen=True, eq=False)
class PlacedWork(StageWork):
    """The work of one stage; parameters are `{"own": rows, "shared": arrays}`.

    Attributes:
      structure: of the model.
      state: the rows of other variables on this device.
      merge_axes: mesh axes of replicas, whose changes of variables are averaged.
    """

    structure: Structure
    state: Mapping[Name, Any]
    merge_axes: tuple[str, ...] = ()

    @property
    def axis_name(self):  # pyright: ignore[reportIncompatibleVariableOverride]
        """The mesh axis of the pipeline."""
        return self.structure.axis_name

    @property
    def stages(self) -> int:
        """How many there are."""
        return len(self.structure.plan.ends)

    def message(self, params, microbatch):
        """What leaves each group of cuts; each stage is traced with what arrives from the one before."""
        shapes: list[Any] = [None] * len(self.structure.groups)
        for stage in range(self.stages - 1):
            group = self._group(stage)
            arriving = [() if s is None else s for s in shapes]
            found = jax.eval_shape(lambda a, s=stage: self._stage(s, params, microbatch, a)[0], arriving)
            shapes[group] = found if shapes[group] is None else shapes[group]
        return shapes

    def compute(self, params, stage, microbatch, arriving):
        """A switch with one branch per stage."""
        shapes = jax.eval_shape(lambda: self._stage(self.stages - 1, params, microbatch, arriving)[1])

        def work(s: int) -> Callable[[], tuple[list, Array, PyTree]]:
            return lambda: self._one(s, params, microbatch, arriving, shapes)

        if self.stages == 1:
            return work(0)()
        return switch(stage, {scope_of(s): work(s) for s in range(self.stages)})

    def _one(
        self, s: int, params: PyTree, microbatch: PyTree, arriving: list, shapes: Any
    ) -> tuple[list, Array, PyTree]:
        sent, end, state = self._stage(s, params, microbatch, arriving)
        message = [zeros(a) for a in arriving]
        if s < self.stages - 1:
            message[self._group(s)] = sent
        loss, aux = zeros(shapes) if end is None else end
        return message, loss, (aux, state)

    def _group(self, cut: int) -> int:
        return next(g for g, cuts in enumerate(self.structure.groups) if cut in cuts)

    def _stage(self, s: int, params: PyTree, microbatch: PyTree, arriving: list) -> tuple[list[Array], Any, PyTree]:
        """What leaves a stage, the end of the program on the last one, and the state after it."""
        it, plan, (batch, number) = self.structure, self.structure.plan, microbatch
        own, state = it.own.of_stage(s, params["own"]), it.own_state.of_stage(s, self.state)
        values = named_by(own | state)
        arrived = self._arrived(s, values, arriving) if s else {}
        model = nnx.merge(
            it.graph,
            _filled(it.params, it.param_shapes, own | params["shared"], s, number),
            _filled(it.state, it.state_shapes, state, s, number),
        )
        calls = Calls(plan.given(s, arrived), None if s == self.stages - 1 else plan.ends[s])
        result = calls.run(it.program, model, batch, plan.blocks)
        after = self._after(s, model)
        if s == self.stages - 1:
            loss, aux = result if isinstance(result, tuple) else (result, ())
            return [], self._varying((loss.astype(jnp.float32), aux)), after
        made = {(c, i): x for c, y in enumerate(calls.outputs) for i, x in enumerate(jax.tree.leaves(y))}
        coded = it.boundaries[s]
        sent = [coded[k].build(values).prepare(made[k]) if k in coded else made[k] for k in plan.messages[s]]
        return self._varying(sent), None, after

    def _arrived(self, s: int, values: Callable, arriving: list) -> dict[Key, Array]:
        plan, coded = self.structure.plan, self.structure.boundaries[s - 1]
        pairs = zip(plan.messages[s - 1], arriving[self._group(s - 1)], strict=True)
        return {k: coded[k].build(values).restore(x) if k in coded else x for k, x in pairs}

    def _after(self, s: int, model: nnx.Module) -> dict[Name, Array]:
        """The rows of variables as this stage leaves them, those without keys of random numbers."""
        it = self.structure
        leaves = jax.tree.leaves(nnx.state(model, nnx.Not(nnx.Param)))
        names = [name for i, name in enumerate(it.state) if i in it.plan.changes[s]]
        new = {name: leaves[i] for i, name in enumerate(it.state) if name in names}
        rows = {row: jax.tree.leaves(v)[0][0] for row, v in self.state.items() if row in self.changed_rows}
        rows |= {it.own_state.places[s][name]: self._merged(value) for name, value in new.items()}
        return self._varying({row: value for row, value in rows.items() if row in self.changed_rows})

    @property
    def changed_rows(self) -> set[Name]:
        """The rows of variables that some stage changes, without keys of random numbers."""
        it, names = self.structure, list(self.structure.state)
        rows = {it.own_state.places[s][names[i]] for s in range(self.stages) for i in it.plan.changes[s]}
        return {row for row in rows if not _is_key(jax.tree.leaves(self.state[row])[0])}

    def _merged(self, value: Array) -> Array:
        for axis in self.merge_axes:
            value = lax.pmean(value, axis) if jnp.issubdtype(value.dtype, jnp.floating) else lax.pmax(value, axis)
        return value

    def connect(self, params, hops):
        """The codec of each sender, with its thresholds."""
        pairs = [(g, [hop for hop in hops if hop[0] in cuts]) for g, cuts in enumerate(self.structure.groups)]
        return [
            [None if b is None else b.handshake(self.axis_name, own) for b in self._senders(g, params)]
            for g, own in pairs
        ]

    def send(self, params, links, sent, hops):
        """One collective per array of each group of cuts."""
        return self._moved(params, sent, hops, lambda b, x, own, link: self._sent(b, x, own, link), links), ()

    def decoded(self, params, sent):
        """`codec.quantize` of what is coded."""
        return [
            [
                x if b is None or b.codec is None else b.codec.quantize(x)
                for b, x in zip(self._senders(g, params), xs, strict=True)
            ]
            for g, xs in enumerate(sent)
        ]

    def send_back(self, params, cotangent, hops):
        """One collective per array, against the hops, coded by `grad_codec`."""

        def back(boundary: Boundary | None, x: Array, own: Hops, _: Any) -> Array:
            with jax.named_scope("transpose(boundary)"):
                codec = None if boundary is None else boundary.grad_codec
                return collectives.ppermute(x, self.axis_name, [(b, a) for a, b in own], codec=codec)

        return self._moved(params, cotangent, hops, back, None)

    def _sent(self, boundary: Boundary | None, x: Array, hops: Hops, link: Any) -> Array:
        if boundary is None:
            return lax.ppermute(x, self.axis_name, hops)
        return boundary.send(x, self.axis_name, hops, sender_codec=link)

    def _moved(self, params: PyTree, arrays: list, hops: Hops, move: Callable, links: Sequence | None) -> list:
        moved = []
        for g, xs in enumerate(arrays):
            own = [hop for hop in hops if hop[0] in self.structure.groups[g]]
            known = links[g] if links else [None] * len(xs)
            senders = self._senders(g, params)
            moved.append([move(b, x, own, k) for b, x, k in zip(senders, xs, known, strict=True)] if own else zeros(xs))
        return moved

    def _senders(self, group: int, params: PyTree) -> list[Boundary | None]:
        """The boundaries of a group of cuts as the stage of this device sends by them."""
        it, cuts, stage = self.structure, self.structure.groups[group], lax.axis_index(self.axis_name)
        own = [named_by(it.own.of_stage(c, params["own"]) | it.own_state.of_stage(c, self.state)) for c in cuts]
        which = jnp.asarray([cuts.index(s) if s in cuts else 0 for s in range(self.stages)], jnp.int32)[stage]

        def build(place: int) -> Boundary | None:
            alike = [it.boundaries[c].get(it.plan.messages[c][place]) for c in cuts]
            if alike[0] is None:
                return None
            split = [nnx.split(b.build(values)) for b, values in zip(alike, own, strict=True) if b is not None]
            states = [self._varying(state) for _, state in split]
            return nnx.merge(
                split[0][0],
                jax.tree.map(lambda *each: lax.select_n(which, *each), *states) if len(cuts) > 1 else states[0],
            )

        return [build(place) for place in range(len(it.plan.messages[cuts[0]]))]

    def _varying(self, tree: PyTree) -> PyTree:
        return jax.tree.map(lambda a: as_varying(jnp.asarray(a), (self.axis_name,)), tree)


def _filled(
    paths: Mapping[Name, tuple], shapes: Mapping[Name, Any], values: Mapping[Name, Any], stage: int, number: Array
) -> PyTree:
    """A state with these values, and zeros for variables that the stage does not read."""

    def value(name: Name) -> Any:
        if name not in values:
            shape = shapes[name]
            return shape if isinstance(shape, jax.Array) else jnp.zeros(shape.shape, shape.dtype)
        found = jax.tree.leaves(values[name])[0]
        return jax.random.fold_in(jax.random.fold_in(found, stage), number) if _is_key(found) else found

    return nnx.from_flat_state({path: value(name) for name, path in paths.items()})


def _is_key(array: Any) -> bool:
    return jnp.issubdtype(array.dtype, jax.dtypes.prng_key)
