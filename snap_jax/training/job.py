"""Job: the interface between the training loop and a task. A new task is one file with a class that implements it.

`batch` is a pure function of its index, so a resumed run reads the batches that the stopped one would have read.
"""

import abc
from pathlib import Path

import optax
from jax.sharding import Mesh
from jaxtyping import Array, PyTree

from snap_jax.boundary.telemetry import Telemetry
from snap_jax.parallel.schedule import Schedule
from snap_jax.policy import LinkChoice
from snap_jax.training.local_rounds import LocalRounds


class Job(abc.ABC):
    """A task, its data and its first parameters.

    Attributes:
      params: the first parameters, placed on the mesh; the first axis of each is the pipeline stage.
      crossing_elements: number of elements that cross all boundaries for one batch, forward.
      shares: numbers sent for each element of the stream, by stage.
      origin: SHA-256 of the weights that the run starts from, and of those of another teacher; "" without any.
      context_bits: bits per element that the tokens take which both ends of a boundary need.
      choices: how each message is sent, and why; empty without `--link-policy`.
    """

    params: PyTree
    crossing_elements: int
    shares: tuple[float, ...]
    origin: str
    context_bits: float
    choices: tuple[LinkChoice, ...]

    @property
    @abc.abstractmethod
    def mesh(self) -> Mesh:
        """The devices, with an axis for pipeline stages."""

    @property
    def schedule(self) -> Schedule | None:
        """The pipeline schedule of a training step, which traffic is counted by; None without one."""
        return None

    @property
    def data_notes(self) -> tuple[str, ...]:
        """What was left out of the data, one line each."""
        return ()

    @abc.abstractmethod
    def fingerprint(self) -> str:
        """Return a string that changes when the data does."""

    @abc.abstractmethod
    def batch(self, index: int) -> PyTree:
        """Return the arrays of one batch, by microbatch."""

    @abc.abstractmethod
    def batch_name(self, index: int) -> str:
        """Return where to find that batch, for the message when the loss is not finite."""

    @abc.abstractmethod
    def losses_and_gradient(self, params: PyTree, batch: PyTree, extra: dict) -> tuple[tuple[Array, Telemetry], PyTree]:
        """Return the part of each device in the cross-entropy and what left each stage; and the gradient. Pure."""

    @abc.abstractmethod
    def loss_and_norm(self, losses: Array, gradient: PyTree) -> tuple[Array, Array]:
        """Return mean cross-entropy in nats, and the norm of the gradient, from means over batches of both. Pure.

        With local steps both have a row per replica; with a row of the gradient per replica the norm is their root mean
        square.
        """

    @abc.abstractmethod
    def not_finite(self, params: PyTree, batch: PyTree) -> Array:
        """Return how many numbers that leave each stage are NaN or infinite, `[stage]`. Pure."""

    @abc.abstractmethod
    def evaluate_some(self, params: PyTree) -> dict:
        """Evaluate some held-out data for the metrics: `heldout_bits`, lower is better, and others."""

    @abc.abstractmethod
    def evaluate_all(self, params: PyTree, out: Path | None) -> tuple[dict, Telemetry]:
        """Evaluate all held-out data: sections of `result.json`, and what left each stage. May add files to `out`."""

    def with_teacher(self, batch: PyTree) -> PyTree:
        """Return the batch as a step learns from it: with the targets of a teacher, if there is one."""
        return batch

    def teacher_section(self) -> dict:
        """Return the section of `result.json` on the teacher, if there is one."""
        return {}

    def extra(self) -> dict:
        """Return the small state of the task's own before the first step, such as Lagrange multipliers."""
        return {}

    def optimizer(self, rule: optax.GradientTransformation) -> optax.GradientTransformation:
        """Return the optimizer for what `loss_and_gradient` gives."""
        return rule

    def rounds(self) -> LocalRounds | None:
        """Return how replicas exchange their parameters after local steps; None where they share them."""
        return None

    def decayed(self, params: PyTree) -> PyTree:
        """Return the parameters with zeros in place of those on which weight decay does not act. Pure."""
        return params

    def update_extra(self, extra: dict, seen: Telemetry, progress: Array) -> dict:
        """Return the small state after a step that saw this; `progress` in [0, 1] of the run. Pure."""
        return extra

    def threshold_step(self, params: PyTree, seen: Telemetry, progress: Array) -> PyTree:
        """Return the parameters with thresholds corrected after a step that saw this. Pure."""
        return params

    def prune(self, params: PyTree, least_rate: float) -> tuple[PyTree, dict]:
        """Return the parameters without the channels that fire at most at that rate; and a section of `result.json`."""
        raise NotImplementedError
