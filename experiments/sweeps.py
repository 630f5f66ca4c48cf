"""Sweeps: many points, a line of JSON each, in a file that can be added to at any time."""

import argparse
import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import jax

from experiments.frontier import run
from experiments.points import Point


def sweep(points: Sequence[Point], file: Path, say: Callable[[str], None] = print) -> list[dict]:
    """Runs what `file` does not hold yet; a line of JSON each, appended as it is done."""
    file.parent.mkdir(parents=True, exist_ok=True)
    keep_programs(file.parent / ".compiled")
    for number, point in enumerate(points):
        if find(point, load(file)) is None:
            say(f"[{number + 1}/{len(points)}] {point}")
            line = run(point, say)
            jax.clear_caches()  # programs of many points would not fit the memory maps of one process
            _drop_torn_line(file)
            with file.open("a", encoding="utf-8") as out:
                out.write(json.dumps(line | {"jax": jax.__version__}) + "\n")
            quality = f"{line['bits_per_byte']:.4f} bits/byte, {line['accuracy']:.2f} %"
            say(f"    {quality}, {line['wire_bits']:.3f} wire bits")
    return [line for point in points if (line := find(point, load(file))) is not None]


def keep_programs(folder: Path) -> None:
    """Programs compiled once are read from disk by the next seed."""
    jax.config.update("jax_compilation_cache_dir", str(folder.absolute()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def parser(about: str | None, file: Path) -> argparse.ArgumentParser:
    """What every experiment takes: where lines are kept, and whether to add any."""
    asking = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    asking.add_argument("--show", action="store_true", help="only show what is there")
    asking.add_argument("--file", type=Path, default=file)
    return asking


def command(about: str | None, file: Path, points: Sequence[Point], table: Callable[[Sequence[dict]], str]) -> None:
    """The command line of an experiment: runs what is missing, unless told to `--show`, and prints its table."""
    asked = parser(about, file).parse_args()
    if not asked.show:
        sweep(points, asked.file)
    print(table(load(asked.file)))


def load(file: Path) -> list[dict]:
    """The lines of a file; none if it is not there. A last line that was cut short is left out."""
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True) if file.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _drop_torn_line(file: Path) -> None:
    """What a process that was killed left half written."""
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    if text and not text.endswith("\n"):
        file.write_text(text[: text.rfind("\n") + 1], encoding="utf-8")


def find(point: Point, lines: Sequence[dict]) -> dict | None:
    """The line of a point; what a line does not say is as it is by default."""
    wanted, first = dataclasses.asdict(point), {field.name: field.default for field in dataclasses.fields(Point)}
    return next((line for line in lines if all(line.get(k, first[k]) == v for k, v in wanted.items())), None)
