"""Plots: a report as a waterfall, a sweep as curves.

Numbers without a source are not drawn; a plot that would show only such numbers raises.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from snap_jax.cost.report import Report
from snap_jax.cost.sensitivity import Balance
from snap_jax.cost.sweep import Sweep, SweepPoint
from snap_jax.cost.units import CostError, Joules, Range, Seconds
from snap_jax.cost.workload import VARIANTS, Variant
from snap_jax.errors import requires_extra

with requires_extra("cost", "snap_jax.cost.plots"):
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def waterfall(report: Report, path: Path | str) -> None:
    """Draw energy and time of each transfer, one after another, then of compute.

    Raises:
      CostError: neither energy nor latency has a source on every link in use.
    """
    quantities: list[tuple[str, list[tuple[str, Joules | Seconds]]]] = []
    if report.has_energy:
        quantities.append(("energy, J", _energies(report)))
    if report.has_latency:
        quantities.append(("time without overlap, s", _times(report)))
    if not quantities:
        raise CostError(f"waterfall: nothing to draw; {'; '.join(report.missing_energy + report.missing_latency)}")
    figure = Figure(figsize=(7, 0.5 + sum(0.6 + 0.35 * len(bars) for _, bars in quantities)), layout="constrained")
    grid = figure.subplots(len(quantities), 1, squeeze=False)
    for axes, (label, bars) in zip(grid[:, 0], quantities, strict=True):
        _stairs(axes, label, bars)
    figure.suptitle(f"Cost of one run on {report.system.name or 'the system'}")
    figure.savefig(path)


def _energies(report: Report) -> list[tuple[str, Joules | Seconds]]:
    bars: list[tuple[str, Joules | Seconds]] = [(_label(k, part), part.energy_j) for k, part in _parts(report)]
    return bars + ([("compute", report.compute.energy_j)] if report.compute else [])


def _times(report: Report) -> list[tuple[str, Joules | Seconds]]:
    bars: list[tuple[str, Joules | Seconds]] = [(_label(k, part), part.no_overlap_s) for k, part in _parts(report)]
    return bars + ([("compute", report.compute.latency_s)] if report.compute else [])


def _parts(report: Report) -> list[tuple[int, Report]]:
    return [(k, part) for k, (_, part) in enumerate(report.by_transfer())]


def _label(index: int, part: Report) -> str:
    transfer = part.parts[0].transfer
    return f"{index}: {transfer.op} {transfer.path}".strip()


def _stairs(axes: Axes, label: str, bars: list[tuple[str, Joules | Seconds]]) -> None:
    begin = 0.0
    for row, (_, value) in enumerate(bars):
        axes.barh(row, value.high, left=begin, color="tab:blue", alpha=0.4)
        axes.barh(row, value.low, left=begin, color="tab:blue")
        begin += value.high
    axes.set_yticks(range(len(bars)), [name for name, _ in bars])
    axes.invert_yaxis()
    axes.set_xlabel(f"{label} (solid: best figures, pale: worst)")


def curves(sweep: Sweep, path: Path | str) -> None:
    """Draw energy and time reduction over the one field that varies; a band from best to worst figures.

    Raises:
      CostError: more than one field varies, or no number has all its sources.
    """
    if len(sweep.varied) != 1:
        raise CostError(f"curves: {len(sweep.varied)} fields vary, {sweep.varied}; sweep one")
    drawn = [(name, reduction) for name, reduction in _REDUCTIONS if _can(sweep, reduction)]
    if not drawn:
        raise CostError("curves: no number has all its sources; print the reports to see which are missing")
    figure = Figure(figsize=(4.5 * len(drawn), 3.5), layout="constrained")
    grid = figure.subplots(1, len(drawn), squeeze=False)
    for axes, (name, reduction) in zip(grid[0], drawn, strict=True):
        for variant in VARIANTS[1:]:
            _band(axes, sweep, variant, reduction)
        axes.axhline(1, color="grey", linewidth=0.8)
        axes.set(xlabel=sweep.varied[0], ylabel=f"{name} reduction against dense")
        if all(isinstance(value, int | float) and value > 0 for value in _values(sweep)):
            axes.set_xscale("log")
        axes.legend()
    figure.savefig(path)


Reduction = Callable[[SweepPoint, Variant], Range]
_REDUCTIONS: tuple[tuple[str, Reduction], ...] = (
    ("energy", SweepPoint.energy_reduction),
    ("time", SweepPoint.time_reduction),
)


def _can(sweep: Sweep, reduction: Reduction) -> bool:
    try:
        reduction(sweep.points[0], "hybrid")
    except CostError:
        return False
    return True


def _values(sweep: Sweep) -> list[int | float | str]:
    return [sweep.values(point)[0] for point in sweep.points]


def _band(axes: Axes, sweep: Sweep, variant: Variant, reduction: Reduction) -> None:
    spans = [reduction(point, variant) for point in sweep.points]
    xs = _values(sweep)
    axes.fill_between(
        range(len(xs)) if isinstance(xs[0], str) else xs,
        [s.low for s in spans],
        [s.high for s in spans],
        alpha=0.3,
    )  # pyright: ignore[reportArgumentType]
    axes.plot(xs, [s.high for s in spans], label=variant)  # pyright: ignore[reportArgumentType]


def sensitivity(
    balances: Mapping[str, Balance], factors: Sequence[float], presets: Mapping[str, float], path: Path | str
) -> None:
    """Draw the factor saved in the whole over the energy of a multiply-accumulate, one curve a link.

    Args:
      balances: balance of energy by the name of its curve.
      factors: factors to mark as horizontal lines.
      presets: picojoules of a multiply-accumulate to mark as vertical lines, by name.
      path: file to write; its ending says the format.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    picojoules = [10 ** (k / 10) for k in range(-40, 51)]
    for name, balance in balances.items():
        axes.plot(picojoules, [balance.saved(pj * 1e-12) for pj in picojoules], label=name)
    for factor in factors:
        axes.axhline(factor, color="grey", linewidth=0.8, linestyle="--")
        axes.annotate(f"{factor}x", (picojoules[0], factor), fontsize=8, va="bottom")
    for name, pj in presets.items():
        axes.axvline(pj, color="grey", linewidth=0.8)
        axes.annotate(name, (pj, 2.5), fontsize=7, rotation=90, va="bottom", ha="right")
    axes.set(xscale="log", yscale="log", xlabel="pJ per multiply-accumulate", ylabel="factor saved in the whole")
    axes.legend()
    figure.savefig(path)
