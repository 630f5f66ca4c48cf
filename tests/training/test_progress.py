"""What a run shows while it trains: a line at every evaluation in a log file, a bar on a terminal."""

import io

import pytest
from rich.console import Console

from snap_jax.training.config import LanguageConfig
from snap_jax.training.progress import Display, pace
from snap_jax.training.run import Progress


def shown(terminal, quiet=False):
    console = Console(file=io.StringIO(), width=80, force_terminal=terminal, color_system=None)
    with Display(LanguageConfig(steps=200), console, shown=not quiet) as display:  # evaluated every 20 steps
        display.progress(Progress(0, 200))
        display.progress(Progress(0, 200, seconds=100.0))  # compiling took as long
        for step in (10, 20, 30, 40, 50):
            seconds = step / 4 if step <= 20 else 5 + (step - 20) / 2
            display.progress(Progress(step, 200, 3.0, 2.0, seconds=100 + seconds, elements=4000))
        display.note("[b]a path[/x]\x1b[31m")
    return console.file.getvalue().splitlines()


def test_a_log_has_a_line_every_few_seconds_with_rates_since_the_last():
    """Four steps per second: 180 left take 45 s. Then two: 160 take 80 s. 2 bits x 4000 / 8 are 1 kB per step.

    Step 10 comes after 2.5 seconds and is no evaluation. Step 30 comes 5 seconds after step 20.
    """
    lines = [line for line in shown(terminal=False) if line.startswith("snap-jax")]
    numbers = "3.000 bits/byte, 2.00 bits/element"
    assert lines == [
        "snap-jax: step 0 of 200: compiling",
        f"snap-jax: step 20 of 200: {numbers}, 4 steps/s, 4 kB/s forward, 45 s left",
        f"snap-jax: step 30 of 200: {numbers}, 2 steps/s, 2 kB/s forward, 85 s left",
        f"snap-jax: step 40 of 200: {numbers}, 2 steps/s, 2 kB/s forward, 80 s left",
        f"snap-jax: step 50 of 200: {numbers}, 2 steps/s, 2 kB/s forward, 75 s left",
        r"snap-jax: [b]a path[/x]\x1b[31m",
    ]


def test_a_terminal_has_a_bar_and_no_such_lines():
    lines = shown(terminal=True)
    assert not any("snap-jax: step" in line for line in lines)
    assert any("50/200 steps" in line for line in lines)


@pytest.mark.parametrize("terminal", [True, False])
def test_quiet_shows_nothing(terminal):
    assert "".join(shown(terminal, quiet=True)).strip() == ""


@pytest.mark.parametrize(
    ("per_step", "expected"),
    [
        (0.001, ", 1e+03 steps/s, 1 MB/s forward, 0 s left"),
        (1.0, ", 1 steps/s, 1 kB/s forward, 90 s left"),
        (10.0, ", 0.1 steps/s, 100 B/s forward, 15 min left"),
        (1000.0, ", 0.001 steps/s, 1 B/s forward, 25 h 0 min left"),
    ],
)
def test_units_fit_the_numbers(per_step, expected):
    """10 of 100 steps, 1000 bytes each."""
    assert pace(Progress(0, 100), Progress(10, 100, 3.0, 8.0, seconds=10 * per_step, elements=1000)) == expected


def test_a_run_that_has_just_been_resumed_has_no_rate_yet():
    assert pace(Progress(0, 100), Progress(0, 100)) == ""
