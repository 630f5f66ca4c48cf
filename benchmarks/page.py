"""Write docs/performance.md from the latest results: `python -m benchmarks`, then `python -m benchmarks.page`."""

from pathlib import Path

from benchmarks import results

HEAD = """# Performance

This page lists how fast the library is and how long it compiles. `make bench` measures, and `python -m benchmarks.page`
writes this page from the latest results in `.cache/benchmarks/results.jsonl`. A cell is a median, in parentheses the
quartiles over rounds. Ratios compare candidates that took turns within one run. A second `make bench` prints what
changed beyond its quartiles. What each benchmark expects stands at the top of its file in `benchmarks/`.
"""

if __name__ == "__main__":
    Path("docs/performance.md").write_text(HEAD + results.page(results.load()), encoding="utf-8")
