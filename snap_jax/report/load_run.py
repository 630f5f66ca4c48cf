"""Read and check a run directory.

`result.json` is required. Other files may be missing; the report then leaves them out. A malformed file is an error.
"""

import dataclasses
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snap_jax.errors import UsageError
from snap_jax.report.json_checks import Fields, parse
from snap_jax.report.run_data import (
    BoundaryBytes,
    Cost,
    ImageSpikes,
    LogLine,
    Price,
    Pruning,
    RunData,
    StepOrder,
    TextSpikes,
)
from snap_jax.report.seeds import averaged_over_seeds

_MOST = 2**28  # bytes of spikes that are unpacked; those of a page take some megabytes
_TORN = (EOFError, zipfile.BadZipFile, zlib.error, RuntimeError)  # the last of an encrypted one


def read_runs(paths: Sequence[Path]) -> tuple[RunData, ...]:
    """Return the runs in these directories, in order and without repetitions, each with a label of its own.

    Runs that differ in nothing but their seed become one, their mean.

    Raises:
      UsageError: no paths, or one that is not a run directory or holds a malformed file.
    """
    if not paths:
        raise UsageError("report of no runs: give at least one run directory")
    runs = averaged_over_seeds([_read(Path(path)) for path in {Path(p).resolve(): p for p in paths}.values()])
    labels = _labels(runs)
    return tuple(dataclasses.replace(run, label=label) for run, label in zip(runs, labels, strict=True))


def _labels(runs: tuple[RunData, ...]) -> list[str]:
    """Return the link of each run, with only as much added as tells the runs apart."""
    names: list[Callable[[RunData], str]] = [
        lambda run: str(run.config.get("link", run.folder)),
        lambda run: f"{run.config.get('link', run.folder)} / {run.config.get('grad_link')}",
        lambda run: f"{run.config.get('mode', 'hybrid')} {run.config.get('link', run.folder)}",
        lambda run: f"{run.config.get('link', run.folder)}, {run.config.get('layout', 'pipeline')}",
        lambda run: f"{run.config.get('link', '')} ({run.folder})",
    ]
    for name in names:
        labels = [name(run) for run in runs]
        if len(set(labels)) == len(labels):
            return labels
    return [f"{run.config.get('link', '')} ({run.folder}, {i})" for i, run in enumerate(runs, start=1)]


def _read(path: Path) -> RunData:
    file = path / "result.json"
    if not file.is_file():
        raise UsageError(f"{path} is not a run directory, it has no result.json: give the --out of a finished run")
    return _run(path, parse(file, _text(file)))


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {file} ({error}): run the training again") from error


def _run(path: Path, top: Fields) -> RunData:
    quality, wire, baselines = top.section("quality"), top.section("wire"), top.section("baselines")
    costs = top.section("cost")
    return RunData(
        path=path,
        label="",
        metric=quality.text("metric"),
        value=quality.number("value"),
        n=quality.size("n"),
        forward_bytes=wire.size("forward_bytes_per_step"),
        backward_bytes=wire.size("backward_bytes_per_step"),
        bits=_bits(wire),
        most_bits=_most_bits(wire),
        entropy=wire.maybe_number("entropy_bits_per_element"),
        firing_rate=wire.maybe_number("firing_rate"),
        boundaries=tuple(_boundary(fields) for fields in wire.items("by_boundary")),
        costs={system: _cost(costs.section(system)) for system in costs.data},
        config=top.section("config").data,
        versions=top.section("versions").data,
        seconds=top.maybe_number("seconds"),
        order0=baselines.maybe_number("order0_bits_per_byte"),
        gzip=baselines.maybe_number("gzip_bits_per_byte"),
        command=top.maybe_text("command"),
        majority=baselines.maybe_number("majority_class_percent"),
        pruned=_pruned(top.section("pruned")),
        logs=_logs(path / "metrics.jsonl"),
        spikes=read_spikes(path / "spikes.npz"),
        made=_made(top.section("made")),
        order=_order(top.section("timeline")),
    )


def _made(fields: Fields) -> dict[str, str]:
    known = {name: fields.maybe_text(name) for name in ("date", "commit", "devices")}
    return {name: value for name, value in known.items() if value is not None}


def _order(fields: Fields) -> StepOrder | None:
    if not fields.data:
        return None
    devices, microbatches = fields.size("devices"), fields.size("microbatches")
    times = fields.size("forward_s"), fields.size("backward_s")
    return StepOrder(fields.text("kind"), int(devices), int(microbatches), *times, fields.text("unit"))


def _boundary(fields: Fields) -> BoundaryBytes:
    return BoundaryBytes(
        fields.text("path"),
        fields.size("forward_bytes"),
        fields.size("backward_bytes"),
        fields.maybe_number("firing_rate"),
        fields.maybe_number("entropy_bits"),
    )


def _bits(wire: Fields) -> float | None:
    """Return the measured bits, with context tokens; the compiled number if payloads have one size (it has headers)."""
    sent = wire.maybe_number("budget_bits_per_element")
    sent = wire.maybe_number("bits_per_element") if sent is None else sent
    most = _most_bits(wire)
    return most if sent is None or most is None or sent > 0.95 * most else sent


def _most_bits(wire: Fields) -> float | None:
    most = wire.maybe_number("max_bits_per_element")
    return wire.maybe_number("bits_per_element") if most is None else most


def _pruned(fields: Fields) -> Pruning | None:
    channels, nbytes = fields.maybe_range("channels"), fields.maybe_range("payload_bytes")
    return None if channels is None or nbytes is None else Pruning(channels, nbytes)


def _cost(fields: Fields) -> Cost:
    return Cost(
        fields.maybe_range("energy_j_per_step"),
        fields.maybe_text("energy_note"),
        fields.maybe_range("latency_s_per_step"),
        fields.maybe_text("latency_note"),
        fields.maybe_range("sent_energy_j_per_step"),
        fields.maybe_range("sent_latency_s_per_step"),
        {name: _price(fields.section("parts").section(name)) for name in fields.section("parts").data},
    )


def _price(fields: Fields) -> Price:
    return Price(fields.maybe_range("energy_j_per_step"), fields.maybe_range("latency_s_per_step"))


def _logs(file: Path) -> tuple[LogLine, ...]:
    if not file.exists():
        return ()
    lines = enumerate(_text(file).split("\n"), start=1)
    logs = [_log(parse(file, line, number)) for number, line in lines if line.strip()]
    latest = {log.step: log for log in logs}  # a resumed run logs some steps again
    return tuple(latest[step] for step in sorted(latest))


def _log(fields: Fields) -> LogLine:
    return LogLine(
        fields.size("step"),
        fields.maybe_number("loss_bits"),
        fields.maybe_number("heldout_bits"),
        fields.maybe_number("heldout_accuracy_percent"),
        fields.maybe_number("entropy_bits_per_element"),
        fields.maybe_number("firing_rate"),
        fields.maybe_numbers("threshold_mean"),
    )


def read_spikes(file: Path) -> TextSpikes | ImageSpikes | None:
    """Return the spikes in `spikes.npz`; None if there is no such file.

    Raises:
      UsageError: the file is damaged, or holds something else.
    """
    if not file.exists():
        return None
    try:
        with np.load(file, allow_pickle=False) as kept:
            if (size := sum(part.file_size for part in kept.zip.infolist())) > _MOST:
                raise ValueError(f"it unpacks to {size:,} bytes")
            arrays = {name: kept[name] for name in kept.files}
        return _image_spikes(arrays) if "image" in arrays else _text_spikes(arrays)
    except (OSError, LookupError, TypeError, AttributeError, ValueError, MemoryError, *_TORN) as error:
        raise UsageError(f"cannot read {file} ({error}): run the training again, or delete it") from error


def _text_spikes(arrays: Mapping[str, NDArray]) -> TextSpikes:
    text, spikes = arrays["text"], arrays["spikes"]
    if text.dtype != np.uint8 or spikes.dtype.kind != "i" or spikes.ndim != 3 or text.shape != spikes.shape[1:2]:
        raise ValueError(f"{_found('text', text, spikes)}, not uint8[T] and int[boundaries, T, channels]")
    return TextSpikes(text, spikes)


def _image_spikes(arrays: Mapping[str, NDArray]) -> ImageSpikes:
    image, label = arrays["image"], arrays["label"]
    apart = [f"spikes_{n}" for n in range(1, len(arrays) - 1)]
    # One array if all boundaries have one shape.
    boundaries = tuple(arrays["spikes"]) if "spikes" in arrays else tuple(arrays[name] for name in apart)
    for spikes in boundaries:
        if image.dtype != np.uint8 or image.ndim != 3 or spikes.dtype.kind != "i" or spikes.ndim != 4 or label.ndim:
            wanted = "uint8[height, width, colors] and for each boundary int[time steps, rows, columns, channels]"
            raise ValueError(f"{_found('image', image, spikes)}, not {wanted}")
    return ImageSpikes(image, int(label), boundaries)


def _found(name: str, shown: NDArray, spikes: NDArray) -> str:
    return f"{name} {shown.dtype}{list(shown.shape)} and spikes {spikes.dtype}{list(spikes.shape)}"
