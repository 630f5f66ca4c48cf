"""Options that all programs of the lab have."""

import argparse
from collections.abc import Sequence
from pathlib import Path

RATES = ("unlimited", "10gbit", "1gbit", "200mbit", "50mbit")
FILE = Path(".cache/linklab/results.jsonl")


def parser(description: str | None, rates: Sequence[str] = RATES) -> argparse.ArgumentParser:
    """Return a parser of `--rates`, `--rounds` and `--out`."""
    found = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    found.add_argument("--rates", nargs="+", default=rates, help="of all links, one after the other")
    found.add_argument("--rounds", type=int, default=5, help="in which the candidates take turns")
    found.add_argument("--out", type=Path, default=FILE, help="file to which results are appended, a line of JSON each")
    return found
