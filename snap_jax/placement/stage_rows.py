"""Arrays of which each stage has its own, stacked with the stages first: `[stage, ...]`.

Arrays of one type, shape and division share a row, whatever their names; a stage that has none there holds zeros, which
nobody reads. So stages of one structure are stacked leaf by leaf, and any others fit too.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec
from jaxtyping import Array

Name = str
Rows = dict[Name, Any]
"""An `nnx.Variable` per row, whose array is `[stage, ...]`, or `[1, ...]` on a device."""


@dataclasses.dataclass(frozen=True)
class StageRows:
    """Where the arrays of each stage lie.

    Attributes:
      places: for each stage, the name of an array of the model -> the row in which it lies.
      specs: of each row.
    """

    places: tuple[Mapping[Name, Name], ...]
    specs: Mapping[Name, PartitionSpec]

    def of_stage(self, stage: int, rows: Mapping[Name, Any]) -> dict[Name, Array]:
        """Return the arrays of a stage by their names in the model; the rows are those of its device, `[1, ...]`."""
        return {name: jax.tree.leaves(rows[row])[0][0] for name, row in self.places[stage].items()}

    def whole(self, stage: int, name: Name, rows: Mapping[Name, Any]) -> Array:
        """Return an array of a stage from the rows of all stages."""
        return jax.tree.leaves(rows[self.places[stage][name]])[0][stage]


def stack(
    owned: Sequence[Mapping[Name, Any]], divided: Mapping[Name, PartitionSpec], axis: str
) -> tuple[StageRows, Rows]:
    """Return where the variables that each stage owns lie, and their rows.

    Args:
      owned: for each stage, variables by name.
      divided: how each lies on the mesh by itself.
      axis: mesh axis of the stages.
    """
    places: list[dict[Name, Name]] = [{} for _ in owned]
    found: dict[Any, Name] = {}
    holders: dict[Name, list[Any]] = {}
    for stage, variables in enumerate(owned):
        counts: dict[Any, int] = {}
        for name, variable in variables.items():
            leaf = jax.tree.leaves(variable)[0]
            kind = (type(variable), leaf.shape, str(leaf.dtype), divided[name])
            counts[kind] = counts.get(kind, 0) + 1
            row = found.setdefault((*kind, counts[kind]), name if name not in holders else f"{name} of stage {stage}")
            places[stage][name] = row
            holders.setdefault(row, [None] * len(owned))[stage] = variable
    specs = {row: PartitionSpec(axis, *divided[_name_of(row)]) for row in holders}
    return StageRows(tuple(places), specs), {row: _stacked(variables) for row, variables in holders.items()}


def _name_of(row: Name) -> Name:
    return row.split(" of stage ")[0]


def _stacked(variables: Sequence[Any]) -> nnx.Variable:
    one = next(v for v in variables if v is not None)
    leaf = jax.tree.leaves(one)[0]
    empty = leaf if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else jnp.zeros_like(leaf)
    leaves = [empty if v is None else jax.tree.leaves(v)[0] for v in variables]
    return jax.tree.map(lambda _: jnp.stack(leaves), one)
