"""Question: what does a run say of each fault, how soon, and what is lost.

    python -m experiments.faults
    python -m experiments.faults --only two-writers truncated

One run is trained to its end, and one is stopped by SIGTERM on the way. Each fault happens to a copy of one of them, or
to a new run, and a command is run on it. It prints a row of a table for each: the fault, how the command was called,
its exit code, its message, how long it took, and what is lost. Faults of several processes are started without
`snap-jax launch`, so that nothing but the processes themselves ends them. Cases with `root` need its rights.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from experiments.fault_cases import CASES
from experiments.fault_runs import Case, Place, State, shown, train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME")
    parser.add_argument("--folder", type=Path, help="keep the runs there")
    options = parser.parse_args()
    chosen = [case for case in CASES if case.name in options.only or not options.only]
    with tempfile.TemporaryDirectory() as folder:
        rows = run_all(chosen, options.folder or Path(folder))
    sys.exit(not all(rows))


def run_all(cases: list[Case], folder: Path) -> list[bool]:
    """Return for each case whether it ended as it should."""
    prepare(folder)
    print("| fault | called with | exit | what is said | seconds | lost |\n|---|---|---|---|---|---|", flush=True)
    return [run(case, folder) for case in cases]


def prepare(folder: Path) -> None:
    """A finished run, and one that was stopped after its step 20."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, state in (("finished", State.FINISHED), ("stopped", State.STOPPED)):
        place = Place(folder / name, folder)
        if not (place.out / "run.json").exists():
            ended = train(place, stop_after="step 20 of" if state is State.STOPPED else "")
            if ended.code not in (0, 143):
                raise SystemExit(f"the {name} run ended with {ended.code}: {ended.text}")


def run(case: Case, folder: Path) -> bool:
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
    ended = case.act(place)
    seconds = ended.seconds if ended.seconds is not None else time.monotonic() - began
    found = shown(ended.text, case.says, place)
    well = ended.code in case.codes and found is not None
    said = found or f"**expected {case.says!r}**: {shown(ended.text, '', place)}"
    print(f"| {case.fault} | `{case.called}` | {ended.code} | {said} | {seconds:.0f} | {case.lost} |", flush=True)
    return well


if __name__ == "__main__":
    main()
