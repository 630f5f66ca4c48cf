"""Evaluation of a trained run: the numbers of its final evaluation, on the same or on other data.

Invariant: without options, quality and bits are those of `result.json`, bit for bit.
"""

import dataclasses
import statistics
import time
from typing import Literal, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from snap_jax.boundary.telemetry import Telemetry
from snap_jax.data import image_loader, text_loader
from snap_jax.errors import UsageError
from snap_jax.inference.trained_run import TrainedRun
from snap_jax.training import language, vision
from snap_jax.training.config import LanguageConfig, VisionConfig
from snap_jax.training.language import LanguageJob
from snap_jax.training.parallel_job import ParallelJob
from snap_jax.training.result_json import spike_statistics
from snap_jax.training.vision import VisionJob

Split = Literal["heldout", "train"]
_FLOAT_BYTES = 4


class Held(NamedTuple):
    """What an evaluation found.

    Attributes:
      quality: metric, value and n, as in `result.json`.
      baselines: as there.
      bits_per_element: payload bits per element of the stream; 32 for dense links, None where nothing crosses.
      entropy_bits_per_element: order-0 entropy of the spikes; None where floats cross.
      firing_rate: share of numbers that are not 0; None where floats cross.
      payload_bytes: that crossed all boundaries, forward.
      dense_bytes: the same elements as float32.
      seconds: for all of it, compilation included.
      repeat_seconds: of each repetition, which compiles nothing.
    """

    quality: dict
    baselines: dict
    bits_per_element: float | None
    entropy_bits_per_element: float | None
    firing_rate: float | None
    payload_bytes: int
    dense_bytes: int
    seconds: float
    repeat_seconds: tuple[float, ...] = ()


def evaluate(
    run: TrainedRun,
    *,
    data: str | None = None,
    split: Split = "heldout",
    batches: int | None = None,
    repeat: int = 0,
) -> Held:
    """Evaluate a run.

    Args:
      run: from `load`.
      data: other data, named as for training; None takes that of the run.
      split: `heldout`, or `train`.
      batches: how many batches (of 32 windows or 128 images) to evaluate; None takes as much as training did.
      repeat: how often to run the model on the same data once more, for its time.

    Raises:
      UsageError: for data that cannot be read, is too short or does not fit the model; for less than one batch, or less
        than no repetition.
    """
    if repeat < 0:
        raise UsageError(f"--repeat {repeat}: use 0 or more")
    began, job = time.monotonic(), selected(run.job, data, split, batches)
    sections, seen = job.evaluate_all(run.params, None)
    return Held(
        quality=sections["quality"],
        baselines=sections["baselines"],
        seconds=time.monotonic() - began,
        repeat_seconds=tuple(_seconds(job, run.params) for _ in range(repeat)),
        **_sent(seen, job.shares),
    )


def _seconds(job: ParallelJob, params: PyTree) -> float:
    began = time.monotonic()
    job.predict_all(params)
    return time.monotonic() - began


def _sent(seen: Telemetry, shares: tuple[float, ...]) -> dict:
    """What crossed; nothing does after the last stage."""
    found = spike_statistics(seen, shares)
    senders = jax.tree.map(np.asarray, seen[:-1])
    if not found:
        names = ("bits_per_element", "entropy_bits_per_element", "firing_rate")
        return dict.fromkeys(names) | {"payload_bytes": 0, "dense_bytes": 0}
    elements = np.asarray(senders.elements, np.float64) / np.broadcast_to(shares, seen.elements.shape)[:-1]
    return found | {
        "payload_bytes": int(np.asarray(senders.sent_bytes).sum()),
        "dense_bytes": _FLOAT_BYTES * round(elements.sum()),
    }


def selected(job: ParallelJob, data: str | None, split: Split, batches: int | None) -> ParallelJob:
    """Return the job with other held-out data.

    Raises:
      UsageError: as `evaluate`.
    """
    if batches is not None and batches < 1:
        raise UsageError(f"--batches {batches}: use 1 or more")
    if isinstance(job, LanguageJob):
        return _text(job, data, split, batches)
    assert isinstance(job, VisionJob)
    return _images(job, data, split, batches)


def _text(job: LanguageJob, data: str | None, split: Split, batches: int | None) -> LanguageJob:
    config: LanguageConfig = job.config
    corpus = job.corpus if data is None else text_loader.load(data)
    text = corpus.heldout if split == "heldout" else corpus.train
    if len(text) <= config.seq_len:
        raise UsageError(
            f"--data {data or config.data} --split {split}: a text of {len(text)} bytes, windows have "
            f"{config.seq_len + 1}: use a longer text"
        )
    windows = language.spread(text_loader.windows(text, config.seq_len), config.heldout_bytes)
    corpus = dataclasses.replace(corpus, heldout=text)
    return dataclasses.replace(job, corpus=corpus, heldout=windows[: batches and batches * language.AT_ONCE])


def _images(job: VisionJob, data: str | None, split: Split, batches: int | None) -> VisionJob:
    images, config = job.images, job.config
    if data is not None:
        images = image_loader.load(data)
        ours, theirs = ((*found.train_images.shape[1:], found.classes) for found in (job.images, images))
        if ours != theirs:
            raise UsageError(f"--data {data}: height, width, channels and classes are {theirs}, the run has {ours}")
    if split == "train":
        images = dataclasses.replace(images, heldout_images=images.train_images, heldout_labels=images.train_labels)
    if batches is not None:
        most = min(batches * vision.AT_ONCE, config.heldout_images or len(images.heldout_images))
        config: VisionConfig = dataclasses.replace(config, heldout_images=most)
    return dataclasses.replace(job, config=config, images=images)


def table_rows(run: TrainedRun, held: Held, split: Split, data: str | None) -> list[tuple[str, str]]:
    """Return what an evaluation found, as pairs of a name and a number for a table."""
    quality, n = held.quality, held.quality["n"]
    rows = [
        ("data", f"{data or run.config.data} ({split})"),
        ("checkpoint", run.checkpoint),
        (quality["metric"].replace("_", " "), f"{quality['value']:.4f} of {n:,} {run.config.unit}s"),
        *((name.replace("_", " "), f"{value:.4f}") for name, value in quality.items() if name == "bits_per_image"),
        *((name.replace("_", " "), f"{value:.4f}") for name, value in held.baselines.items()),
        ("link", run.link),
    ]
    if held.bits_per_element is not None:
        rows.append(("bits per element", f"{held.bits_per_element:.4f}"))
    if held.entropy_bits_per_element is not None and held.firing_rate is not None:
        rows.append(("entropy, bits per element", f"{held.entropy_bits_per_element:.4f}"))
        rows.append(("firing rate", f"{held.firing_rate:.1%}"))
    if held.payload_bytes:
        rows.append(("bytes between stages", f"{held.payload_bytes:,}"))
        rows.append(("the same as float32", f"{held.dense_bytes:,} ({held.dense_bytes / held.payload_bytes:.1f}x)"))
    if held.repeat_seconds:
        low, middle, high = min(held.repeat_seconds), statistics.median(held.repeat_seconds), max(held.repeat_seconds)
        rows.append(("seconds of a repetition", f"{middle:.3f} ({low:.3f} to {high:.3f})"))
        rows.append((f"{run.config.unit}s per second", f"{n / middle:,.1f}"))
    return [*rows, ("seconds", f"{held.seconds:.1f}")]


def as_json(run: TrainedRun, held: Held, split: Split, data: str | None) -> dict:
    """Return the same for a file."""
    about = {"run": str(run.path), "checkpoint": run.checkpoint, "link": run.link}
    return about | {"data": data or run.config.data, "split": split} | held._asdict()
