"""The order in which the stages of a pipeline work: GPipe, 1F1B, and 1F1B with interleaved stages.

Device p of P holds the virtual stages p, p + P, p + 2 P, ... With m microbatches and times f and b of one microbatch on
one device, free links give

    GPipe, 1F1B      (m + P - 1) (f + b)
    interleaved      (m + (P - 1) / v) (f + b)     v virtual stages a device, m a multiple of P (Megatron-LM)
"""

import dataclasses
from typing import Literal, final

from snap_jax.cost.units import CostError, Number

Kind = Literal["gpipe", "1f1b", "interleaved"]
KINDS: tuple[Kind, ...] = ("gpipe", "1f1b", "interleaved")


@final
@dataclasses.dataclass(frozen=True)
class StageTask:
    """The forward or backward pass of one microbatch through one virtual stage."""

    forward: bool
    microbatch: int
    stage: int


@final
@dataclasses.dataclass(frozen=True)
class PipelineOrder:
    """A pipeline of devices.

    Attributes:
      kind: "gpipe" (all forward passes, then all backward), "1f1b" or "interleaved".
      devices: number of devices.
      microbatches: number of microbatches of one step.
      forward_s: time of the forward pass of one microbatch on one device.
      backward_s: time of its backward pass; 0 leaves backward passes out.
      virtual: virtual stages per device; more than one only when interleaved.
      overlap: whether a device computes while it sends.
      full_duplex: whether both directions of a link work at the same time.
      axis: mesh axis of the stages.

    Raises:
      CostError: an unknown kind, or numbers that do not fit it.

    >>> [task.microbatch for task in PipelineOrder("gpipe", 2, 3, 1.0, 0.0).tasks(0)]
    [0, 1, 2]
    """

    kind: Kind
    devices: int
    microbatches: int
    forward_s: Number
    backward_s: Number
    virtual: int = 1
    overlap: bool = True
    full_duplex: bool = True
    axis: str = "stage"

    def __post_init__(self) -> None:
        if self.kind not in KINDS or min(self.devices, self.microbatches, self.virtual) < 1:
            raise CostError(
                f"PipelineOrder({self.kind!r}, devices={self.devices}, microbatches={self.microbatches}, "
                f"virtual={self.virtual}): want one of {', '.join(KINDS)}, and numbers of at least 1"
            )
        if (self.kind == "interleaved") != (self.virtual > 1):
            raise CostError(
                f"PipelineOrder({self.kind!r}, virtual={self.virtual}): want virtual > 1 exactly if interleaved"
            )
        if self.kind == "interleaved" and self.microbatches % self.devices:
            raise CostError(
                f"PipelineOrder('interleaved', microbatches={self.microbatches}): "
                f"want a multiple of {self.devices} devices"
            )

    @property
    def stages(self) -> int:
        """Number of virtual stages."""
        return self.devices * self.virtual

    def seconds(self, task: StageTask) -> Number:
        """Return the time of a task."""
        return (self.forward_s if task.forward else self.backward_s) / self.virtual

    def tasks(self, device: int) -> list[StageTask]:
        """Return what a device does, in order."""
        forward = [self._task(True, k, device) for k in range(self.microbatches * self.virtual)]
        if not self.backward_s:
            return forward
        backward = [self._task(False, k, device) for k in range(self.microbatches * self.virtual)]
        first = min(len(forward), self._before_backward(device))
        steady = [task for pair in zip(forward[first:], backward, strict=False) for task in pair]
        return forward[:first] + steady + backward[len(forward) - first :]

    def _before_backward(self, device: int) -> int:
        later = self.devices - device - 1
        if self.kind == "gpipe":
            return self.microbatches
        return later if self.kind == "1f1b" else 2 * later + (self.virtual - 1) * self.devices

    def _task(self, forward: bool, k: int, device: int) -> StageTask:
        """Return the k-th forward or backward task: `devices` microbatches take one virtual stage, then the next."""
        if self.virtual == 1:
            return StageTask(forward, k, device)
        turn, chunk = k // (self.devices * self.virtual), k // self.devices % self.virtual
        chunk = chunk if forward else self.virtual - 1 - chunk
        return StageTask(forward, turn * self.devices + k % self.devices, chunk * self.devices + device)
