"""The rows of the comparison table, the same for the terminal and for the page."""

import dataclasses
from collections.abc import Callable, Sequence

from snap_jax.report import number_format
from snap_jax.report.number_format import shown
from snap_jax.report.reference_run import densest
from snap_jax.report.run_data import Cost, Range, RunData
from snap_jax.report.uncertainty import measured

_UNPRICED = Cost(None, None, None, None)
_AT_MOST = "at most, as compiled"


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of the table: a cell for each run; a `minor` row compares the row above with the densest run."""

    group: str
    name: str
    cells: tuple[str, ...]
    minor: bool = False


def rows(runs: Sequence[RunData]) -> list[Row]:
    """Return all rows of the table, in order."""
    return [*_quality(runs), *_wire(runs), *_costs(runs), *_effort(runs)]


def _quality(runs: Sequence[RunData]) -> list[Row]:
    group, found = "Quality on held-out data", []
    for metric in dict.fromkeys(run.metric for run in runs):
        values = [run.value if run.metric == metric else None for run in runs]
        cells = tuple(measured(run) if run.metric == metric else number_format.NONE for run in runs)
        found.append(Row(group, number_format.metric_words(metric), cells))
        found += _qualities_against(group, runs, metric, values)
    return [*found, Row(group, "predictions measured", _cells([run.n for run in runs], number_format.whole))]


def _qualities_against(group: str, runs: Sequence[RunData], metric: str, values: Sequence[float | None]) -> list[Row]:
    if metric != number_format.ACCURACY:
        return _against(group, runs, values, number_format.change)
    at = list(runs).index(densest(runs))
    reference = values[at]
    if len(runs) < 2 or reference is None:
        return []
    points = [None if i == at or v is None else v - reference for i, v in enumerate(values)]
    return [Row(group, f"against {runs[at].label}", _cells(points, number_format.points), minor=True)]


def _wire(runs: Sequence[RunData]) -> list[Row]:
    group = "On the wire"
    bits, forward = [run.bits for run in runs], [run.forward_bytes for run in runs]
    backward = [run.backward_bytes for run in runs]
    both = [run.forward_bytes + run.backward_bytes for run in runs]
    return [
        Row(group, "bits per element", _cells(bits, number_format.short)),
        *_against(group, runs, bits, number_format.fraction),
        *_most(group, runs),
        Row(group, "entropy, bits per element", _cells([run.entropy for run in runs], number_format.short)),
        Row(group, "firing rate", _cells([run.firing_rate for run in runs], number_format.percent)),
        Row(group, "forward, bytes per step", _cells(forward, number_format.whole)),
        *_against(group, runs, forward, number_format.fraction),
        Row(group, "backward, bytes per step", _cells(backward, number_format.whole)),
        *_against(group, runs, backward, number_format.fraction),
        *_shares(group, runs),
        Row(group, "both, bytes per step", _cells(both, number_format.whole)),
        *_against(group, runs, both, number_format.fraction),
        *_pruned(group, runs),
    ]


def _shares(group: str, runs: Sequence[RunData]) -> list[Row]:
    """Return a row for gradients of replicas, which are part of the backward bytes, and one for bookkeeping."""
    parts = {
        "of them gradients of replicas": [run.gradient_bytes or None for run in runs],
        "bookkeeping, bytes per step": [run.bookkeeping_bytes for run in runs],
    }
    return [Row(group, name, _cells(sent, number_format.whole)) for name, sent in parts.items() if any(sent)]


def _most(group: str, runs: Sequence[RunData]) -> list[Row]:
    """Return a row with the largest payload, if payloads have several sizes; bytes below are those of the largest."""
    most = [run.most_bits for run in runs]
    return [Row(group, _AT_MOST, _cells(most, number_format.short))] if most != [r.bits for r in runs] else []


def _pruned(group: str, runs: Sequence[RunData]) -> list[Row]:
    """Return rows for pruned channels, if a run has any."""
    if not any(run.pruned for run in runs):
        return []
    channels = tuple("{:.0f} → {:.0f}".format(*run.pruned.channels) if run.pruned else "–" for run in runs)
    nbytes = tuple("{:,.0f} → {:,.0f}".format(*run.pruned.payload_bytes) if run.pruned else "–" for run in runs)
    return [
        Row(group, "channels on the wire, before and after pruning", channels),
        Row(group, "bytes of an evaluation, before and after pruning", nbytes),
    ]


def _costs(runs: Sequence[RunData]) -> list[Row]:
    found = []
    for system in dict.fromkeys(system for run in runs for system in run.costs):
        costs = [run.costs.get(system, _UNPRICED) for run in runs]
        group = f"Links, as {system}"
        found += _priced(group, "energy per step", [(c.sent_energy_j, c.energy_j) for c in costs], "J")
        found += _priced(group, "latency per step", [(c.sent_latency_s, c.latency_s) for c in costs], "s")
    return found


def _priced(group: str, name: str, prices: Sequence[tuple[Range | None, Range | None]], unit: str) -> list[Row]:
    """Return a row for the payloads measured, and one for the largest payloads if they differ; none without a price."""

    def cells(values: Sequence[Range | None]) -> tuple[str, ...]:
        return tuple(number_format.span(value, unit) if value else "unknown" for value in values)

    if not any(sent or most for sent, most in prices):
        return []
    rows = [Row(group, name, cells([sent or most for sent, most in prices]))]
    if any(sent and sent != most for sent, most in prices):
        rows.append(Row(group, _AT_MOST, cells([most for _, most in prices]), minor=True))
    return rows


def _effort(runs: Sequence[RunData]) -> list[Row]:
    seconds = [run.seconds for run in runs]
    return [] if not any(seconds) else [Row("Effort", "trained in", _cells(seconds, number_format.duration))]


def _cells(values: Sequence[float | None], form: Callable[[float], str]) -> tuple[str, ...]:
    return tuple(shown(value, form) for value in values)


def _against(
    group: str, runs: Sequence[RunData], values: Sequence[float | None], form: Callable[[float], str]
) -> list[Row]:
    """Return a row that compares values with that of the densest run; none for a single run or without its value."""
    at = list(runs).index(densest(runs))
    reference = values[at]
    if len(runs) < 2 or not reference:
        return []
    ratios = [None if i == at or v is None else v / reference for i, v in enumerate(values)]
    return [Row(group, f"against {runs[at].label}", _cells(ratios, form), minor=True)]
