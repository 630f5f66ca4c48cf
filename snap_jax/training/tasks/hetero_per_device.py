"""Uneven: the program of a task whose dies differ, `models.uneven` through `relays`.

Law: as of `tasks.programs`; parameters that are not of its own stage are nonsense to a die, and it reads none of them.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float, PyTree

from snap_jax._compat import as_varying
from snap_jax.boundary.boundary import Boundary
from snap_jax.collectives.scale_exchange import AxisName
from snap_jax.models.hetero_stages import Layer, Layers
from snap_jax.models.param_packing import WHOLE
from snap_jax.models.pipeline_stages import hand_receivers_on
from snap_jax.parallel.hetero_pipeline import relay
from snap_jax.parallel.mesh import STAGE
from snap_jax.parallel.partition import SHARES
from snap_jax.training.tasks.losses import Batch


def run(
    layers: Layers,
    params: PyTree,
    batch: Batch,
    leave: Callable,
    watch: Callable | None = None,
    *,
    apart: bool = False,
) -> tuple[PyTree, PyTree]:
    """`leave` reads logits and labels; `watch`, a boundary and what is about to leave by it.

    Args:
      layers: the structure of all stages.
      params: of the stage of this die, `{"stages": [1, longest]}`, and of this chip, `{"shares": [1, 1, longest]}`.
      batch: by microbatch.
      leave: logits and labels -> a pytree of floats.
      watch: a boundary and a stream -> a pytree of numbers; of one structure and shapes for all, unless noted apart.
      apart: whether to note every boundary by itself, in a list of which each die knows its own place only; without,
        that of this die.
    """
    own, stages = jax.tree.map(lambda p: p[0], params), layers.stages
    boundaries = _boundaries(layers, own)

    def noted(sent: Sequence[Array]) -> PyTree:
        if watch is None:
            return ()
        notes = [watch(*each) for each in zip(boundaries, sent, strict=True)]
        return notes if apart else jax.tree.map(_of_this_die, *notes)

    def end(stream: Array, batch: Batch) -> PyTree:
        return leave(stages[-1].unravel(own).model.leave(stream).astype(jnp.float32), batch.labels)

    return relay(
        lambda b: stages[0].unravel(own).model.enter(b.inputs),
        [lambda x, layer=layer: layer.unravel(own).model.body(x) for layer in stages],
        end,
        batch,
        STAGE,
        boundaries,
        watch=noted,
    )


def mean_sizes(layers: Layers, u: Float[Array, "*one longest"], axis_name: AxisName) -> Float[Array, " longest"]:
    """For each number the mean size of the parameter it belongs to, over all devices; one scalar each crosses.

    What `membranes.mean_size` is to an array that is one parameter, or the part of it that a chip has.

    Args:
      layers: the structure of all stages.
      u: `[1, longest]`, as it lies in `stages`, or `[1, 1, longest]`, in `shares`.
      axis_name: of the devices.
    """
    name, longest = (WHOLE if u.ndim == 2 else SHARES), u.shape[-1]
    most = max(len(layer.rows.sizes(name)) for layer in layers.stages)

    def of_each(layer: Layer, u: Array) -> Array:
        return _padded([jnp.abs(part).mean()[None] for part in layer.rows.parts(name, u)], most)

    def over_all(layer: Layer, means: Array) -> Array:
        each = zip(means, layer.rows.sizes(name), strict=False)
        return _padded([jnp.broadcast_to(mean, size) for mean, size in each], longest)

    def of_this_die(function: Callable[[Layer, Array], Array], x: Array) -> Array:
        return lax.switch(lax.axis_index(STAGE), [functools.partial(function, layer) for layer in layers.stages], x)

    return of_this_die(over_all, lax.pmean(of_this_die(of_each, u.reshape(-1)), axis_name))


def _padded(parts: list[Array], length: int) -> Array:
    joined = jnp.concatenate(parts)
    return jnp.pad(joined, (0, length - joined.size))


def _of_this_die(*notes: Array) -> Array:
    return lax.select_n(lax.axis_index(STAGE), *(as_varying(jnp.asarray(note), (STAGE,)) for note in notes))


def _boundaries(layers: Layers, own: PyTree) -> list[Boundary]:
    """The sending end as it is on its own die, the receiving end as it is on the next."""
    here = [_boundary(layer.unravel(own).boundary, die) for die, layer in enumerate(layers.stages)]
    return hand_receivers_on(here, -1)


def _boundary(boundary: Boundary, die: int) -> Boundary:
    """As it is on its own die; on others with thresholds of 1, since their numbers mean something else."""
    here = lax.axis_index(STAGE) == die
    nnx.update(boundary, jax.tree.map(lambda p: jnp.where(here, p, jnp.zeros_like(p)), nnx.state(boundary)))
    return boundary
