"""Divided: what the jobs of all tasks share, a model divided over chips as `tasks.divided` does it.

Law: what a job makes of a `LanguageConfig` is the same on any chips but for how it lies on them.
"""

import abc
import dataclasses
import functools
import hashlib
import operator
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, PyTree

from snap_jax.boundary.telemetry import Telemetry
from snap_jax.codecs.link_spec import parse_link
from snap_jax.models import pipeline_stages
from snap_jax.models.base import Network
from snap_jax.models.compute_dtype import compute_in
from snap_jax.models.hetero_stages import Layers
from snap_jax.parallel import data_parallel
from snap_jax.parallel.mesh import STAGE, emulate_devices
from snap_jax.training import pruning
from snap_jax.training.boundary_setup import budget_of, codec_of, transform_of
from snap_jax.training.config import Settings
from snap_jax.training.distillation import Teacher, teacher_of
from snap_jax.training.init_from import inherits, weights_of
from snap_jax.training.sent_elements import crossing_elements
from snap_jax.training.tasks import assemble
from snap_jax.training.tasks.losses import Batch, Scores
from snap_jax.training.tasks.task import Task


class Built(NamedTuple):
    """A task, its first parameters on their chips, and what crosses: see `Divided`."""

    task: Task
    params: PyTree
    crossing_elements: int
    shares: tuple[float, ...]
    teacher: Teacher | None
    origin: str
    context_bits: float


@dataclasses.dataclass(frozen=True, eq=False)
class Divided(abc.ABC):
    """Everything a run needs, checked before anything is written; with data, a `Job`.

    Attributes:
      config: of the run.
      task: with its mesh.
      params: the first, on their chips.
      crossing_elements: of the stream, that cross for one batch, forward.
      shares: numbers sent for each element of the stream, by die.
      teacher: of the batches to learn from; `None` where data alone teach.
      origin: SHA-256 of the weights that the run starts from, where they take part in every step: those of a teacher,
        or those from which the wire has its book; else "".
      context_bits: an element of the stream, of the tokens that both sides of a boundary hold; 0 where they need none.
    """

    config: Settings
    task: Task
    params: PyTree
    crossing_elements: int
    shares: tuple[float, ...]
    teacher: Teacher | None
    origin: str
    context_bits: float

    @property
    def mesh(self) -> Mesh:
        """With the axis `die`, and those of other ways to share."""
        return self.task.mesh

    @abc.abstractmethod
    def fingerprint(self) -> str:
        """Changes when the data does."""

    @abc.abstractmethod
    def batch(self, index: int) -> Batch:
        """One batch, by microbatch."""

    @abc.abstractmethod
    def batch_name(self, index: int) -> str:
        """Where to find that batch again."""

    @abc.abstractmethod
    def watch(self, params: PyTree) -> dict:
        """A quick look at held-out data."""

    @abc.abstractmethod
    def conclude(self, params: PyTree, out: Path) -> tuple[dict, Telemetry]:
        """All held-out data: sections of `result.json`, and what left each die."""

    def taught(self, batch: Batch) -> Batch:
        """The batch with what the teacher says of it; without one, the same."""
        return batch if self.teacher is None else self.teacher.teach(batch)

    def beside(self) -> dict:
        """What the teacher moves for one batch, which is not in the traffic of the step."""
        if self.teacher is None:
            return {}
        sent = self.teacher.traffic(self.batch(0)).sent_bytes
        return {"teacher": {"run": self.config.init_from, "bytes_per_step": self.config.accumulate * sent}}

    def extra(self) -> dict:
        """The multiplier of each die's budget."""
        return {"penalty": self.task.penalty.init(self.mesh.shape[STAGE])} if self.task.penalty else {}

    def optimizer(self, rule: optax.GradientTransformation) -> optax.GradientTransformation:
        """The rule, behind an average over replicas where they send spikes."""
        return self.task.with_average(rule)

    def loss_and_gradient(self, params: PyTree, batch: Batch, extra: dict) -> tuple[tuple[Array, Telemetry], PyTree]:
        """Nats a label, what left each die, and the gradient."""
        if self.task.penalty is None:
            return self.task.observed_loss_and_gradient(params, batch)
        return self.task.penalized_loss_and_gradient(params, batch, extra["penalty"])

    def follow(self, extra: dict, seen: Telemetry, progress: Array) -> dict:
        """Multipliers that follow what the wire took, bits an element of the stream."""
        if self.task.penalty is None:
            return extra
        return {"penalty": self.task.penalty.update(extra["penalty"], self._measured(seen), progress)}

    def threshold_step(self, params: PyTree, seen: Telemetry, progress: Array) -> PyTree:
        """Thresholds held to the budget, of each die that sends; the last one does not."""
        if self.task.penalty is None:
            return params
        by = self.task.penalty.threshold_step(self._measured(seen), seen.saturation, progress)
        return pipeline_stages.raise_thresholds(self.task.graph, params, by.at[-1].set(0.0))

    def _measured(self, seen: Telemetry) -> Array:
        return seen.bits_per_element * jnp.asarray(self.shares)

    def not_finite(self, params: PyTree, batch: Batch) -> Array:
        """How many numbers that left each die were NaN or infinite."""
        return self.task.not_finite(params, batch)

    def freeze(self, params: PyTree, least_rate: float) -> tuple[PyTree, dict]:
        """Channels that are as good as silent on the first batch are silent for good, and off the wire."""
        sample = self.batch(0)
        quiet = pruning.silenced(self.task, params, sample, least_rate=least_rate)
        return quiet, {"frozen": pruning.section(self.task, quiet, sample)}

    def thresholds(self, params: PyTree) -> dict:
        """The mean threshold of each boundary, for the metrics; nothing where there are none."""
        if isinstance(self.task.graph, Layers):
            means = self.task.graph.thresholds(params)
        elif "log_threshold" in params.get("boundary", {}):
            logs = np.asarray(params["boundary"]["log_threshold"][...])
            means = np.exp(logs).reshape(len(logs), -1).mean(-1).tolist()
        else:
            means = []
        return {"threshold_mean": means[:-1]} if len(means) > 1 else {}


def build(
    config: Settings,
    network: Callable[[Settings], Network],
    inputs: jax.ShapeDtypeStruct,
    sample: Callable[[], Array],
    token_bits: Callable[[], float] = lambda: 0.0,
) -> Built:
    """The task that a config asks for.

    Args:
      config: of the run.
      network: the model of a config, of this one or of the one it starts from.
      inputs: what one row looks like.
      sample: some rows to calibrate boundaries on.
      token_bits: what it takes to send a token, where inputs are tokens.

    Raises:
      UsageError: for links, layouts, sizes or a start that cannot be; the message names the fix.
    """
    codec, grad_codec = parse_link(config.sent_link), parse_link(config.backward_link)
    emulate_devices(config.chips)
    context_bits = token_bits() / config.width if config.budget and config.reads_tokens else 0.0
    layout, penalty = config.divided, budget_of(config, context_bits)
    model = network(config)
    if config.compute == "bf16":
        compute_in(model, jnp.dtype("bfloat16"))
    widths = [model.width(place) for place in pipeline_stages.cuts(model, layout.pipeline)]
    task, params = assemble.build(
        model,
        layout,
        codec_of(config),
        grad_codec,
        data_codec=data_parallel.codec_for(codec),
        transform=functools.partial(transform_of, config),
        penalty=penalty,
        rngs=nnx.Rngs(config.seed + 1),
    )
    if config.init_from:
        params = task.place(weights_of(Path(config.init_from), config, network, task.graph, params))
    origin = _fingerprint(params) if config.needs_origin else ""
    if penalty is not None:
        rows = sample()
        if not inherits(Path(config.init_from), config, widths):
            params = assemble.calibrated(task, params, rows, bits=float(penalty.target(0.0)))
        task = assemble.with_learned_book(task, params, rows)
    shares = tuple(config.sent_dims(width) / width for width in widths)
    teacher = teacher_of(config, lambda dense: build(dense, network, inputs, sample)[:2])
    return Built(task, params, crossing_elements(config, model, inputs), shares, teacher, origin, context_bits)


def _fingerprint(params: PyTree) -> str:
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(params):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


class Score(NamedTuple):
    """Over many rows: nats and right answers, summed, and what left each die."""

    nats: float
    correct: float
    seen: Telemetry


def score(
    task: Task, params: PyTree, count: int, read: Callable[[np.ndarray], Batch], at_once: tuple[int, int]
) -> Score:
    """How well `count` rows are predicted.

    Args:
      task: with the parameters.
      params: to evaluate.
      count: of rows.
      read: places of rows -> these rows.
      at_once: microbatches, and rows in each.
    """
    total, seen, size = np.zeros(2), [], at_once[0] * at_once[1]
    for start in range(0, count, size):
        places = np.arange(start, min(start + size, count))
        # Batches of one size: the last is filled up by repeating, and only its real rows count.
        scores, batch = _evaluate(task, params, by_microbatch(read(np.resize(places, size)), at_once[0]))
        total += [float(np.asarray(each).reshape(-1)[: len(places)].sum()) for each in scores]
        seen.append(jax.tree.map(lambda a: np.asarray(a, np.int64), batch))
    return Score(float(total[0]), float(total[1]), functools.reduce(operator.add, seen))


def by_microbatch(rows: Batch, count: int) -> Batch:
    """Rows, divided into microbatches."""
    return Batch(*(jnp.asarray(a).reshape(count, -1, *a.shape[1:]) for a in (rows.inputs, rows.classes)))


@functools.partial(jax.jit, static_argnums=0)
def _evaluate(task: Task, params: PyTree, batch: Batch) -> tuple[Scores, Telemetry]:
    return task.evaluate(params, batch)
