"""The comparison as tables for the terminal: as many runs beside each other as fit, and notes below."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from snap_jax.report.load_run import read_runs
from snap_jax.report.rows import Row, rows
from snap_jax.report.run_data import RunData
from snap_jax.report.summary import notes

_APART = 2  # columns between two cells


@dataclasses.dataclass(frozen=True)
class RunTables:
    """What a rich console prints for some runs; every cell is whole where one run fits.

    Attributes:
      runs: what is compared.
      rows: of the table.
    """

    runs: Sequence[RunData]
    rows: Sequence[Row]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        yield from (self._table(columns) for columns in self._fitting(options.max_width))
        yield _plain("\n".join(notes(self.runs)), "dim")

    def _fitting(self, width: int) -> Iterator[list[int]]:
        """Yield the runs of each table."""
        names = max(len(row.name) + 2 for row in self.rows)
        group: list[int] = []
        left = width - names - _APART
        for i in range(len(self.runs)):
            needs = max(len(self.runs[i].label), *(len(row.cells[i]) for row in self.rows)) + _APART
            if group and needs > left:
                yield group
                group, left = [], width - names - _APART
            group.append(i)
            left -= needs
        yield group

    def _table(self, columns: list[int]) -> Table:
        made = Table(box=box.SIMPLE, pad_edge=False)
        made.add_column("", no_wrap=True)
        for i in columns:
            made.add_column(_plain(self.runs[i].label), justify="right", overflow="fold")
        group = None
        for row in self.rows:
            if row.group != group:
                made.add_section()
                made.add_row(_plain(group := row.group, "bold"))
            style = "dim" if row.minor else ""
            made.add_row(_plain(f"  {row.name}", style), *(_plain(row.cells[i], style) for i in columns))
        return made


def table(runs: Sequence[Path]) -> RunTables:
    """Return what to print of some run directories: quality, bits, bytes per step, energy and latency.

    Raises:
      UsageError: no directories, or one with a missing or malformed result.
    """
    read = read_runs(runs)
    return RunTables(read, rows(read))


def _plain(words: str, style: str = "") -> Text:
    """Return a text as it is: no markup, and no control characters that a terminal would obey."""
    return Text("".join(sign if sign.isprintable() or sign == "\n" else " " for sign in words), style=style)
