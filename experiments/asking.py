"""What experiments of trials are asked on the command line, in the same words.

Law: nothing is trained that its file already holds, and with `--show` nothing at all.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from experiments import sweeps
from experiments.sweeps import keep_programs
from experiments.ways import Trial, sweep


def parser(about: str | None, file: Path, seeds: Sequence[int]) -> argparse.ArgumentParser:
    """What all experiments take, and what trials have: seeds, and a scale."""
    asking = sweeps.parser(about, file)
    asking.add_argument("--seeds", type=int, nargs="+", default=list(seeds))
    asking.add_argument("--scale", type=float, default=1.0, help="of steps and, from 2 on, of the width")
    return asking


def fill(wanted: Sequence[Trial], asked: argparse.Namespace, *, programs: bool = True) -> None:
    """Runs the trials that are missing, unless asked only to show."""
    if not asked.show:
        keep_programs(asked.file.parent / "programs")
        sweep(wanted, asked.file, programs=programs)
