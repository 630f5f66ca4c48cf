"""ParallelJob: what the jobs of all tasks share, a model divided over devices with its links, teacher and budget.

What a job computes is the same on any devices, up to float rounding.
"""

import abc
import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, PyTree

from snap_jax.boundary.telemetry import Telemetry
from snap_jax.errors import UsageError
from snap_jax.models.base import Network
from snap_jax.models.compute_dtype import compute_in
from snap_jax.models.own_blocks import OwnBlocks, own_blocks
from snap_jax.models.split import cuts
from snap_jax.parallel.gpipe import GPipe
from snap_jax.parallel.local_steps import outer_optimizer
from snap_jax.parallel.mesh import STAGE, emulate_devices
from snap_jax.parallel.one_f_one_b import OneFOneB
from snap_jax.parallel.processes import count, devices_here, on_host
from snap_jax.parallel.same_arrays import require_same_hashes
from snap_jax.parallel.schedule import Schedule
from snap_jax.policy import LinkChoice
from snap_jax.training import pruning
from snap_jax.training.config import Settings
from snap_jax.training.distillation import Teacher, teacher_of
from snap_jax.training.init_from import inherits, weights_of
from snap_jax.training.job import Job
from snap_jax.training.link_choices import choices_of, kept_codecs
from snap_jax.training.link_setup import Links, crossing_elements, links_of
from snap_jax.training.local_rounds import LocalRounds
from snap_jax.training.tasks import assemble
from snap_jax.training.tasks.losses import Batch
from snap_jax.training.tasks.task import Task

MakeNetwork = Callable[..., Network]  # a config, and if wanted an `EachBlock` -> the model on one device
MakeLinks = Callable[[Settings, float], Links]  # a config, and the bits per element of its tokens -> its links


class Built(NamedTuple):
    """A divided model with its first parameters; the fields are those of `ParallelJob`."""

    task: Task
    params: PyTree
    crossing_elements: int
    shares: tuple[float, ...]
    teacher: Teacher | None
    origin: str
    context_bits: float
    choices: tuple[LinkChoice, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class ParallelJob(Job):
    """Everything a run needs but its data, checked before anything is written.

    Attributes:
      config: of the run.
      task: the divided model, with its mesh.
      params: see `Job`, as the fields below.
      teacher: of the batches to learn from; None where only the data teaches.
      choices: how each message is sent, and why; empty without `--link-policy`.
    """

    config: Settings
    task: Task
    params: PyTree
    crossing_elements: int
    shares: tuple[float, ...]
    teacher: Teacher | None
    origin: str
    context_bits: float
    choices: tuple[LinkChoice, ...]

    @property
    def mesh(self) -> Mesh:
        """The devices."""
        return self.task.mesh

    @property
    def schedule(self) -> Schedule:
        """The pipeline schedule of a training step."""
        return dataclasses.replace(self.task.schedule, microbatches=self.config.parts)

    @abc.abstractmethod
    def batch(self, index: int) -> Batch:
        """Return one batch, by microbatch."""

    @abc.abstractmethod
    def predict_all(self, params: PyTree) -> None:
        """Run the model on all held-out data, as `evaluate_all` does, to be timed."""

    def with_teacher(self, batch: Batch) -> Batch:
        """Return the batch with the targets of the teacher; without a teacher, the same batch."""
        return batch if self.teacher is None else self.teacher.teach(batch)

    def teacher_section(self) -> dict:
        """Return what the teacher sends for one step, which is not in the traffic of the step."""
        if self.teacher is None:
            return {}
        sent = self.teacher.traffic(self.batch(0)).sent_bytes
        return {"teacher": {"run": self.config.init_from, "bytes_per_step": self.config.accumulate * sent}}

    def extra(self) -> dict:
        """Return the state of each stage's rate penalty."""
        return {"penalty": self.task.penalty.init(self.mesh.shape[STAGE])} if self.task.penalty else {}

    def optimizer(self, rule: optax.GradientTransformation) -> optax.GradientTransformation:
        """Return the rule, after an average over data replicas where they send spikes."""
        return self.task.with_average(rule)

    def decayed(self, params: PyTree) -> PyTree:
        """Return the parameters without what codecs learn: decay would pull thresholds toward 1."""
        without = self.task.stages.without_codecs
        return without(params) if self.config.local_steps is None else jax.vmap(without)(params)

    def rounds(self) -> LocalRounds | None:
        """Return how replicas exchange their parameters after local steps."""
        if self.config.local_steps is None:
            return None
        task, outer = self.task, outer_optimizer(self.config.outer_lr, self.config.outer_momentum)
        return LocalRounds(task.mesh, task.data_codec, task.specs, outer, task.stages.gradient_sizes)

    def loss_and_gradient(self, params: PyTree, batch: Batch, extra: dict) -> tuple[tuple[Array, Telemetry], PyTree]:
        """Return nats per label, what left each stage, and the gradient."""
        (losses, seen), gradient = self.losses_and_gradient(params, batch, extra)
        return (self.task.total(losses), seen), gradient

    def losses_and_gradient(self, params: PyTree, batch: Batch, extra: dict) -> tuple[tuple[Array, Telemetry], PyTree]:
        """Return the part of each device in the nats per label, what left each stage, and the gradient."""
        return self.task.losses_and_gradient(params, batch, extra.get("penalty"))

    def loss_and_norm(self, losses: Array, gradient: PyTree) -> tuple[Array, Array]:
        """Return nats per label, and the norm of the gradient."""
        return self.task.loss_and_norm(losses, gradient)

    def update_extra(self, extra: dict, seen: Telemetry, progress: Array) -> dict:
        """Return the penalties' state after a step that sent this many bits per element."""
        if self.task.penalty is None:
            return extra
        return {"penalty": self.task.penalty.update(extra["penalty"], self._measured(seen), progress)}

    def threshold_step(self, params: PyTree, seen: Telemetry, progress: Array) -> PyTree:
        """Return the parameters with the thresholds of each stage that sends moved towards the budget."""
        if self.task.penalty is None:
            return params
        by = self.task.penalty.threshold_step(self._measured(seen), seen.saturation, progress)
        return self.task.stages.raise_thresholds(params, by.at[-1].set(0.0))

    def _measured(self, seen: Telemetry) -> Array:
        return seen.bits_per_element * jnp.asarray(self.shares)

    def not_finite(self, params: PyTree, batch: Batch) -> Array:
        """Return how many numbers that leave each stage are NaN or infinite."""
        return self.task.not_finite(params, batch)

    def prune(self, params: PyTree, least_rate: float) -> tuple[PyTree, dict]:
        """Return the parameters with rarely firing channels masked, judged on the first batch; and what that saves."""
        sample = self.batch(0)
        masked = pruning.masked(self.task, params, sample, least_rate=least_rate)
        return masked, {"pruned": pruning.section(self.task, masked, sample)}

    def thresholds(self, params: PyTree) -> dict:
        """Return the mean threshold of each boundary, for the metrics; empty where there are none."""
        means = self.task.stages.thresholds(params)
        return {"threshold_mean": means[:-1]} if len(means) > 1 else {}


def build(
    config: Settings,
    network: MakeNetwork,
    inputs: jax.ShapeDtypeStruct,
    sample: Callable[[], Array],
    make_links: MakeLinks = links_of,
    token_bits: Callable[[], float] = lambda: 0.0,
) -> Built:
    """Divide the model of a config over its devices.

    Args:
      config: of the run.
      network: returns the model of a config, of this one or of the one it starts from.
      inputs: shape and dtype of one row.
      sample: returns some rows to calibrate boundaries on.
      make_links: returns what crosses between stages.
      token_bits: returns the bits that it takes to send a token, where inputs are tokens.

    Raises:
      UsageError: for links, layouts, sizes or a start that cannot work; the message names the fix.
    """
    emulate_devices(devices_here(config.devices))
    _check_accelerators(config.devices)
    context_bits = token_bits() / config.width if config.reads_tokens else 0.0
    links, layout = make_links(config, context_bits), config.device_layout
    model, own = _held_here(config, network)
    choices = choices_of(config, links, model, inputs)
    kept = kept_codecs(config, links, choices)
    start_bits = None if kept.forward is None and links.codec is not None else links.start_bits
    links = dataclasses.replace(links, codec=kept.forward, grad_codec=kept.backward, start_bits=start_bits)
    if config.compute == "bf16":
        compute_in(model, jnp.dtype("bfloat16"))
    widths = [model.width(place) for place in cuts(model, layout.pipeline)]
    task, params = assemble.build(
        model,
        layout,
        links.codec,
        links.grad_codec,
        schedule=OneFOneB if config.pipeline_schedule == "1f1b" else GPipe,
        remat=None if config.remat == "none" else "full",
        data_codec=kept.averages,
        region_codecs=kept.regions,
        local=config.local_steps is not None,
        transform=links.transform,
        penalty=links.penalty,
        rngs=nnx.Rngs(config.seed + 1),
        own=own,
    )
    origin = ""
    if config.init_from is not None:
        params = task.place(weights_of(Path(config.init_from), config, links, network, task.stages, params))
        origin = _fingerprint(params)
        task, params = _calibrated(task, params, config, links, widths, sample)
    shares = _shares(task, params)
    teacher = teacher_of(config, lambda dense: build(dense, network, inputs, sample)[:2])
    if teacher is not None and config.teacher is not None:
        origin += f" {_fingerprint(teacher.params)}"
    elements = crossing_elements(config, model, inputs)
    return Built(task, params, elements, shares, teacher, origin, context_bits, choices)


def _check_accelerators(devices: int) -> None:
    """Emulated devices are those of a CPU: an accelerator has as many as it has."""
    there = jax.devices()
    if there[0].platform != "cpu" and len(there) < devices:
        raise UsageError(
            f"--devices {devices}: there are {len(there)} ({there[0].platform}): use --devices {len(there)}, or "
            "emulate them on the CPU with JAX_PLATFORMS=cpu"
        )


def _held_here(config: Settings, network: MakeNetwork) -> tuple[Network, OwnBlocks | None]:
    """The model, of which one of several processes holds its part; whole where weights of another run are read whole.

    Raises:
      UsageError: if processes have made different parameters.
    """
    if count() == 1 or config.init_from is not None:
        return network(config), None
    own = own_blocks(lambda: network(config), config.device_layout.make_mesh(), jax.local_devices())
    model = network(config, own)
    require_same_hashes("first parameter", own.hashes)
    return model, own


def _calibrated(
    task: Task, params: PyTree, config: Settings, links: Links, widths: list[int], sample: Callable[[], Array]
) -> tuple[Task, PyTree]:
    """Calibrate boundaries on the activations of trained weights; those that the other run had keep what they are.

    Frequency tables are fitted only with a transform: then a resumed run needs the run it started from anyway. A model
    divided along `tensor` computes its activations on its mesh only, so its thresholds start where the link says.
    """
    if links.start_bits is None or config.device_layout.tensor > 1:
        return task, params
    rows = sample()
    if not inherits(Path(config.init_from or ""), links, widths):
        params = assemble.calibrated(task, params, rows, bits=links.start_bits)
    return (assemble.with_learned_book(task, params, rows) if config.has_transform else task), params


def _shares(task: Task, params: PyTree) -> tuple[float, ...]:
    """Numbers sent for each element of the stream, by stage."""
    found: list[float] = []
    jax.eval_shape(lambda params: found.extend(b.share for b in task.stages.join(params)[1]), params)
    return tuple(found)


def _fingerprint(params: PyTree) -> str:
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(params):
        digest.update(on_host(leaf).tobytes())
    return digest.hexdigest()
