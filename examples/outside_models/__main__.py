"""Print a table of models of others in layouts: `python -m examples.outside_models --only llama3 --layout data`."""

import argparse
import functools
import warnings
from collections.abc import Sequence

import snap_jax as snap
from examples.outside_models import cases
from examples.outside_models.measure import Row, measure

HEADER = "| model | layout | lines | loss | gradient | loss with spikes | original | bytes per step | joules per step |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is asked for."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--only", nargs="*", help="Names of models; the default is all.")
    options.add_argument("--layout", nargs="*", help="Names of layouts; the default is all.")
    asked = options.parse_args(arguments)
    warnings.filterwarnings("ignore", category=DeprecationWarning)  # of these packages
    snap.emulate_devices(4)
    print(HEADER)
    print("|---|---|---|---|---|---|---|---|---|")
    for layout, (names, run, lines, codec) in cases.all_layouts().items():
        for name in names:
            if layout in (asked.layout or [layout]) and name in (asked.only or [name]):
                print(line(name, layout, lines(name), measure(name, functools.partial(run, name), codec)), flush=True)


def line(name: str, layout: str, lines: int, row: Row) -> str:
    """Return one row of the table."""
    cells = [name, layout, str(lines), f"{row.loss_difference:.0e}", f"{row.gradient_difference:.0e}"]
    cells += [f"{row.first:.2f} -> {row.last:.2f}", f"{row.original_last:.2f}"]
    cells += [f"{row.float_bytes:,} -> {row.bytes:,}", f"{row.float_joules} -> {row.joules}"]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
