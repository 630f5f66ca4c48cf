"""A model in stages: its parameters stage by stage, the pipeline as a function, and the model back again."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, PyTree

from snap_jax._compat import as_varying
from snap_jax.codecs.codec import Codec
from snap_jax.errors import UsageError
from snap_jax.parallel.gpipe import GPipe
from snap_jax.parallel.schedule import Remat, Schedule
from snap_jax.parallel.tensor_parallel import spread
from snap_jax.placement.hooks import add_hook
from snap_jax.placement.module_paths import modules_of
from snap_jax.placement.placed_work import PlacedWork, Structure
from snap_jax.placement.roles import BoundaryAfter


@dataclasses.dataclass(frozen=True, eq=False)
class PlacedStages:
    """What `split_stages` returns.

    Attributes:
      structure: all that is not an array.
      params: `{"own": ..., "shared": ...}`, trees of `nnx.Variable`s: what one stage reads, `[stage, ...]`, and what
        several read, such as a tied embedding, as it is in the model.
      state: rows `[stage, ...]` of the variables that are no parameters: statistics, counters, keys.
      rows: of a microbatch.
      shared_grad_codec: how gradients of what several stages share are summed; None for floats.
    """

    structure: Structure
    params: PyTree
    state: PyTree
    rows: int
    shared_grad_codec: Codec | None = None

    @property
    def stages(self) -> int:
        """How many there are."""
        return len(self.structure.plan.ends)

    def specs(self, tree: Mapping[str, Any]) -> PyTree:
        """Return how `params` or `state` lie on the mesh, as `PartitionSpec`s."""
        if "own" not in tree:
            return {row: jax.tree.map(lambda _, r=row: self.structure.own_state.specs[r], v) for row, v in tree.items()}
        own = {row: jax.tree.map(lambda _, r=row: self.structure.own.specs[r], v) for row, v in tree["own"].items()}
        shared = {
            name: jax.tree.map(lambda _, n=name: self.structure.shared_specs[n], v)
            for name, v in tree["shared"].items()
        }
        return {"own": own, "shared": shared}

    def value(
        self,
        mesh: Mesh,
        *,
        microbatches: int,
        schedule: type[Schedule] = GPipe,
        remat: Remat = None,
        batch_axis: str | None = None,
    ) -> Callable[[PyTree, PyTree, PyTree], tuple[Array, PyTree, PyTree]]:
        """Return the pipeline as a function `(params, state, batch) -> (loss, aux, state)`.

        The loss is the mean over microbatches of what the program returns on each. `aux` has one row per microbatch,
        and replica. Every microbatch starts from the variables before the step; afterwards those of floats are
        averaged over microbatches, and of integers, such as counters, the largest is taken. Keys of random numbers are
        folded with the stage and the microbatch.

        Args:
          mesh: with the axis of the stages.
          microbatches: into which the first axis of every array of a batch is divided.
          schedule: `GPipe` or `OneFOneB`.
          remat: what the backward pass computes again.
          batch_axis: mesh axis of replicas, each with its part of every microbatch; None for none.

        Raises:
          UsageError: if the mesh lacks an axis, or has another number of devices along it than there are stages; if
            the rows of a batch do not fit.
        """
        self._require(mesh, self.structure.axis_name, self.stages)
        replicas = 1 if batch_axis is None else self._require(mesh, batch_axis, None)
        plan = schedule(microbatches, self.stages, remat)
        axes = () if batch_axis is None else (batch_axis,)

        def local(params: PyTree, state: PyTree, batch: PyTree) -> tuple[Array, PyTree, PyTree]:
            return self._run(plan, axes, params, state, batch)

        def run(params: PyTree, state: PyTree, batch: PyTree) -> tuple[Array, PyTree, PyTree]:
            divided = jax.tree.map(lambda a: self._divided(a, microbatches, replicas), batch)
            mapped = jax.shard_map(
                local,
                mesh=mesh,
                in_specs=(self.specs(params), self.specs(state), PartitionSpec(None, batch_axis)),
                out_specs=(PartitionSpec(), PartitionSpec((self.structure.axis_name, *axes)), self.specs(state)),
            )
            loss, aux, after = mapped(params, state, divided)
            return loss, jax.tree.map(lambda a: _of_last(a, self.stages, replicas), aux), after

        return run

    def value_and_grad(
        self,
        mesh: Mesh,
        *,
        microbatches: int,
        schedule: type[Schedule] = GPipe,
        remat: Remat = None,
        batch_axis: str | None = None,
    ) -> Callable[[PyTree, PyTree, PyTree], tuple[tuple[Array, PyTree, PyTree], PyTree]]:
        """Return a function `(params, state, batch) -> ((loss, aux, state), gradient)`; see `value`."""
        value = self.value(mesh, microbatches=microbatches, schedule=schedule, remat=remat, batch_axis=batch_axis)

        def loss(params: PyTree, state: PyTree, batch: PyTree) -> tuple[Array, tuple[PyTree, PyTree]]:
            found, aux, after = value(params, state, batch)
            return found, (aux, after)

        def run(params: PyTree, state: PyTree, batch: PyTree) -> tuple[tuple[Array, PyTree, PyTree], PyTree]:
            (found, (aux, after)), gradient = jax.value_and_grad(loss, has_aux=True)(params, state, batch)
            return (found, aux, after), gradient

        return run

    def join(self, params: PyTree | None = None, state: PyTree | None = None) -> Any:
        """Return the model on one device, with its boundaries placed; `unplace` takes them away."""
        trained: Any = self.params if params is None else params
        after: Any = self.state if state is None else state
        it = self.structure
        own = {n: it.own.whole(s, n, trained["own"]) for s in range(self.stages) for n in it.own.places[s]}
        found = own | {name: jax.tree.leaves(v)[0] for name, v in trained["shared"].items()}
        variables = {name: it.own_state.whole(self._holder(name), name, after) for name in self._state_names()}
        whole = {path: found[name] for name, path in it.params.items()}
        rest = {path: variables[name] for name, path in it.state.items()}
        model = nnx.merge(it.graph, nnx.from_flat_state(whole), nnx.from_flat_state(rest))
        modules = modules_of(model)
        for cut, coded in enumerate(it.boundaries):
            if coded:
                crossing = [b.build(lambda _, name: (found | variables).get(name)) for b in coded.values()]
                hook = BoundaryAfter([key[1] for key in coded], crossing)
                add_hook(modules[it.plan.paths[it.plan.ends[cut] - 1]], hook)
        return model

    def __str__(self) -> str:
        plan, lines = self.structure.plan, [("stage", "blocks", "parameters", "crosses to the next stage")]
        for s in range(self.stages):
            names = plan.paths[plan.first(s) : plan.ends[s]]
            own = sum(
                jax.tree.leaves(self.params["own"][row])[0][0].size for row in self.structure.own.places[s].values()
            )
            blocks = "-" if not names else names[0] if len(names) == 1 else f"{names[0]} ... {names[-1]}"
            lines.append((str(s), blocks, f"{own:,}", self._crossing(s) if s < self.stages - 1 else "-"))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        table = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines]
        shared = sum(jax.tree.leaves(v)[0].size for v in self.params["shared"].values())
        return "\n".join([*table, f"shared by stages: {shared:,} parameters"])

    def _crossing(self, cut: int) -> str:
        plan, coded = self.structure.plan, self.structure.boundaries[cut]
        shapes = [(key, plan.shape(key)) for key in plan.messages[cut]]
        return ", ".join(f"{s.dtype}{list(s.shape)}{' coded' if k in coded else ''}" for k, s in shapes)

    def _state_names(self) -> list[str]:
        return list({name: None for places in self.structure.own_state.places for name in places})

    def _holder(self, name: str) -> int:
        """The stage whose row of a variable counts: the first that changes it, else the first that has it."""
        it, names = self.structure, list(self.structure.state)
        holders = [s for s in range(self.stages) if name in it.own_state.places[s]]
        changing = [s for s in holders if name in names and names.index(name) in it.plan.changes[s]]
        return (changing or holders)[0]

    def _run(self, plan: Schedule, axes: tuple[str, ...], params: PyTree, state: PyTree, batch: PyTree) -> tuple:
        axis, work = self.structure.axis_name, PlacedWork(self.structure, state, axes)
        local = {"own": params["own"], "shared": spread(params["shared"], axis, self.shared_grad_codec)}
        total, (aux, rows), _ = plan.run(work, local, (batch, jnp.arange(plan.microbatches)))
        loss = total / plan.microbatches
        after = {
            row: jax.tree.map(lambda _, r=row: _over_microbatches(rows[r])[None], v) if row in rows else v
            for row, v in state.items()
        }
        return lax.pmean(loss, axes) if axes else loss, jax.tree.map(lambda a: as_varying(a, axes), aux), after

    def _require(self, mesh: Mesh, axis: str, size: int | None) -> int:
        if axis not in mesh.shape or size not in (None, mesh.shape[axis]):
            raise UsageError(
                f"split_stages: the mesh has the axes {dict(mesh.shape)}, needed is {axis!r}"
                f"{'' if size is None else f' of {size} devices, one per stage'}: use another mesh or axis="
            )
        return mesh.shape[axis]

    def _divided(self, array: Array, microbatches: int, replicas: int) -> Array:
        rows = self.rows * replicas
        if len(array) != microbatches * rows:
            raise UsageError(
                f"split_stages: a batch of {len(array)} rows is not {microbatches} microbatches of {rows} rows "
                f"({self.rows} on each of {replicas} replicas): use a batch of {microbatches * rows}"
            )
        return jnp.asarray(array).reshape(microbatches, rows, *array.shape[1:])


def _over_microbatches(rows: Array) -> Array:
    return rows.mean(0).astype(rows.dtype) if jnp.issubdtype(rows.dtype, jnp.inexact) else rows.max(0)


def _of_last(rows: Array, stages: int, replicas: int) -> Array:
    """What the last stage reports, one row per microbatch and replica."""
    last = rows.reshape(stages, replicas, -1, *rows.shape[1:])[-1]
    return jnp.swapaxes(last, 0, 1).reshape(-1, *rows.shape[1:])
