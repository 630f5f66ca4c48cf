"""The README's code blocks run, and print what it says they print."""

import re
import subprocess
import sys
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.S)


def run(code):
    """In a process of its own, as a reader would paste it."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_the_first_example_prints_what_stands_below_it():
    printed = re.search(r"```python\n.*?```\s+```\n(.*?)```", README, flags=re.S)
    assert printed is not None
    assert run(BLOCKS[0]) == printed.group(1)
    assert sum(bool(line) for line in BLOCKS[0].splitlines()) <= 13


def test_the_other_examples_run():
    for block in BLOCKS[1:]:
        run(block)


def test_no_placeholder_is_left():
    assert not re.search(r"^[A-Z]+_[A-Z]+$", README, flags=re.M)
