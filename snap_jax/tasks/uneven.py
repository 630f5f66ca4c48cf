"""Uneven: the program of a task whose dies differ, `models.uneven` through `relays`.

Law: as of `tasks.programs`; parameters that are not of its own stage are nonsense to a die, and it reads none of them.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, PyTree

from snap_jax.models.uneven import Layers
from snap_jax.nn import Boundary
from snap_jax.relays import relay
from snap_jax.tasks.batches import Batch
from snap_jax.tasks.layouts import DIE


def run(
    layers: Layers, params: PyTree, batch: Batch, leave: Callable, watch: Callable | None = None
) -> tuple[PyTree, PyTree]:
    """`leave` reads logits and labels; `watch`, a boundary and what is about to leave by it.

    Args:
      layers: the structure of all stages.
      params: of the stage of this die, `{"stages": [1, longest]}`.
      batch: by microbatch.
      leave: logits and labels -> a pytree of floats.
      watch: a boundary and a stream -> a pytree of numbers, of one structure for all.
    """
    [vector], stages = params["stages"], layers.stages

    def end(stream: Array, batch: Batch) -> PyTree:
        return leave(stages[-1].unravel(vector).model.leave(stream).astype(jnp.float32), batch.labels)

    return relay(
        lambda b: stages[0].unravel(vector).model.enter(b.inputs),
        [lambda x, layer=layer: layer.unravel(vector).model.body(x) for layer in stages],
        end,
        batch,
        DIE,
        [_boundary(layer.unravel(vector).boundary, i) for i, layer in enumerate(stages)],
        watch=watch,
    )


def _boundary(boundary: Boundary, die: int) -> Boundary:
    """As it is on its own die; on others with thresholds of 1, since their numbers mean something else."""
    here = lax.axis_index(DIE) == die
    nnx.update(boundary, jax.tree.map(lambda p: jnp.where(here, p, jnp.zeros_like(p)), nnx.state(boundary)))
    return boundary
