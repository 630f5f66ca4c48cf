"""Layouts: how many devices share the batch, the layers, and each layer.

Invariant: with dense links loss and gradient are those of one device, in every layout.
"""

import dataclasses
import math

from jax.sharding import Mesh

from snap_jax.errors import UsageError
from snap_jax.parallel.mesh import DATA, STAGE, TENSOR, auto_mesh

WORDS = ("data", "pipeline", "tensor")


@dataclasses.dataclass(frozen=True)
class Layout:
    """Devices by what they share; their product is how many there are.

    Attributes:
      data: replicas of the model; each takes its part of every microbatch.
      pipeline: stages in a row, each with its part of the layers.
      tensor: devices that divide each layer.
    """

    data: int = 1
    pipeline: int = 1
    tensor: int = 1

    def __post_init__(self):
        for word in WORDS:
            if getattr(self, word) < 1:
                raise UsageError(f"Layout: {word}={getattr(self, word)}: use 1 or more")

    @property
    def devices(self) -> int:
        """Return how many there are."""
        return self.data * self.pipeline * self.tensor

    def make_mesh(self) -> Mesh:
        """Return the mesh `data x stage x tensor`; an axis of one device is left out, except `stage`."""
        axes = {DATA: self.data, STAGE: self.pipeline, TENSOR: self.tensor}
        return auto_mesh({axis: size for axis, size in axes.items() if size > 1 or axis == STAGE})


def parse_layout(spec: str, devices: int) -> Layout:
    """Return the layout of so many devices that a spec names: words joined by `+`, each with its number of devices.

    One word may go without a number: it takes the devices that the others leave.

    >>> parse_layout("pipeline", 4)
    Layout(data=1, pipeline=4, tensor=1)
    >>> parse_layout("data:2+tensor", 8)
    Layout(data=2, pipeline=1, tensor=4)

    Raises:
      UsageError: for words that are not known or come twice, and numbers whose product is not `devices`.
    """
    sizes: dict[str, int | None] = {}
    for part in spec.split("+"):
        word, colon, size = part.partition(":")
        if word not in WORDS or word in sizes or (colon and not size.isdigit()):
            raise UsageError(f"layout {spec!r}: {part!r}: use {', '.join(WORDS)}, each once, as in 'data:2+pipeline:4'")
        sizes[word] = int(size) if colon else None
    open_words = [word for word, size in sizes.items() if size is None]
    known = math.prod(size for size in sizes.values() if size is not None)
    if len(open_words) > 1:
        raise UsageError(
            f"layout {spec!r}: give all but one of {', '.join(open_words)} a number, as in 'data:2+tensor'"
        )
    if not known or devices % known or (not open_words and known != devices):
        raise UsageError(f"layout {spec!r}: {known} devices named, {devices} are there: name a product of {devices}")
    return Layout(**{word: size or devices // known for word, size in sizes.items()})
