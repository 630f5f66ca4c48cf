"""Job: what the loop must know of a task, and all it may know.

Law: `batch` is a pure function of its index, so a run that is resumed reads what the one that was stopped would have.
A new task is one file that holds a class with these members.
"""

from pathlib import Path
from typing import Protocol, runtime_checkable

import optax
from jax.sharding import Mesh
from jaxtyping import Array, PyTree

from snap_jax.boundary.telemetry import Telemetry


@runtime_checkable
class Job(Protocol):
    """A task, its data and its first parameters.

    Attributes:
      mesh: what it runs on, with the axis `die`.
      params: the first parameters, placed on the mesh; the first axis of each is the die.
      crossing_elements: elements of the stream that cross all boundaries for one batch, forward.
      shares: numbers sent for each element of the stream, by die.
      origin: changes when the weights do that the run starts from, where they take part in every step; else "".
      context_bits: an element of the stream, of what both sides of a boundary must hold beside it.
    """

    @property
    def mesh(self) -> Mesh: ...

    @property
    def params(self) -> PyTree: ...

    @property
    def crossing_elements(self) -> int: ...

    @property
    def shares(self) -> tuple[float, ...]: ...

    @property
    def origin(self) -> str: ...

    @property
    def context_bits(self) -> float: ...

    def fingerprint(self) -> str:
        """Changes when the data does."""
        ...

    def batch(self, index: int) -> PyTree:
        """The arrays of one batch, by microbatch."""
        ...

    def taught(self, batch: PyTree) -> PyTree:
        """The batch as a step learns from it: with what a teacher says of it, if there is one."""
        ...

    def beside(self) -> dict:
        """Sections of `result.json` on programs that run beside the step."""
        ...

    def batch_name(self, index: int) -> str:
        """Where to find that batch again: for the message when the loss is not finite."""
        ...

    def extra(self) -> dict:
        """Small state of the task's own, such as the multipliers of a budget, before the first step."""
        ...

    def optimizer(self, rule: optax.GradientTransformation) -> optax.GradientTransformation:
        """The rule for what `loss_and_gradient` gives: of replicas that send spikes, a row each."""
        ...

    def loss_and_gradient(self, params: PyTree, batch: PyTree, extra: dict) -> tuple[tuple[Array, Telemetry], PyTree]:
        """Pure: mean cross-entropy in nats and what left each die, `[die]`; and the gradient."""
        ...

    def follow(self, extra: dict, seen: Telemetry, progress: Array) -> dict:
        """Pure: the small state after a step that saw this; `progress` in [0, 1] of the run."""
        ...

    def threshold_step(self, params: PyTree, seen: Telemetry, progress: Array) -> PyTree:
        """Pure: the parameters after that step, held to what it saw; thresholds under a budget."""
        ...

    def not_finite(self, params: PyTree, batch: PyTree) -> Array:
        """Pure: how many numbers that left each die were NaN or infinite, `[die]`."""
        ...

    def watch(self, params: PyTree) -> dict:
        """A quick look at held-out data, for the metrics: `heldout_bits`, lower is better, and what else is to see."""
        ...

    def freeze(self, params: PyTree, least_rate: float) -> tuple[PyTree, dict]:
        """The parameters without what fires at most at that rate, and the section `frozen` of `result.json`."""
        ...

    def conclude(self, params: PyTree, out: Path) -> tuple[dict, Telemetry]:
        """All held-out data: the sections `quality` and `baselines` of `result.json`, and what left each die.

        May leave pictures of it in `out`.
        """
        ...
