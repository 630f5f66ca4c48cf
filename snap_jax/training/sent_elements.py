"""Elements: how many numbers a model divided over chips sends forward for one batch.

Law: of a program with dense links these are its forward bytes over 4.
"""

import jax
from flax import nnx
from jaxtyping import Array

from snap_jax.models import pipeline_stages
from snap_jax.models.base import Network
from snap_jax.parallel.tensor_parallel import Region, Whole
from snap_jax.training.config import Settings


class _Counted(Whole):
    """A region on one chip that notes, as it is traced, how much would leave each of many."""

    def __init__(self, features: int, sizes: list[int]):
        super().__init__(features)
        self.sizes = nnx.static(sizes)

    def leave(self, partial: Array) -> Array:
        self.sizes.append(partial.size)
        return partial


def crossing_elements(config: Settings, model: Network, inputs: jax.ShapeDtypeStruct) -> int:
    """`ticks tensor sum_boundaries stream + 2 microbatches (tensor - 1) sum_regions out`, all replicas together.

    A stream crosses each boundary of a pipeline from every chip that holds it, in idle ticks too: the program sends
    them. A sum over n chips takes 2 (n - 1) elements an element, n - 1 to add it up and n - 1 to hand it out, and none
    while its die is idle.

    Args:
      config: of the run.
      model: on one chip.
      inputs: what one row looks like.
    """
    layout, rows = config.divided, config.batch // config.parts
    streams, summed = _sizes(model, jax.ShapeDtypeStruct((rows, *inputs.shape), inputs.dtype))
    boundary_stats = sum(streams[place - 1] for place in pipeline_stages.cuts(model, layout.pipeline)[:-1])
    ticks = config.parts + layout.pipeline - 1
    return ticks * layout.tensor * boundary_stats + 2 * config.parts * (layout.tensor - 1) * summed


def _sizes(model: Network, microbatch: jax.ShapeDtypeStruct) -> tuple[list[int], int]:
    """Of the stream behind each block, and of all that leaves regions together."""
    counted, leaving, streams = nnx.clone(model), [], []
    modules = dict(nnx.iter_modules(counted))
    for path, module in modules.items():
        if isinstance(module, Region):
            setattr(modules[path[:-1]], str(path[-1]), _Counted(module.features, leaving))

    def run(x: Array) -> None:
        x = counted.enter(x)
        for block in counted.blocks:
            x = block(x)
            streams.append(x.size)

    jax.eval_shape(run, microbatch)
    return streams, sum(leaving)
