"""Pipeline schedules: which stage works on which microbatch, and when.

Invariant: every schedule gives the loss and the gradient of the stages computed one after the other.

A schedule is a frozen dataclass. It runs the pipeline, and it is passed to whoever needs to know how often something
happens: `collective_traffic(fn, schedule=...)` cannot read from a program which stages take a branch. A new schedule is
one file with a subclass of `Schedule`.
"""

import abc
import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, PyTree

from snap_jax._compat import as_varying, varying_axes
from snap_jax.errors import UsageError
from snap_jax.parallel.stage_work import StageWork

T = TypeVar("T")
_BRANCHES = "stage_branches"
Remat = Literal["full"] | Callable[..., bool] | None
"""What the backward pass computes again: nothing (None), all of a stage ("full"), or what a policy of
`jax.checkpoint_policies` does not save."""


@dataclasses.dataclass(frozen=True)
class Schedule(abc.ABC):
    """The order in which the stages of a pipeline work.

    Attributes:
      microbatches: M, how many pass through the pipeline in one run.
      stages: n, devices along the mesh axis of the pipeline.
      remat: what the backward pass of a stage computes again.

    Raises:
      UsageError: for fewer than one microbatch or stage.
    """

    microbatches: int
    stages: int
    remat: Remat = None

    def __post_init__(self):
        if self.microbatches < 1 or self.stages < 1:
            raise UsageError(
                f"{type(self).__name__}: microbatches={self.microbatches}, stages={self.stages}: use 1 or more of both"
            )

    @property
    @abc.abstractmethod
    def ticks(self) -> int:
        """Rounds of one run. Each link carries one message in each direction per tick."""

    @property
    @abc.abstractmethod
    def tables(self) -> Mapping[str, np.ndarray]:
        """For each `jax.named_scope` that holds the work of one stage: who runs it, `bool[ticks, stages]`."""

    @abc.abstractmethod
    def run(self, work: StageWork, params: PyTree, microbatches: PyTree) -> tuple[Array, PyTree, PyTree]:
        """Run the pipeline inside `shard_map`.

        Args:
          work: what a stage computes and sends.
          params: those of this device.
          microbatches: pytree whose arrays have the M microbatches first; the same on all stages.

        Returns:
          The loss, summed over microbatches and stages; it alone carries a gradient. What each stage reports of each
          microbatch, stacked. What `work.send` counts, summed over the microbatches of this stage.
        """

    @property
    def branch_scope(self) -> str:
        """The scope right around a `cond` or `switch` each of whose branches some stage takes."""
        return _BRANCHES

    def occupancy(self, scopes: Sequence[str]) -> Counter[int] | None:
        """Count ticks by how many stages run what stands under these scopes; None where the schedule names none.

        >>> from snap_jax.parallel.gpipe import GPipe
        >>> GPipe(microbatches=4, stages=2).occupancy(["net", "stage_work"])  # fills, works, drains
        Counter({2: 3, 1: 2})
        >>> GPipe(microbatches=4, stages=2).occupancy(["stage_work", "stage_1"])  # what only one stage runs
        Counter({1: 4})
        """
        table = next((self.tables[scope] for scope in scopes if scope in self.tables), None)
        if table is None:
            return None
        alone = [stage for stage in range(self.stages) if scope_of(stage) in scopes]
        at_work = (table[:, alone[:1]] if alone else table).sum(1)
        return Counter(int(count) for count in at_work if count)

    @property
    def idle_share(self) -> float:
        """The share of its ticks in which a stage has nothing to do.

        >>> from snap_jax.parallel.gpipe import GPipe
        >>> GPipe(microbatches=4, stages=2).idle_share  # 2 of 10 stage-ticks
        0.2
        """
        tables = list(self.tables.values())
        whole = self.slots * self.ticks * self.stages
        return (whole - sum(int(table.sum()) for table in tables)) / whole

    def exists(self, microbatch: Any) -> Any:
        """Tell whether there is a microbatch of this number."""
        return (microbatch >= 0) & (microbatch < self.microbatches)

    @property
    def slots(self) -> int:
        """How many pieces of work a stage can do in a tick."""
        return 1

    @property
    def hops(self) -> tuple[tuple[int, int], ...]:
        """The (source, target) pairs of the forward messages: each stage sends to the next."""
        return tuple((stage, stage + 1) for stage in range(self.stages - 1))


def scope_of(stage: int) -> str:
    """Name the scope of what only one stage runs."""
    return f"stage_{stage}"


def switch(index: Array, branches: Mapping[str, Callable[..., T]], *operands: Any) -> T:
    """Run `lax.switch` on an index that differs between stages; each branch stands in the scope that names it."""
    with jax.named_scope(_BRANCHES):
        return lax.switch(index, [named(scope, branch) for scope, branch in branches.items()], *operands)


def named(scope: str, function: Callable[..., T]) -> Callable[..., T]:
    """Return the function inside a `jax.named_scope`."""

    def inside(*operands: Any) -> T:
        with jax.named_scope(scope):
            return function(*operands)

    return inside


def rematerialized(compute: Callable[..., T], remat: Remat) -> Callable[..., T]:
    """Return `compute` under the policy that says what its backward pass computes again."""
    if remat is None:
        return compute
    return jax.checkpoint(compute, policy=None if remat == "full" else remat)


def microbatch_at(microbatches: PyTree, index: Array, axis_name: str) -> PyTree:
    """Return one microbatch, the first or last for an index out of range, typed varying over the pipeline."""

    def one(a: Any) -> Array:
        return as_varying(jnp.asarray(a), (axis_name,))[jnp.clip(index, 0, len(a) - 1)]

    return jax.tree.map(one, microbatches)


def varying(tree: PyTree, axis_name: str) -> PyTree:
    """Return arrays typed varying over a mesh axis."""
    return jax.tree.map(lambda a: as_varying(jnp.asarray(a), (axis_name,)), tree)


def zeros(like: PyTree, *leading: int) -> PyTree:
    """Return zeros of these shapes, after `leading` axes, typed varying over the same mesh axes."""

    def one(a: Any) -> Array:
        return as_varying(jnp.zeros((*leading, *a.shape), a.dtype), tuple(sorted(varying_axes(a))))

    return jax.tree.map(one, like)


def masked(keep: Array, tree: PyTree) -> PyTree:
    """Return the tree where `keep` holds, else zeros."""
    return jax.tree.map(lambda a: jnp.where(keep, a, jnp.zeros_like(a)), tree)
