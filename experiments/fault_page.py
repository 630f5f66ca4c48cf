"""`docs/faults.md`, from the rows that `experiments.faults` printed."""

import json
import textwrap
from pathlib import Path

from experiments.fault_cases import FILES, LINKS, PAIRS, PLACES, SETTINGS, SIGNALS, SURROUNDINGS
from experiments.fault_runs import STEPS, Case

_ROWS = Path(__file__).with_name("fault_rows.json")
_PAGE = Path(__file__).parents[1] / "docs" / "faults.md"
_HEAD = """\
# Faults

This page lists what a run says of each fault, and what is lost. It is written by
`python -m experiments.faults --write`, which makes each fault happen to a tiny run of {steps} steps and runs a command
on it: `snap-jax train language ... --out DIR` with the flags of the second column. `--only NAME...` tries some of them.
What was lost is measured: the steps that were done before the fault and that a resumed run does again, or files of
others that are gone. A checkpoint is saved every 10 steps here, and the stopped run had done 21.

A negative exit code is that of a signal; 129, 130 and 143 say that a signal stopped the run, which saved its state.
"""
_SECTIONS = (
    ("Signals, and two runs in one directory", SIGNALS),
    ("Settings", SETTINGS),
    ("Clock, terminal and surroundings", SURROUNDINGS),
    ("Disks and directories", PLACES),
    ("Files of a run and of its data", FILES),
)
_PAIRS = """
## Several processes

Seconds are those from the fault, or the end of one process, to the end of the other, without `snap-jax launch`. A row
that names no number of steps was printed before losses were measured. Links are cut in the [link lab](link-lab.md),
between a host and its switch; `lab` ends all processes when one ends.

"""
_TAIL = """
Orbax alone would let both processes wait for its time-out of 20 minutes where one of them cannot write.

`python -m experiments.kill_and_resume --processes 4 --steps 400` killed one of four processes 20 times with SIGKILL.
The others were gone at most 12 seconds later, and the run ended with the bits of a run left alone.

A process that has ended or does not answer is reported by JAX itself, which aborts the other one: exit code -6, the
message above, in its next line the number of the process (`task:1`), and lines of C++ after it. With SIGKILL in a
collective and without `snap-jax launch` that came 31 to 56 seconds later, at the latest after the 60 seconds of
`--lost-after`; `launch` says at once which process was killed. A pause that is shorter costs only its time.

"""


def keep(name: str, row: dict[str, str | int]) -> None:
    """Keep the row of a case, and write the page."""
    rows = kept() | {name: row}
    _ROWS.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n")
    _PAGE.write_text(page(rows))


def kept() -> dict[str, dict[str, str | int]]:
    """Return the rows, by the name of their case."""
    return json.loads(_ROWS.read_text()) if _ROWS.exists() else {}


def page(rows: dict[str, dict[str, str | int]]) -> str:
    """Return the page with the rows of the cases there are now."""
    text = _HEAD.format(steps=STEPS)
    for title, cases in _SECTIONS:
        text += f"\n## {title}\n\n" + _table(rows, cases, ("fault", "called", "exit", "said", "lost"))
    pairs = _table(rows, [*PAIRS, *LINKS], ("fault", "called", "exit", "said", "seconds", "lost"))
    return text + _PAIRS + pairs + _TAIL + _left_out(rows)


def _left_out(rows: dict[str, dict[str, str | int]]) -> str:
    """Which cases of the program have no row."""
    every = [*(case for _, cases in _SECTIONS for case in cases), *PAIRS, *LINKS]
    names = [f"`{case.name}`" for case in every if case.name not in rows]
    if not names:
        return ""
    return (
        textwrap.fill(
            f"Cases of the program that were not run for this page: {', '.join(names)}.", 120, break_on_hyphens=False
        )
        + "\n"
    )


def _table(rows: dict[str, dict[str, str | int]], cases: list[Case], columns: tuple[str, ...]) -> str:
    names = {"called": "called with", "said": "what is said"}
    lines = [[names.get(column, column) for column in columns], ["---"] * len(columns)]
    lines += [[str(rows[case.name][column]) for column in columns] for case in cases if case.name in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
