"""The boundaries at the cuts of a model, taken apart into arrays that stages own, and built again on a device."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from snap_jax.boundary.boundary import Boundary
from snap_jax.placement.stage_plan import Key
from snap_jax.placement.stage_rows import Name


@dataclasses.dataclass(frozen=True)
class CutBoundary:
    """The boundary of one array at one cut, without its arrays.

    Attributes:
      cut: the number of the cut; the sender is the stage of this number.
      key: which array crosses.
      graph: of a `Boundary`.
      paths: of its variables.
      shapes: of them.
    """

    cut: int
    key: Key
    graph: nnx.GraphDef
    paths: tuple[tuple, ...]
    shapes: tuple[jax.ShapeDtypeStruct, ...]

    def name(self, path: tuple) -> Name:
        """Return the name of one of its variables among those that stages own."""
        return ".".join(map(str, ("boundaries", self.cut, *self.key, *path)))

    def stage(self, path: tuple) -> int:
        """Return the stage on which one of its variables lives: what restores lives where the array arrives."""
        return self.cut + (path[0] == "receiver")

    def build(self, value: Callable[[int, Name], Array | None]) -> Boundary:
        """Return the boundary with values by stage and name; None stands for zeros, of the side that is not used."""
        values = [value(self.stage(path), self.name(path)) for path in self.paths]
        found = [jnp.zeros(s.shape, s.dtype) if v is None else v for v, s in zip(values, self.shapes, strict=True)]
        return nnx.merge(self.graph, nnx.from_flat_state(dict(zip(self.paths, found, strict=True))))


def take_boundary_apart(cut: int, key: Key, boundary: Boundary) -> tuple[CutBoundary, list[tuple[int, Name, Any]]]:
    """Return a boundary without its arrays, and each variable with the stage that owns it and its name."""
    graph, state = nnx.split(boundary)
    flat = dict(nnx.to_flat_state(state))
    shapes = tuple(jax.ShapeDtypeStruct(v[...].shape, v[...].dtype) for v in flat.values())
    bare = CutBoundary(cut, key, graph, tuple(flat), shapes)
    return bare, [(bare.stage(path), bare.name(path), variable) for path, variable in flat.items()]


def grouped(hops: Sequence[Any]) -> list[list[int]]:
    """Return the cuts whose messages are alike, so that one collective sends all of them.

    >>> grouped(["a", "a", "b"])
    [[0, 1], [2]]
    """
    groups: dict[Any, list[int]] = {}
    for cut, kind in enumerate(hops):
        groups.setdefault(kind, []).append(cut)
    return list(groups.values())


def named_by(values: Mapping[Name, Array]) -> Callable[[int, Name], Array | None]:
    """Return a function that gives the arrays of one stage by name, None for those of other stages."""
    return lambda stage, name: values.get(name)
