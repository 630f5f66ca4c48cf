"""Question: what does a run say of each fault, and what is lost.

    python -m experiments.faults
    python -m experiments.faults --only two-writers truncated
    python -m experiments.faults --write
    python -m experiments.faults --write --only two-writers

One run is trained to its end, and one is stopped by SIGTERM on the way. Each fault happens to a copy of one of them, or
to a new run, and a command is run on it. It prints a row of a table for each: the fault, how the command was called,
its exit code, its message, and what was lost. That is measured: the steps that were done and that a resumed run does
again, or files of others that are gone. Faults of several processes are started without `snap-jax launch`, so that
nothing but the processes themselves ends them; with them it says how many seconds passed. Cases with `root` need its
rights. `--write` keeps the rows in `experiments/fault_rows.json`, and writes `docs/faults.md` from it.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from experiments.fault_cases import CASES
from experiments.fault_page import keep
from experiments.fault_runs import Case, Ended, Place, State, lost, shown, train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME")
    parser.add_argument("--folder", type=Path, help="keep the runs there")
    parser.add_argument("--write", action="store_true", help="keep the rows, and write docs/faults.md")
    options = parser.parse_args()
    chosen = [case for case in CASES if case.name in options.only or not options.only]
    with tempfile.TemporaryDirectory() as folder:
        rows = run_all(chosen, options.folder or Path(folder), options.write)
    sys.exit(not all(rows))


def run_all(cases: list[Case], folder: Path, write: bool) -> list[bool]:
    """Return for each case whether it ended as it should."""
    prepare(folder)
    print("| fault | called with | exit | what is said | seconds | lost |\n|---|---|---|---|---|---|", flush=True)
    return [run(case, folder, write) for case in cases]


def prepare(folder: Path) -> None:
    """A finished run, one that was stopped after its step 20, and their text."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "text.txt").write_text("".join(f"line {i % 7} of a text that repeats itself\n" for i in range(900)))
    for name, state in (("finished", State.FINISHED), ("stopped", State.STOPPED)):
        place = Place(folder / name, folder)
        if not (place.out / "run.json").exists():
            ended = train(place, stop_after="step 20 of" if state is State.STOPPED else "")
            if ended.code not in (0, 143):
                raise SystemExit(f"the {name} run ended with {ended.code}: {ended.text}")


def run(case: Case, folder: Path, write: bool) -> bool:
    """Let the fault happen to a copy, run the command, print the row."""
    if case.root and os.geteuid() != 0:
        print(f"| {case.fault} | - | - | not tried: needs root | - | - |", flush=True)
        return True
    place = Place(folder / "case" / "run", folder)
    shutil.rmtree(folder / "case", ignore_errors=True)
    place.out.parent.mkdir()
    if case.start is not State.NOTHING:
        shutil.copytree(folder / case.start.value, place.out)
    began = time.monotonic()
    row = _row(case, case.act(place), time.monotonic() - began, place)
    print("| " + " | ".join(map(str, row.values())) + " |", flush=True)
    well = not str(row["said"]).startswith("**")
    if write and well:
        keep(case.name, row)
    return well


def _row(case: Case, ended: Ended, seconds: float, place: Place) -> dict[str, str | int]:
    found = shown(ended.text, case.says, place)
    if ended.code not in case.codes or found is None:
        found = f"**expected {case.codes} and {case.says!r}**: {shown(ended.text, '', place)}"
    called = f"`{case.called}`" if case.called else ""
    seconds = round(seconds if ended.seconds is None else ended.seconds)
    row = {"fault": case.fault, "called": called, "exit": ended.code, "said": found}
    return row | {"seconds": seconds, "lost": lost(case, ended, place)}


if __name__ == "__main__":
    main()
