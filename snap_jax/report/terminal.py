"""The comparison as a table for the terminal."""

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import OverflowMethod
from rich.table import Table
from rich.text import Text

from snap_jax.report.load_run import read_runs
from snap_jax.report.rows import rows
from snap_jax.report.summary import notes


def table(runs: Sequence[Path]) -> Table:
    """Return a table with a column for each run directory: quality, bits, bytes per step, energy and latency.

    Raises:
      UsageError: no directories, or one with a missing or malformed result.
    """
    read = read_runs(runs)
    made = Table(box=box.SIMPLE, pad_edge=False, caption=_plain("\n".join(notes(read))), caption_justify="left")
    made.add_column("", no_wrap=True)
    for run in read:
        made.add_column(_plain(run.label, overflow="fold"), justify="right")
    group = None
    for row in rows(read):
        if row.group != group:
            made.add_section()
            made.add_row(_plain(group := row.group, "bold"))
        style = "dim" if row.minor else ""
        made.add_row(_plain(f"  {row.name}", style), *(_plain(cell, style) for cell in row.cells))
    return made


def _plain(words: str, style: str = "", overflow: OverflowMethod | None = None) -> Text:
    """Return a text as it is: no markup, and no control characters that a terminal would obey."""
    kept = "".join(sign if sign.isprintable() or sign == "\n" else " " for sign in words)
    return Text(kept, style=style, overflow=overflow)
