"""Which run the others are compared with, and which count as about as good."""

import math
from collections.abc import Sequence

from snap_jax.report import number_format
from snap_jax.report.run_data import RunData

CLOSE = 1.03  # a run is close to the densest up to this factor in bits per byte
CLOSE_POINTS = 0.5  # or down to this many points of accuracy below it


def densest(runs: Sequence[RunData]) -> RunData:
    """Return the reference run: most bits per element, then most bytes forward."""
    return max(runs, key=lambda run: (-math.inf if run.bits is None else run.bits, run.forward_bytes))


def leanest(runs: Sequence[RunData]) -> RunData:
    """Return the run with the fewest bits per element, among those close to the densest if there are any."""
    dense = densest(runs)
    good = [run for run in runs if run is not dense and close(run, dense)]
    return min(good or runs, key=lambda run: (math.inf if run.bits is None else run.bits, run.forward_bytes))


def close(run: RunData, reference: RunData) -> bool:
    """Return whether a run is within 3 % of the bits per byte of another, or half a point of its accuracy."""
    if run.metric == reference.metric == number_format.ACCURACY:
        return run.value >= reference.value - CLOSE_POINTS
    return run.metric == reference.metric == "bits_per_byte" and run.value <= CLOSE * reference.value
