"""What the numbers come to, in words."""

import math
from collections.abc import Sequence

from snap_jax.report import number_format
from snap_jax.report.number_format import shown
from snap_jax.report.run_data import Run

CLOSE = 1.03  # times the bits per byte of the densest run: about as good
CLOSE_POINTS = 0.5  # of accuracy below that of the densest run: about as good


def densest(runs: Sequence[Run]) -> Run:
    """Find the run all others are held against: most bits per element, then most bytes forward."""
    return max(runs, key=lambda run: (-math.inf if run.bits is None else run.bits, run.forward_bytes))


def leanest(runs: Sequence[Run]) -> Run:
    """Find the run with the fewest bits per element; of those about as good as the densest, if any."""
    dense = densest(runs)
    good = [run for run in runs if run is not dense and close(run, dense)]
    return min(good or runs, key=lambda run: (math.inf if run.bits is None else run.bits, run.forward_bytes))


def close(run: Run, reference: Run) -> bool:
    """Whether a run is as good as another but for 3 % of its bits per byte, or half a point of accuracy."""
    if run.metric == reference.metric == number_format.ACCURACY:
        return run.value >= reference.value - CLOSE_POINTS
    return run.metric == reference.metric == "bits_per_byte" and run.value <= CLOSE * reference.value


def headline(runs: Sequence[Run]) -> tuple[str, ...]:
    """Write one sentence with the numbers that matter, as texts and labels of runs in turn."""
    dense, lean = densest(runs), leanest(runs)
    reached = f"{_measured(lean)} on held-out {lean.config.get('data', 'data')}"
    if not dense.bits or lean.bits is None:
        return "", lean.label, f" reaches {reached}."
    sent = f" sends {number_format.short(lean.bits)} bits per element forward from chip to chip"
    if lean is dense:
        return "", lean.label, f"{sent}, and reaches {reached}."
    less = f"{number_format.times(lean.bits / dense.bits)} the {number_format.short(dense.bits)} that "
    return (
        "",
        lean.label,
        f"{sent}, {less}",
        dense.label,
        f" sends, and reaches {reached}{_relative(lean, dense)}.",
    )


def both_ways(runs: Sequence[Run]) -> str:
    """Write a sentence on forward and backward together, which the headline leaves out."""
    dense, lean = densest(runs), leanest(runs)
    total = dense.forward_bytes + dense.backward_bytes
    if lean is dense or not total:
        return ""
    ratio = number_format.times((lean.forward_bytes + lean.backward_bytes) / total)
    return f"Forward and backward together, {lean.label} moves {ratio} the bytes of {dense.label}."


def notes(runs: Sequence[Run]) -> list[str]:
    """Say what the table cannot: why a price is unknown, and what simple compressors reach."""
    priced = [(system, cost) for run in runs for system, cost in run.costs.items()]
    energies = [f"{system}, energy: {cost.energy_note}" for system, cost in priced if cost.energy_note]
    latencies = [f"{system}, latency: {cost.latency_note}" for system, cost in priced if cost.latency_note]
    gzip = _baseline("gzip -9", {run.label: run.gzip for run in runs})
    majority = {run.majority for run in runs if run.majority is not None}
    return [
        *dict.fromkeys(energies + latencies),
        *(f"the most frequent class of the held-out images: {shown(m, '{:.2f}'.format)} %" for m in sorted(majority)),
        *gzip,
        *_baseline("order-0 entropy", {r.label: r.order0 for r in runs}),
    ]


def _baseline(name: str, values: dict[str, float | None]) -> list[str]:
    """Say what a compressor reaches on the held-out text, run by run where they were measured on different texts."""
    known = {label: shown(value, number_format.quality) for label, value in values.items() if value is not None}
    if len(set(known.values())) <= 1:
        return [f"{name} of the held-out text: {bits} bits per byte" for bits in set(known.values())]
    return [f"{name} of the text held out from {label}: {bits} bits per byte" for label, bits in known.items()]


def _measured(run: Run) -> str:
    return shown(run.value, lambda value: number_format.measured(run.metric, value))


def _relative(run: Run, reference: Run) -> str:
    if run.metric != reference.metric or not reference.value:
        return ""
    against = shown(reference.value, number_format.quality)
    if not math.isfinite(run.value) or not math.isfinite(reference.value):
        return f", against {against}"
    return f", {number_format.against(run.metric, run.value, reference.value)} against {against}"
