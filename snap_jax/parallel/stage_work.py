"""What a stage of a pipeline computes and sends; a schedule says when.

All methods are functions of the parameters of one device, and run inside `shard_map`.
"""

import abc
from collections.abc import Sequence
from typing import Any

from jaxtyping import Array, PyTree

Hops = Sequence[tuple[int, int]]


class StageWork(abc.ABC):
    """The work of one stage on one microbatch. A message is a pytree of arrays, the same shapes on all stages."""

    axis_name: str
    """The mesh axis of the pipeline."""

    @abc.abstractmethod
    def message(self, params: PyTree, microbatch: PyTree) -> PyTree:
        """Return the shapes of a message; () where there is one stage, so that nothing is sent."""

    @abc.abstractmethod
    def compute(
        self, params: PyTree, stage: Array, microbatch: PyTree, arriving: PyTree
    ) -> tuple[PyTree, Array, PyTree]:
        """Compute one stage; sends nothing along the pipeline.

        Returns:
          The message to the next stage (zeros on the last), the loss of this stage, and what it reports.
        """

    @abc.abstractmethod
    def connect(self, params: PyTree, hops: Hops) -> Any:
        """Bring here, once per run, what this stage must know of the one that sends to it."""

    @abc.abstractmethod
    def send(self, params: PyTree, links: Any, sent: PyTree, hops: Hops) -> tuple[PyTree, PyTree]:
        """Send the message along the hops; return what arrives, and what is counted of what was sent."""

    @abc.abstractmethod
    def decoded(self, params: PyTree, sent: PyTree) -> PyTree:
        """Return what the next stage reads of the message, computed here; its gradient is that of `send`."""

    @abc.abstractmethod
    def send_back(self, params: PyTree, cotangent: PyTree, hops: Hops) -> PyTree:
        """Send the cotangent of what arrived back along the hops; return that of what was `decoded`."""
