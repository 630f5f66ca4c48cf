"""Training: from a `Config` to a run directory.

Law: wire bytes in the result are those of the compiled program of the very step that ran.

A run directory holds `metrics.jsonl` (written as it goes), `traffic.json`, `spikes.npz`, `checkpoints/final` and, last
of all, `result.json`: if that is there, the run is complete.
"""

import dataclasses
import functools
import json
import math
import operator
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

from snap_jax import mesh
from snap_jax.config import Config, command
from snap_jax.data import text
from snap_jax.errors import UsageError
from snap_jax.models import rwkv
from snap_jax.results import cost_section, environment, spike_statistics, wire_section
from snap_jax.specs import parse_link
from snap_jax.tasks import language
from snap_jax.telemetry import Telemetry
from snap_jax.traffic import Traffic, trace_compiled

_EVALUATED_AT_ONCE = (4, 8)  # microbatches, windows each


@dataclasses.dataclass(frozen=True)
class Progress:
    """Where a run stands; losses in bits a byte, time in seconds; at step 0 all is checked and nothing known."""

    step: int
    steps: int
    loss_bits: float = math.nan
    bits_per_element: float = math.nan
    seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Everything a run needs, checked before anything is written."""

    config: Config
    corpus: text.Corpus
    heldout: np.ndarray
    task: language.Task
    params: PyTree
    optimizer: optax.GradientTransformation


def prepare(config: Config) -> Prepared:
    """Loads the data and builds the task; every mistake of the user is found here.

    Raises:
      UsageError: for data, links, chips or sizes that cannot be; the message names the fix.
    """
    codec, grad_codec = parse_link(config.link), parse_link(config.backward_link)
    corpus = text.load(config.data)
    text.windows(corpus.train, config.window)
    heldout = spread(text.windows(corpus.heldout, config.window), config.heldout_bytes)
    mesh.emulate(config.chips)
    die_mesh = mesh.make({language.AXIS: config.chips})
    size = rwkv.Config(config.layers, config.width, config.heads, chunk=math.gcd(config.window, 32))
    task, params = language.build(size, die_mesh, codec, grad_codec, seed=config.seed)
    params = jax.device_put(params, NamedSharding(die_mesh, PartitionSpec(language.AXIS)))
    return Prepared(config, corpus, heldout, task, params, optimizer(config))


def spread(windows: np.ndarray, most_bytes: int) -> np.ndarray:
    """At most `most_bytes` worth of windows, evenly spread and in order; all of them for 0.

    >>> spread(np.arange(20).reshape(10, 2), 4)[:, 0].tolist()
    [0, 6, 12, 18]
    """
    count = min(len(windows), max(1, most_bytes // (windows.shape[1] - 1))) if most_bytes else len(windows)
    return windows[np.linspace(0, len(windows) - 1, count).round().astype(int)]


def optimizer(config: Config) -> optax.GradientTransformation:
    """AdamW under a norm clip; linear warm-up over 5 % of the steps, then a cosine to 5 % of the peak."""
    peak = config.learning_rate
    warmup = max(1, config.steps // 20)
    schedule = optax.warmup_cosine_decay_schedule(0.0, peak, warmup, max(config.steps, warmup + 1), 0.05 * peak)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, b2=0.98, weight_decay=0.01))


def train(
    config: Config,
    out: Path,
    *,
    overwrite: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> dict:
    """Trains, evaluates, writes the run directory, and returns what `result.json` holds.

    Raises:
      UsageError: as `prepare`; if `out` cannot be written or holds a finished run; if the loss stops being finite.
    """
    started, on_progress = time.monotonic(), on_progress or (lambda _: None)
    prepared = prepare(config)
    claim_directory(out, overwrite)
    on_progress(Progress(0, config.steps))
    params, traffic = _fit(prepared, out, started, on_progress)
    write_atomically(out / "traffic.json", traffic.to_json())
    result = _result(prepared, params, traffic, out)
    result["seconds"] = time.monotonic() - started
    _checkpoint(out, params)
    write_atomically(out / "result.json", json.dumps(result, indent=1))
    return result


def claim_directory(out: Path, overwrite: bool) -> None:
    """Makes `out` ready to be written.

    Raises:
      UsageError: if it cannot be written, or holds a finished run and `overwrite` is off.
    """
    if (out / "result.json").exists() and not overwrite:
        raise UsageError(f"{out} already holds a finished run: choose another --out, or pass --overwrite")
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in ("result.json", "metrics.jsonl", "traffic.json", "spikes.npz", "report.html"):
            (out / name).unlink(missing_ok=True)
        (out / "metrics.jsonl").touch()
    except OSError as error:
        raise UsageError(f"cannot write to {out} ({error.strerror}): choose another --out") from error


def write_atomically(path: Path, content: str) -> None:
    """Writes a file that is either not there or complete."""
    partial = path.with_suffix(path.suffix + ".partial")
    partial.write_text(content, encoding="utf-8")
    os.replace(partial, path)


def _fit(
    prepared: Prepared, out: Path, started: float, on_progress: Callable[[Progress], None]
) -> tuple[PyTree, Traffic]:
    config, params = prepared.config, prepared.params
    state = jax.jit(prepared.optimizer.init)(params)
    step = _compile_step(prepared, state)
    traffic = trace_compiled(step, prepared.task.mesh)
    bits = wire_section(traffic, config)["bits_per_element"]
    watched = prepared.heldout[:: max(1, len(prepared.heldout) // math.prod(_EVALUATED_AT_ONCE))]
    with (out / "metrics.jsonl").open("a", encoding="utf-8") as metrics:
        for index in range(config.steps):
            params, state, loss, seen = step(params, state, microbatches_of(prepared, index))
            if index % 10 == 9 or index + 1 == config.steps:
                line = {
                    "step": index + 1,
                    "loss_bits": _finite_bits(loss, index + 1),
                    "seconds": time.monotonic() - started,
                } | spike_statistics(seen)
                if _is_milestone(index + 1, config.steps):
                    line |= _milestone(prepared, params, watched[: math.prod(_EVALUATED_AT_ONCE)])
                print(json.dumps(line | {"bits_per_element": bits}), file=metrics, flush=True)
                on_progress(Progress(index + 1, config.steps, line["loss_bits"], bits, line["seconds"]))
    return params, traffic


def _compile_step(prepared: Prepared, state: PyTree) -> jax.stages.Compiled:
    def step(params: PyTree, state: PyTree, tokens: Array) -> tuple[PyTree, PyTree, Array, Telemetry]:
        (loss, seen), gradient = prepared.task.observed_loss_and_gradient(params, tokens)
        updates, state = prepared.optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, loss, seen

    return jax.jit(step, donate_argnums=(0, 1)).lower(prepared.params, state, microbatches_of(prepared, 0)).compile()


def microbatches_of(prepared: Prepared, step: int) -> Array:
    """The tokens of one step, by microbatch; a pure function of the seed and the step."""
    config = prepared.config
    rows = text.batch(prepared.corpus.train, step=step, seed=config.seed, batch=config.batch, window=config.window)
    return _microbatches(rows, config.microbatches)


def _microbatches(rows: np.ndarray, count: int) -> Array:
    return jnp.asarray(rows.reshape(count, -1, rows.shape[1]).astype(np.int32))


def _finite_bits(loss: Array, step: int) -> float:
    bits = float(loss) / math.log(2)
    if not math.isfinite(bits):
        raise UsageError(f"train: the loss is {bits} at step {step}: lower --learning-rate")
    return bits


def _is_milestone(step: int, steps: int) -> bool:
    """Ten times a run, at multiples of ten steps, and at the end."""
    every = max(10, steps // 10 // 10 * 10)
    return step % every == 0 or step == steps


def _milestone(prepared: Prepared, params: PyTree, windows: np.ndarray) -> dict:
    line: dict = {"heldout_bits": evaluate(prepared, params, windows)[0]}
    if "log_threshold" in params.get("boundary", {}) and prepared.config.chips > 1:
        thresholds = np.exp(np.asarray(params["boundary"]["log_threshold"][...]))[:-1]
        line["threshold_mean"] = thresholds.mean(-1).tolist()
    return line


def evaluate(prepared: Prepared, params: PyTree, windows: np.ndarray) -> tuple[float, Telemetry]:
    """Bits a byte over the windows, and what left each die."""
    nats, seen = 0.0, []
    for rows, real in _in_batches(windows):
        each, batch = _evaluate_batch(prepared.task, params, _microbatches(rows, _EVALUATED_AT_ONCE[0]))
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


def _result(prepared: Prepared, params: PyTree, traffic: Traffic, out: Path) -> dict:
    config = prepared.config
    bits, seen = evaluate(prepared, params, prepared.heldout)
    if seen.symbols and config.chips > 1:
        _write_raster(prepared, params, out)
    return {
        "quality": {"metric": "bits_per_byte", "value": bits, "n": prepared.heldout[:, 1:].size},
        "wire": wire_section(traffic, config, seen),
        "cost": cost_section(traffic, config.chips),
        "baselines": {
            "order0_bits_per_byte": text.order0_bits(prepared.corpus.heldout),
            "gzip_bits_per_byte": text.gzip_bits(prepared.corpus.heldout),
        },
        "command": f"{command(config)} --out {out}",
        "config": dataclasses.asdict(config) | {"grad_link": config.backward_link},
        "versions": environment(),
    }


def _write_raster(prepared: Prepared, params: PyTree, out: Path) -> None:
    row = prepared.heldout[len(prepared.heldout) // 2][None]
    spikes = jax.jit(prepared.task.spikes)(params, _microbatches(row, 1))
    np.savez_compressed(out / "spikes.npz", text=row[0, :-1], spikes=np.asarray(spikes)[:-1, 0].astype(np.int16))


def _checkpoint(out: Path, params: PyTree) -> None:
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(out.resolve() / "checkpoints" / "final", params, force=True)
