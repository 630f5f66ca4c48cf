"""Results of benchmarks as lines of JSON, and what changed since the last run.

`show` prints a table and writes each of its numbers to `FILE`, one line each: name, value, quartiles, unit, machine,
versions, commit, date. A number has changed if its quartiles and the last ones do not overlap.
"""

import dataclasses
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.timing import machine

FILE = Path(".cache/benchmarks/results.jsonl")
# Asked when the program starts: the tree may change while it measures.
_ASKED = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
COMMIT = _ASKED.stdout.strip()
_NUMBER = r"([\d,]+(?:\.\d+)?)"
_CELL = re.compile(rf"{_NUMBER}(?: \({_NUMBER}–{_NUMBER}\))?( ?%)?")
_BEST_OF = {"entropy_coding": 0.1}  # benchmarks that print the best of several rounds, and what that varies by
_NOT_MEASURED = ("target", "levels")


@dataclasses.dataclass(frozen=True)
class Result:
    """One number.

    Attributes:
      name: benchmark, table and row.
      unit: the heading of the column.
      value: the median.
      low, high: quartiles; the value itself where it was measured once.
      machine, commit, date: where, of what, when; `machine` names the versions.
    """

    name: str
    unit: str
    value: float
    low: float
    high: float
    machine: str = ""
    commit: str = ""
    date: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """What a result of another run is compared by."""
        return self.name, self.unit, self.machine


def show(console: Console, table: Table) -> None:
    """Print a table and append its numbers to `FILE`."""
    console.print(table)
    benchmark = Path(sys.argv[0]).stem
    where = {"machine": machine(), "commit": COMMIT, "date": time.strftime("%Y-%m-%d")}
    FILE.parent.mkdir(parents=True, exist_ok=True)
    with FILE.open("a", encoding="utf-8") as file:
        for result in numbers(benchmark, table):
            file.write(json.dumps(dataclasses.asdict(dataclasses.replace(result, **where))) + "\n")


def numbers(benchmark: str, table: Table) -> Iterator[Result]:
    """Yield the numbers of a table whose first column names the rows."""
    names, *columns = table.columns
    title = re.split(r" \(|[:;] ", str(table.title or names.header))[0]
    rows = [str(cell) for cell in names.cells]
    for column in columns:
        unit = str(column.header)
        for place, (row, cell) in enumerate(zip(rows, column.cells, strict=True)):
            found = _CELL.fullmatch(str(cell))
            if found and unit not in _NOT_MEASURED:
                value, low, high = (float((found[i] or found[1]).replace(",", "")) for i in (1, 2, 3))
                repeated = rows[:place].count(row)
                name = f"{benchmark}: {title}: {row}" + (f" #{repeated + 1}" if repeated else "")
                yield Result(name, unit, value, low, high)


def load(path: Path = FILE) -> list[Result]:
    """Return all results of a file, oldest first."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [Result(**json.loads(line)) for line in lines]


def changes(before: Iterable[Result], after: Iterable[Result]) -> list[str]:
    """Return a line for each result whose quartiles do not overlap with those of the last run on this machine."""
    last = {result.key: result for result in before}
    pairs = [(last[new.key], new) for new in after if new.key in last]
    return [
        f"{new.name}, {new.unit}: {old.value:g} ({old.low:g}–{old.high:g}) at {old.commit} -> "
        f"{new.value:g} ({new.low:g}–{new.high:g})"
        for old, new in pairs
        if new.high < old.low * (1 - _margin(new)) or new.low > old.high * (1 + _margin(new))
    ]


def _margin(result: Result) -> float:
    """What a number may differ by beyond its quartiles: one that is the best of several rounds has none."""
    return _BEST_OF.get(result.name.split(": ")[0], 0.0) if result.low == result.high else 0.0


def page(results: Iterable[Result]) -> str:
    """Return the latest of each result in Markdown: a section for each benchmark, and in it each of its tables."""
    lines: list[str] = []
    for benchmark, own in _grouped({(r.name, r.unit): r for r in results}.values(), 0).items():
        lines += [f"\n## {benchmark}\n", f"`python -m benchmarks.{benchmark}`, {own[0].machine}; commit"]
        lines[-1] += f" {own[0].commit}, {own[0].date}."
        for title, of_table in _grouped(own, 1).items():
            lines += ["", *_markdown(title, of_table)]
    return "\n".join(lines) + "\n"


def _grouped(results: Iterable[Result], place: int) -> dict[str, list[Result]]:
    """Return results by their benchmark (place 0), title of the table (1) or row (2)."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.name.split(": ", 2)[place], []).append(result)
    return groups


def _markdown(title: str, results: list[Result]) -> list[str]:
    """Return the lines of a table, as `show` printed it: medians, with quartiles where there are any."""
    units = list(dict.fromkeys(result.unit for result in results))
    lines = ["| " + " | ".join([title, *units]) + " |", "|---" * (1 + len(units)) + "|"]
    for row, cells in _grouped(results, 2).items():
        shown = {cell.unit: _shown(cell) for cell in cells}
        lines.append("| " + " | ".join([row, *(shown.get(unit, "") for unit in units)]) + " |")
    return lines


def _shown(result: Result) -> str:
    spread = f" ({result.low:g}–{result.high:g})" if result.low < result.high else ""
    return f"{result.value:,.10g}{spread}"
