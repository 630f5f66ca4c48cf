"""The job `language`: next-byte prediction on a text, by an RWKV divided over the dies of a pipeline.

Law: batches and held-out windows are those of `data.text`; what is evaluated does not depend on how it was trained.
"""

import dataclasses
import functools
import hashlib
import math
import operator
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

from snap_jax import mesh
from snap_jax.config import Config
from snap_jax.data import text
from snap_jax.models import rwkv
from snap_jax.specs import parse_link
from snap_jax.tasks import language
from snap_jax.tasks.language import calibrated
from snap_jax.telemetry import Telemetry
from snap_jax.training.budgets import around_of, budget_of
from snap_jax.training.transfer import inherits, weights_of

_EVALUATED_AT_ONCE = (4, 8)  # microbatches, windows each


@dataclasses.dataclass(frozen=True, eq=False)
class Language:
    """Everything a run needs, checked before anything is written; a `Job`."""

    config: Config
    corpus: text.Corpus
    heldout: np.ndarray
    task: language.Task
    params: PyTree

    @property
    def mesh(self) -> Mesh:
        """With the axis `die`."""
        return self.task.mesh

    @property
    def crossing_elements(self) -> int:
        """`(chips - 1) ticks microbatch window width`."""
        config = self.config
        ticks = config.microbatches + config.chips - 1
        return (config.chips - 1) * ticks * (config.batch // config.microbatches) * config.window * config.width

    def fingerprint(self) -> str:
        """SHA-256 of the text, what is learned from and what is measured on."""
        return hashlib.sha256(self.corpus.train.tobytes() + b"|" + self.corpus.heldout.tobytes()).hexdigest()

    def batch(self, index: int) -> Array:
        """The tokens of one batch, by microbatch."""
        return microbatches_of(self, index)

    def batch_name(self, index: int) -> str:
        """Seed, index and the bytes of the training text it was cut from."""
        config = self.config
        begin = text.starts(
            self.corpus.train, step=index, seed=config.seed, batch=config.batch, window=config.window
        ).tolist()
        return f"seed {config.seed}, batch {index}: {config.window + 1} bytes of the training text from {begin}"

    def extra(self) -> dict:
        """The multiplier of each die's budget."""
        return {"pressure": self.task.pressure.init(self.config.chips)} if self.task.pressure else {}

    def loss_and_gradient(self, params: PyTree, batch: Array, extra: dict) -> tuple[tuple[Array, Telemetry], PyTree]:
        """Nats a byte, what left each die, and the gradient."""
        if self.task.pressure is None:
            return self.task.observed_loss_and_gradient(params, batch)
        return self.task.pressed_loss_and_gradient(params, batch, extra["pressure"])

    def follow(self, extra: dict, seen: Telemetry, progress: Array) -> dict:
        """Multipliers that follow what the wire took, bits an element of the stream."""
        if self.task.pressure is None:
            return extra
        measured = seen.bits_per_element * self.config.share
        return {"pressure": self.task.pressure.update(extra["pressure"], measured, progress)}

    def not_finite(self, params: PyTree, batch: Array) -> Array:
        """How many numbers that left each die were NaN or infinite."""
        return self.task.not_finite(params, batch)

    def watch(self, params: PyTree) -> dict:
        """Bits a byte on windows spread over the held-out text, and the mean threshold of each boundary."""
        most = math.prod(_EVALUATED_AT_ONCE)
        windows = self.heldout[:: max(1, len(self.heldout) // most)][:most]
        line: dict = {"heldout_bits": evaluate(self, params, windows)[0]}
        if "log_threshold" in params.get("boundary", {}) and self.config.chips > 1:
            thresholds = np.exp(np.asarray(params["boundary"]["log_threshold"][...]))[:-1]
            line["threshold_mean"] = thresholds.mean(-1).tolist()
        return line

    def conclude(self, params: PyTree, out: Path) -> tuple[dict, Telemetry]:
        """Bits a byte on all held-out windows; leaves a raster of spikes over text."""
        bits, seen = evaluate(self, params, self.heldout)
        if seen.symbols and self.config.chips > 1:
            _write_raster(self, params, out)
        sections = {
            "quality": {"metric": "bits_per_byte", "value": bits, "n": self.heldout[:, 1:].size},
            "baselines": {
                "order0_bits_per_byte": text.order0_bits(self.corpus.heldout),
                "gzip_bits_per_byte": text.gzip_bits(self.corpus.heldout),
            },
        }
        return sections, seen


def prepare(config: Config) -> Language:
    """Loads the data and builds the task; every mistake of the user is found here.

    Raises:
      UsageError: for data, links, chips or sizes that cannot be; the message names the fix.
    """
    codec, grad_codec = parse_link(config.sent_link), parse_link(config.backward_link)
    corpus = text.load(config.data)
    text.windows(corpus.train, config.window)
    heldout = spread(text.windows(corpus.heldout, config.window), config.heldout_bytes)
    mesh.emulate(config.chips)
    die_mesh = mesh.make({language.AXIS: config.chips})
    size = rwkv.Config(config.layers, config.width, config.heads, chunk=math.gcd(config.window, 32))
    dtype = jnp.dtype("bfloat16") if config.compute == "bf16" else None
    around, pressure = around_of(config), budget_of(config)
    task, params = language.build(
        size, die_mesh, codec, grad_codec, seed=config.seed, dtype=dtype, around=around, pressure=pressure
    )
    if config.init_from:
        params = weights_of(Path(config.init_from), config, task.graph, params)
    if pressure is not None and not inherits(Path(config.init_from), config):
        sample = text.batch(corpus.train, step=2**31, seed=config.seed, batch=16, window=config.window)
        bits = float(pressure.target(0.0))
        params = calibrated(task, params, jnp.asarray(sample.astype(np.int32)), bits=bits)
    params = jax.device_put(params, NamedSharding(die_mesh, PartitionSpec(language.AXIS)))
    return Language(config, corpus, heldout, task, params)


def spread(windows: np.ndarray, most_bytes: int) -> np.ndarray:
    """At most `most_bytes` worth of windows, evenly spread and in order; all of them for 0.

    >>> spread(np.arange(20).reshape(10, 2), 4)[:, 0].tolist()
    [0, 6, 12, 18]
    """
    count = min(len(windows), max(1, most_bytes // (windows.shape[1] - 1))) if most_bytes else len(windows)
    return windows[np.linspace(0, len(windows) - 1, count).round().astype(int)]


def microbatches_of(job: Language, index: int) -> Array:
    """The tokens of one batch, by microbatch; a pure function of the seed and the index."""
    config = job.config
    rows = text.batch(job.corpus.train, step=index, seed=config.seed, batch=config.batch, window=config.window)
    return _microbatches(rows, config.microbatches)


def evaluate(job: Language, params: PyTree, windows: np.ndarray) -> tuple[float, Telemetry]:
    """Bits a byte over the windows, and what left each die."""
    nats, seen = 0.0, []
    for rows, real in _in_batches(windows):
        each, batch = _evaluate_batch(job.task, params, _microbatches(rows, _EVALUATED_AT_ONCE[0]))
        nats += float(np.asarray(each).reshape(-1)[:real].sum())
        seen.append(jax.tree.map(lambda a: np.asarray(a, np.int64), batch))
    return nats / math.log(2) / windows[:, 1:].size, functools.reduce(operator.add, seen)


@functools.partial(jax.jit, static_argnums=0)
def _evaluate_batch(task: language.Task, params: PyTree, tokens: Array) -> tuple[Array, Telemetry]:
    return task.evaluate(params, tokens)


def _in_batches(windows: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
    """Batches of one size; the last is filled up by repeating, and the number of real rows says so."""
    size = math.prod(_EVALUATED_AT_ONCE)
    for start in range(0, len(windows), size):
        rows = windows[start : start + size]
        yield np.resize(rows, (size, rows.shape[1])), len(rows)


def _microbatches(rows: np.ndarray, count: int) -> Array:
    return jnp.asarray(rows.reshape(count, -1, rows.shape[1]).astype(np.int32))


def _write_raster(job: Language, params: PyTree, out: Path) -> None:
    row = job.heldout[len(job.heldout) // 2][None]
    spikes = jax.jit(job.task.spikes)(params, _microbatches(row, 1))
    np.savez_compressed(out / "spikes.npz", text=row[0, :-1], spikes=np.asarray(spikes)[:-1, 0].astype(np.int16))
