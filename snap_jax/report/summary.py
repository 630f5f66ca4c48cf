"""What the page says in words: headline, notes, settings and commands."""

import math
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from snap_jax.report import number_format
from snap_jax.report.number_format import shown
from snap_jax.report.reference_run import densest, leanest
from snap_jax.report.run_data import RunData
from snap_jax.report.uncertainty import explained, measured


def headline(runs: Sequence[RunData]) -> tuple[str, ...]:
    """Return one sentence with the main numbers, as texts and labels of runs in turn."""
    dense, lean = densest(runs), leanest(runs)
    reached = f"{_measured(lean)} on held-out {short_path(lean.config.get('data', 'data'))}"
    if not dense.bits or lean.bits is None:
        return "", lean.label, f" reaches {reached}."
    sent = f" sends {number_format.short(lean.bits)} bits per element forward between devices"
    if lean is dense:
        return "", lean.label, f"{sent}, and reaches {reached}."
    less = f"{number_format.fraction(lean.bits / dense.bits)} of the {number_format.short(dense.bits)} that "
    return (
        "",
        lean.label,
        f"{sent}, {less}",
        dense.label,
        f" sends, and reaches {reached}{_relative(lean, dense)}.",
    )


def both_ways(runs: Sequence[RunData]) -> str:
    """Return a sentence on forward and backward bytes together."""
    dense, lean = densest(runs), leanest(runs)
    total = dense.forward_bytes + dense.backward_bytes
    if lean is dense or not total:
        return ""
    ratio = number_format.fraction((lean.forward_bytes + lean.backward_bytes) / total)
    return f"Forward and backward together, {lean.label} moves {ratio} of the bytes of {dense.label}."


def notes(runs: Sequence[RunData]) -> list[str]:
    """Return notes: why a price is unknown, what simple compressors reach, and what the sign +/- is."""
    priced = [(system, cost) for run in runs for system, cost in run.costs.items()]
    energies = [f"{system}, energy: {plain(cost.energy_note)}" for system, cost in priced if cost.energy_note]
    latencies = [f"{system}, latency: {plain(cost.latency_note)}" for system, cost in priced if cost.latency_note]
    gzip = _baseline("gzip -9", {run.label: run.gzip for run in runs})
    majority = {run.majority for run in runs if run.majority is not None}
    return [
        *dict.fromkeys(energies + latencies),
        *(f"the most frequent class of the held-out images: {shown(m, '{:.2f}'.format)} %" for m in sorted(majority)),
        *gzip,
        *_baseline("order-0 entropy", {r.label: r.order0 for r in runs}),
        *filter(None, [explained(runs)]),
    ]


def plain(note: str) -> str:
    """Return a note of the cost model without the code that it advises to write.

    >>> plain("no source for pj_per_bit of link 'x'; give one: dataclasses.replace(link, pj_per_bit=Range(low, high))")
    "no source for the energy per bit of link 'x'"
    """
    note = re.sub(r"; give one: dataclasses\.replace\((?:[^()]|\([^()]*\))*\)", "", note)
    names = {"pj_per_bit": "the energy per bit", "latency_ns": "the latency", "gbyte_per_s": "the bandwidth"}
    return re.sub("|".join(names), lambda found: names[found[0]], note)


def short_path(word: object) -> str:
    """Return the last part of an absolute path, other words as they are: pages are shared, folders are private.

    >>> short_path("/home/me/texts"), short_path("stdlib"), short_path("runs/a"), short_path("~/texts")
    ('texts', 'stdlib', 'runs/a', 'texts')
    """
    said = str(word)
    return Path(said).name or said if said.startswith(("/", "~")) else said


def _baseline(name: str, values: dict[str, float | None]) -> list[str]:
    """Return what a compressor reaches on the held-out text, by run if the texts differ."""
    known = {label: shown(value, number_format.quality) for label, value in values.items() if value is not None}
    if len(set(known.values())) <= 1:
        return [f"{name} of the held-out text: {bits} bits per byte" for bits in set(known.values())]
    return [f"{name} of the text held out from {label}: {bits} bits per byte" for label, bits in known.items()]


def _measured(run: RunData) -> str:
    unit = "% accuracy" if run.metric == number_format.ACCURACY else number_format.words(run.metric)
    return f"{measured(run)} {unit}"


def _relative(run: RunData, reference: RunData) -> str:
    if run.metric != reference.metric or not reference.value:
        return ""
    against = measured(reference)
    if not math.isfinite(run.value) or not math.isfinite(reference.value):
        return f", against {against}"
    return f", {number_format.against(run.metric, run.value, reference.value)} against {against}"


def setup(runs: Sequence[RunData]) -> str:
    """Return what was trained, in one sentence; what differs between runs is left out."""
    alike = {key: value for key, value in runs[0].config.items() if key not in differing(runs) and value is not None}
    said = [
        *(str(alike[name]) for name in ("model",) if name in alike),
        *(f"{alike[name]} {name}" for name in ("devices", "layers", "steps") if name in alike),
        *(f"{name} {alike[name]}" for name in ("layout", "mode", "seed") if name in alike),
    ]
    return f"Trained: {', '.join(said)}." if said else ""


def changed(runs: Sequence[RunData]) -> list[str]:
    """Return the settings that some run's command gives, which are those that differ from their defaults."""
    flags = {word.replace("-", "_") for run in runs for word in re.findall(r"(?<=--)[a-z][a-z-]*", run.command or "")}
    keys = dict.fromkeys(key for run in runs for key in run.config)
    return [key for key in keys if key in flags or key in differing(runs)]


def differing(runs: Sequence[RunData]) -> list[str]:
    """Return the names of the settings that differ between runs."""
    keys = dict.fromkeys(key for run in runs for key in run.config)
    return [key for key in keys if len({repr(run.config.get(key)) for run in runs}) > 1]


def command(run: RunData) -> str:
    """Return the command that repeats a run: the recorded one, else one with all settings as flags.

    Absolute paths are shortened to their last part.
    """
    if run.command is not None:
        return "\n".join(_short_paths(line) for line in run.command.split("\n"))
    settings = {key: value for key, value in run.config.items() if key != "task"}
    flags = [short_path(word) for key, value in settings.items() for word in _flag(key.replace("_", "-"), value)]
    return shlex.join(["snap-jax", "train", str(run.config.get("task", "language")), *flags, "--out", run.folder])


def _short_paths(line: str) -> str:
    try:
        return shlex.join(short_path(word) for word in shlex.split(line))
    except ValueError:  # an unclosed quote: not a command of ours
        return line


def _flag(name: str, value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    return [f"--{name}", *(str(part) for part in (value if isinstance(value, list) else [value]))]
