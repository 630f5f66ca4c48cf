"""A run directory as the training leaves it, read and checked.

Law: `result.json` is required; what else is absent is absent from the report; what is malformed is an error.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from snap_jax.errors import UsageError
from snap_jax.report.json_checks import Fields, parse
from snap_jax.report.read_spikes import read_spikes
from snap_jax.report.run_data import Boundary, Cost, Kept, Log, Run


def read_runs(paths: Sequence[Path]) -> tuple[Run, ...]:
    """Read run directories in the order given, one given twice only once, each under a label of its own.

    Raises:
      UsageError: no paths, or one that is not a run directory or holds a malformed file.
    """
    if not paths:
        raise UsageError("report of no runs: give at least one run directory")
    runs = tuple(_read(Path(path)) for path in {Path(p).resolve(): p for p in paths}.values())
    labels = _labels(runs)
    return tuple(dataclasses.replace(run, label=label) for run, label in zip(runs, labels, strict=True))


def _labels(runs: tuple[Run, ...]) -> list[str]:
    """Call runs by their link; add only as much as tells them apart."""
    names: list[Callable[[Run], str]] = [
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
    return [str(run.path) for run in runs]


def _read(path: Path) -> Run:
    file = path / "result.json"
    if not file.is_file():
        raise UsageError(f"{path} is not a run directory, it has no result.json: give the --out of a finished run")
    return _run(path, parse(file, _text(file)))


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {file} ({error}): run the training again") from error


def _run(path: Path, top: Fields) -> Run:
    quality, wire, baselines = top.section("quality"), top.section("wire"), top.section("baselines")
    costs = top.section("cost")
    return Run(
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
        kept=_kept(top.section("pruned")),
        logs=_logs(path / "metrics.jsonl"),
        spikes=read_spikes(path / "spikes.npz"),
    )


def _boundary(fields: Fields) -> Boundary:
    return Boundary(
        fields.text("path"),
        fields.size("forward_bytes"),
        fields.size("backward_bytes"),
        fields.maybe_number("firing_rate"),
        fields.maybe_number("entropy_bits"),
    )


def _bits(wire: Fields) -> float | None:
    """Measured, with the tokens that predict; the compiled number where payloads have one size, as it has headers."""
    sent = wire.maybe_number("budget_bits_per_element")
    sent = wire.maybe_number("bits_per_element") if sent is None else sent
    most = _most_bits(wire)
    return most if sent is None or most is None or sent > 0.95 * most else sent


def _most_bits(wire: Fields) -> float | None:
    most = wire.maybe_number("max_bits_per_element")
    return wire.maybe_number("bits_per_element") if most is None else most


def _kept(fields: Fields) -> Kept | None:
    channels, nbytes = fields.maybe_range("channels"), fields.maybe_range("payload_bytes")
    return None if channels is None or nbytes is None else Kept(channels, nbytes)


def _cost(fields: Fields) -> Cost:
    return Cost(
        fields.maybe_range("energy_j_per_step"),
        fields.maybe_text("energy_note"),
        fields.maybe_range("latency_s_per_step"),
        fields.maybe_text("latency_note"),
        fields.maybe_range("sent_energy_j_per_step"),
        fields.maybe_range("sent_latency_s_per_step"),
    )


def _logs(file: Path) -> tuple[Log, ...]:
    if not file.exists():
        return ()
    lines = enumerate(_text(file).split("\n"), start=1)
    logs = [_log(parse(file, line, number)) for number, line in lines if line.strip()]
    latest = {log.step: log for log in logs}  # a resumed run logs some steps again
    return tuple(latest[step] for step in sorted(latest))


def _log(fields: Fields) -> Log:
    return Log(
        fields.size("step"),
        fields.maybe_number("loss_bits"),
        fields.maybe_number("heldout_bits"),
        fields.maybe_number("heldout_accuracy_percent"),
        fields.maybe_number("entropy_bits_per_element"),
        fields.maybe_number("firing_rate"),
        fields.maybe_numbers("threshold_mean"),
    )
