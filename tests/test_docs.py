"""Every page of docs/ runs from top to bottom, as a reader would type it, and prints what stands below each block."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGES = sorted((Path(__file__).parents[1] / "docs").glob("*.md"))
BLOCK = re.compile(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", flags=re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_prints_what_it_says(page):
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    assert blocks
    mark = "--- next block ---"
    code = f"\nprint({mark!r})\n".join(code for code, _ in blocks)
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    printed = ["\n".join(line.rstrip() for line in part.strip().splitlines()) for part in ran.stdout.split(mark)]
    assert printed == [expected.strip() for _, expected in blocks]
