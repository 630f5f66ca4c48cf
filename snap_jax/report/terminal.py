"""The comparison as a table for the terminal."""

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from snap_jax.report.comparison_table import rows
from snap_jax.report.load_run import read_runs
from snap_jax.report.summary import notes


def table(runs: Sequence[Path]) -> Table:
    """Compare run directories, one column each: quality, bits, bytes per step, energy and latency.

    Raises:
      UsageError: no directories, or one with a missing or malformed result.
    """
    read = read_runs(runs)
    made = Table(box=box.SIMPLE, pad_edge=False, caption="\n".join(notes(read)), caption_justify="left")
    made.add_column("", no_wrap=True)
    for run in read:
        made.add_column(Text(run.label, overflow="fold"), justify="right")
    group = None
    for row in rows(read):
        if row.group != group:
            made.add_section()
            made.add_row(Text(group := row.group, style="bold"))
        style = "dim" if row.minor else ""
        made.add_row(Text(f"  {row.name}", style=style), *(Text(cell, style=style) for cell in row.cells))
    return made
