"""The mesh of a program: what its `shard_map` was given, or how its inputs are sharded."""

from collections.abc import Iterator
from typing import Any

import jax
from jax.extend import core
from jax.sharding import AbstractMesh, Mesh, NamedSharding

from snap_jax.traffic.trip_count import open_jaxpr


def mesh_of_program(jaxpr: Any, compiled: jax.stages.Compiled) -> Mesh | AbstractMesh | None:
    """Return the largest mesh of a program, `None` if it has none."""
    shardings = [s for s in jax.tree.leaves(compiled.input_shardings) if isinstance(s, NamedSharding)]
    return max((*meshes(jaxpr), *(s.mesh for s in shardings)), key=lambda mesh: mesh.size, default=None)


def meshes(jaxpr: Any) -> Iterator[Mesh | AbstractMesh]:
    """Yield the mesh of every `shard_map` in a jaxpr."""
    for eqn in open_jaxpr(jaxpr).eqns:
        if eqn.primitive.name == "shard_map":
            yield eqn.params["mesh"]
        for value in eqn.params.values():
            for one in value if isinstance(value, tuple | list) else (value,):
                if isinstance(one, core.Jaxpr | core.ClosedJaxpr):
                    yield from meshes(one)
