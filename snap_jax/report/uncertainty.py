"""How far a measured quality may be off."""

import math
from collections.abc import Sequence

from snap_jax.report import number_format
from snap_jax.report.run_data import RunData


def half_width(run: RunData) -> float | None:
    """Return what stands after the sign +/-; None if nothing is known.

    Over several seeds it is their standard deviation; else for `n` images of which a share `p` is right, half of the
    95 % interval of the normal approximation, `1.96 sqrt(p (1 - p) / n)`.
    """
    if run.seeds > 1:
        return run.spread
    share = run.value / 100
    if run.metric != number_format.ACCURACY or not 0 <= share <= 1 or not run.n or run.config.get("noise"):
        return None  # with noise, one image makes several predictions
    return 196 * math.sqrt(share * (1 - share) / run.n)


def measured(run: RunData) -> str:
    """Return the quality of a run with its uncertainty."""
    return number_format.shown(run.value, lambda value: number_format.precise(run.metric, value, half_width(run)))


def explained(runs: Sequence[RunData]) -> str:
    """Return a sentence on the sign +/- of these runs, "" without any."""
    seeds = sorted({run.seeds for run in runs if run.seeds > 1})
    said = [f"the standard deviation over {' or '.join(map(str, seeds))} seeds"] if seeds else []
    if any(run.seeds == 1 and half_width(run) is not None for run in runs):
        said.append("half of the 95 % interval for that many held-out images" + " (one seed)" * bool(seeds))
    return f"± is {', or '.join(said)}." if said else ""
