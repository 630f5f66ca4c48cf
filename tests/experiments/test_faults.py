"""The page of faults: each row is that of a case, and what was lost is measured from what was printed and saved."""

import re
from pathlib import Path

import pytest

from experiments import fault_page
from experiments.fault_cases import CASES
from experiments.fault_runs import Case, Ended, Place, State, lost, shown

ROOT = Path(__file__).parents[2]


def case(start):
    return Case("a", "a", "", "", lambda _: Ended(0, ""), start)


def test_the_page_has_the_rows_that_were_printed_and_no_others():
    rows = fault_page.kept()
    names = {case.name for case in CASES}
    assert (ROOT / "docs" / "faults.md").read_text(encoding="utf-8") == fault_page.page(rows)
    assert len(names) == len(CASES)
    assert rows.keys() <= names
    assert len(rows) >= 40


def test_no_fault_lost_files_of_others_or_more_than_the_steps_since_a_save():
    """A checkpoint is saved every 10 steps; a run whose checkpoints are all deleted or damaged has no other copy."""
    gone = {"all-damaged", "removed", "removed-saved", "saved-file"}
    for name, row in fault_page.kept().items():
        assert not str(row["said"]).startswith("**"), name
        assert not str(row["lost"]).startswith("**"), name
        steps = re.match(r"(\d+) step", str(row["lost"]))
        assert steps is None or int(steps[1]) <= 20 or name in gone, name


@pytest.mark.parametrize(
    ("start", "text", "found"),
    [
        (State.STOPPED, "resumed at step 20 of 60\nstep 30 of 60", "1 step"),
        (State.STOPPED, "resumed at step 21 of 60", "nothing"),
        (State.NOTHING, "step 10 of 60\nstep 20 of 60\nresumed at step 10 of 60", "10 steps"),
        (State.NOTHING, "train: the loss is nan at step 3: use a lower", "2 steps"),
        (State.NOTHING, "cannot write", "nothing"),
        (State.STOPPED, "cannot write", "21 steps"),
    ],
)
def test_lost_are_the_steps_that_are_done_again(start, text, found, tmp_path):
    assert lost(case(start), Ended(2, text), Place(tmp_path / "run", tmp_path)) == found


def test_files_of_others_count_as_lost(tmp_path):
    assert (
        lost(case(State.NOTHING), Ended(2, "", harmed=("thesis.tex",)), Place(tmp_path, tmp_path)) == "**thesis.tex**"
    )


def test_a_message_is_shown_without_what_differs_from_run_to_run(tmp_path):
    place = Place(tmp_path / "run", tmp_path)
    text = f"noise\nsnap-jax: {place.out} is in use: process 12 on a.b, since 2026-01-01 12:00+00:00, holds run.lock\n"
    assert shown(text, "is in use", place) == "DIR is in use: process NUMBER on HOST, since TIME, holds run.lock"
    assert shown(text, "is not there", place) is None
