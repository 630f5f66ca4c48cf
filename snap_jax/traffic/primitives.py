"""The collective primitives of jax 0.10 to 0.12, and the transfers that one equation makes."""

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from jax.extend import core

from snap_jax.errors import UsageError
from snap_jax.traffic.name_stack import direction, scope, scopes
from snap_jax.traffic.stage_occupancy import StageSchedule, executions
from snap_jax.traffic.transfer import Transfer

# Primitive -> the `jax.lax` function that users know it by.
OPS = {
    "all_gather": "all_gather",
    "all_gather_invariant": "all_gather",
    "all_gather_reduced": "all_gather",
    "psum": "psum",
    "psum2": "psum",
    "psum_invariant": "psum",
    "unreduced_psum": "psum",
    "pmax": "pmax",
    "unreduced_pmax": "pmax",
    "pmin": "pmin",
    "unreduced_pmin": "pmin",
    "reduce_scatter": "psum_scatter",
    "unreduced_reduce_scatter": "psum_scatter",
    "all_to_all": "all_to_all",
    "ppermute": "ppermute",
    "pbroadcast": "pbroadcast",
    "pbroadcast_dynamic": "pbroadcast",
}
# Primitives that name mesh axes and move nothing: the index, casts of the varying type (as 0.10 and 0.12 name them),
# and the second half of a collective that is counted at its start.
FREE = {
    "axis_index",
    "pvary",
    "preduced",
    "reduced_vary_cast",
    "reduced_vary_cast_p",
    "vary_unreduced_cast",
    "vary_unreduced_cast_p",
    *(f"{name}_done" for name in OPS),
}


@dataclasses.dataclass(frozen=True)
class At:
    """Where an equation stands: sizes of the mesh axes, executions so far, name stacks down to it; and the schedule."""

    sizes: Mapping[Any, int]
    times: int = 1
    stack: str = ""
    schedule: StageSchedule | None = None

    def under(self, eqn: core.JaxprEqn) -> "At":
        """Return the place of an equation inside this one."""
        return dataclasses.replace(self, stack=f"{self.stack}/{eqn.source_info.name_stack}".strip("/"))

    def repeated(self, times: int) -> "At":
        """Return the place inside a loop of so many rounds."""
        return dataclasses.replace(self, times=self.times * times)

    @property
    def branches_by_stage(self) -> bool:
        """Whether it is a `cond` of which each branch is taken by some stage of a pipeline."""
        return self.schedule is not None and scopes(self.stack)[-1:] == [self.schedule.branch_scope]

    def __str__(self) -> str:
        """Return the place as an error message names it."""
        path = scope(self.stack)
        return f"at {path!r}" if path else "outside every jax.named_scope"


def transfers(eqn: core.JaxprEqn, at: At) -> Iterator[Transfer]:
    """Yield one transfer for each operand and group size of a collective, as often as the stages run it."""
    op = OPS[eqn.primitive.name.removesuffix("_start")]
    axes = _axes(eqn, at)
    # A second operand of pbroadcast is the number of the source, which every device has already.
    operands = eqn.invars[:1] if op == "pbroadcast" else eqn.invars
    perm = tuple((source, target) for source, target in eqn.params.get("perm", ()) if source != target)
    for operand in operands:
        aval: Any = operand.aval
        shape = _sent_shape(eqn, aval, at.sizes)
        size = math.prod(shape) * aval.dtype.itemsize
        for members, groups in _groups(eqn, axes, at.sizes).items():
            if size and at.times and members > 1 and (perm or op != "ppermute"):
                shown = Transfer(
                    op,
                    axes,
                    group_size=members,
                    dtype=aval.dtype.name,
                    bytes=size,
                    times=at.times,
                    path=scope(at.stack),
                    direction=direction(at.stack),
                    shape=shape,
                    groups=groups,
                    pairs=len(perm),
                    perm=perm,
                )
                yield from executions(shown, scopes(at.stack), at.schedule)


def _axes(eqn: core.JaxprEqn, at: At) -> tuple[str, ...]:
    axes = tuple(a for a in _named(eqn) if not isinstance(a, int))
    if unknown := [a for a in axes if a not in at.sizes]:
        raise UsageError(
            f"collective_traffic: {eqn.primitive.name} {at} runs over {unknown}, the mesh axes are {list(at.sizes)}: "
            "trace the function that calls shard_map, not the one inside"
        )
    return axes


def _groups(eqn: core.JaxprEqn, axes: tuple[str, ...], sizes: Mapping[Any, int]) -> Counter[int]:
    """Return members of a group -> number of such groups on the mesh."""
    members = math.prod(sizes[a] for a in axes)
    side_by_side = math.prod(sizes.values()) // members
    named = eqn.params.get("axis_index_groups") or [range(members)]
    return Counter({n: count * side_by_side for n, count in Counter(map(len, named)).items()})


def _sent_shape(eqn: core.JaxprEqn, aval: Any, sizes: Mapping[Any, int]) -> tuple[int, ...]:
    """Return the shape on one device of what is sent.

    Explicit axes of a partly manual shard_map divide what the jaxpr shows whole. Integers among the axes of a
    reduction (vmap puts them there) are dimensions that each device reduces before it sends.
    """
    spec = (*aval.sharding.spec, *(None,) * aval.ndim)
    divisors = [math.prod(sizes[a] for a in as_tuple(part)) for part in spec[: aval.ndim]]
    local = [n // divisor for n, divisor in zip(aval.shape, divisors, strict=True)]
    return tuple(n for i, n in enumerate(local) if i not in _named(eqn))


def _named(eqn: core.JaxprEqn) -> tuple[Any, ...]:
    """Return names and numbers of the axes of a collective."""
    return as_tuple(eqn.params["axes"] if "axes" in eqn.params else eqn.params["axis_name"])


def as_tuple(value: Any) -> tuple[Any, ...]:
    """Return axis names as a tuple; JAX writes None, one name, or several."""
    if value is None:
        return ()
    return tuple(value) if isinstance(value, tuple | list | frozenset) else (value,)
