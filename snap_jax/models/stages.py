"""A model divided into the stages of a pipeline, and joined again.

Invariant: `stages.join(params)` of `stages, params = split(model, boundaries)` gives back the parameters of `model`.

`split` returns one of two kinds: `SameStructure`, whose parameters are stacked leaf by leaf, and `DifferentStructure`
for models whose blocks differ. All other code uses the protocol `Stages` and does not ask which it is.
"""

import abc
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from flax import nnx
from jaxtyping import Array, Float, PyTree

from snap_jax.boundary.boundary import Boundary
from snap_jax.models.base import Network
from snap_jax.parallel.error_feedback import Sizes
from snap_jax.parallel.pipeline import Inspect, report_nothing
from snap_jax.parallel.stage_work import StageWork

LeaveModel = Callable[[Array, Any], tuple[Array, PyTree]]
"""Logits, f32, and a microbatch, whose `inputs` the model enters -> the loss and a report."""


class Stage(nnx.Module):
    """What one device of a pipeline holds: blocks of the model, and the boundary to the next stage."""

    def __init__(self, model: Network, boundary: Boundary):
        self.model = model
        self.boundary = boundary


class ParamsByStage(NamedTuple):
    """The parameters of all stages, of which none need be in memory before it is asked for.

    Attributes:
      like: shapes and dtypes of all, `[stage, ...]`.
      of: number of a stage -> its parameters, `[...]`.
    """

    like: PyTree
    of: Callable[[int], PyTree]


class Stages(abc.ABC):
    """The structure of all stages of a model; hashable.

    Their parameters are a pytree, of which each array has the stages first: `[stage, ...]`. A device holds `[1, ...]`.
    """

    @property
    @abc.abstractmethod
    def count(self) -> int:
        """How many there are."""

    @abc.abstractmethod
    def join(self, params: PyTree) -> tuple[Network, list[Boundary]]:
        """Return the model on one device and its boundaries, from the parameters of all stages."""

    @abc.abstractmethod
    def work(
        self, leave: LeaveModel, *, inspect: Inspect = report_nothing, apart: bool = False, observe: bool = False
    ) -> StageWork:
        """Return what a stage computes and sends, as a function of the parameters of one device, `[1, ...]`.

        Args:
          leave: what to make of the logits.
          inspect: as in `SameStages`.
          apart: whether reports of `inspect` come as a list, one place per boundary but the last, zeros but for the
            one of this device.
          observe: whether to count what is sent.
        """

    @abc.abstractmethod
    def specs(self, params: PyTree) -> PyTree:
        """Return how each parameter lies on the mesh, a `PartitionSpec`."""

    @abc.abstractmethod
    def raise_thresholds(self, params: PyTree, by: Float[Array, " stage"]) -> PyTree:
        """Return the parameters with `by` added to the logarithms of all thresholds of each boundary; pure."""

    @abc.abstractmethod
    def without_codecs(self, params: PyTree) -> PyTree:
        """Return the parameters with zeros in place of what codecs learn, such as thresholds; pure."""

    @abc.abstractmethod
    def thresholds(self, params: PyTree) -> list[float]:
        """Return the mean threshold of the boundary after each stage; none where no spikes cross."""

    @abc.abstractmethod
    def alike(self) -> list[slice]:
        """Return the stages whose boundaries must send the same channels on the same wire."""

    @property
    @abc.abstractmethod
    def gradient_sizes(self) -> Sizes | None:
        """What a threshold of `error_feedback` is relative to; None for the mean size of each array."""


def hand_receivers_on(boundaries: Sequence[Boundary], places: int) -> list[Boundary]:
    """Move the receiver's side of each boundary by so many stages: that of boundary i lives on stage i + 1.

    That of the last boundary goes to the first stage, and is never used.
    """
    moved = [nnx.clone(boundary) for boundary in boundaries]
    for i, boundary in enumerate(moved):
        boundary.receiver = nnx.clone(boundaries[(i - places) % len(boundaries)].receiver)
    return moved


def part_of(model: Network, boundary: Boundary, first: int, end: int) -> Stage:
    """Return the stage that holds the blocks from `first` to `end`, and both ends of the model."""
    part = nnx.clone(model)
    part.blocks = nnx.List(list(part.blocks)[first:end])
    return Stage(part, nnx.clone(boundary))


def own_of(params: PyTree) -> PyTree:
    """Return the parameters of one device, without the axis of stages."""
    return jax.tree.map(lambda p: p[0], params)
