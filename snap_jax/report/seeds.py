"""Runs of one configuration with several seeds become one: the mean, with the spread of what was measured."""

import dataclasses
import statistics
from collections.abc import Sequence

from snap_jax.report.run_data import BoundaryBytes, Cost, LogLine, Price, Range, RunData


def averaged_over_seeds(runs: Sequence[RunData]) -> tuple[RunData, ...]:
    """Return the runs in order of their first; those that differ in nothing but their seed are averaged."""
    groups: dict[str, list[RunData]] = {}
    for run in runs:
        key = repr((run.metric, sorted((k, v) for k, v in run.config.items() if k != "seed")))
        if any(other.config.get("seed") == run.config.get("seed") for other in groups.get(key, [])):
            key += str(run.path)  # the same seed again is another trial, not another seed
        groups.setdefault(key, []).append(run)
    return tuple(members[0] if len(members) == 1 else _mean(members) for members in groups.values())


def _mean(runs: Sequence[RunData]) -> RunData:
    """Return the mean of runs with several seeds; what no mean exists of, such as spikes, is that of the first."""
    first = runs[0]
    sent = ("forward_bytes", "backward_bytes", "gradient_bytes", "bookkeeping_bytes", "bits", "most_bits")
    names = ("value", *sent, "entropy", "firing_rate", "seconds")
    seeds = [run.config.get("seed") for run in runs]
    commands = [run.command for run in runs if run.command is not None]
    return dataclasses.replace(
        first,
        **{name: _number([getattr(run, name) for run in runs]) for name in names},
        boundaries=tuple(_boundary(same) for same in zip(*(run.boundaries for run in runs), strict=False)),
        costs={system: _cost([r.costs[system] for r in runs if system in r.costs]) for system in first.costs},
        logs=_logs(runs),
        config=first.config | {"seed": ", ".join(map(str, seeds))},
        command="\n".join(commands) if len(commands) == len(runs) else None,
        seeds=len(runs),
        spread=statistics.stdev(run.value for run in runs),
    )


def _number(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if len(known) == len(values) else None


def _range(ranges: Sequence[Range | None]) -> Range | None:
    lows, highs = ([None if ends is None else ends[side] for ends in ranges] for side in (0, 1))
    low, high = _number(lows), _number(highs)
    return None if low is None or high is None else (low, high)


def _boundary(same: Sequence[BoundaryBytes]) -> BoundaryBytes:
    names = ("forward_bytes", "backward_bytes", "firing_rate", "entropy_bits")
    return dataclasses.replace(same[0], **{name: _number([getattr(b, name) for b in same]) for name in names})


def _cost(costs: Sequence[Cost]) -> Cost:
    names = ("energy_j", "latency_s", "sent_energy_j", "sent_latency_s")
    shared = [name for name in costs[0].parts if all(name in cost.parts for cost in costs)]
    parts = {
        name: Price(
            _range([cost.parts[name].energy_j for cost in costs]),
            _range([cost.parts[name].latency_s for cost in costs]),
        )
        for name in shared
    }
    return dataclasses.replace(
        costs[0], parts=parts, **{name: _range([getattr(cost, name) for cost in costs]) for name in names}
    )


def _logs(runs: Sequence[RunData]) -> tuple[LogLine, ...]:
    """Return the mean at each step that all runs logged."""
    by_step = [{log.step: log for log in run.logs} for run in runs]
    steps = sorted(set(by_step[0]).intersection(*by_step[1:]))
    return tuple(_log([lines[step] for lines in by_step]) for step in steps)


def _log(same: Sequence[LogLine]) -> LogLine:
    names = ("loss_bits", "heldout_bits", "accuracy", "entropy", "firing_rate")
    heldout = [log.heldout_bits for log in same if log.heldout_bits is not None]
    return dataclasses.replace(
        same[0],
        **{name: _number([getattr(log, name) for log in same]) for name in names},
        thresholds=tuple(map(statistics.fmean, zip(*(log.thresholds for log in same), strict=False))),
        spread=statistics.stdev(heldout) if len(heldout) == len(same) > 1 else None,
    )
