"""Train many settings, one line of JSON each, in a file that can be continued at any time.

Every line is a run of `snap_jax.training`, the engine of `snap-jax train`, and holds the commands that repeat it.
"""

import argparse
import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from experiments.settings import dense, folder, quick, start
from snap_jax import training
from snap_jax.parallel.mesh import emulate_devices
from snap_jax.training.config import Settings, command, read_settings, written_settings

FILE = Path("runs/experiments.jsonl")
_MOST_DEVICES = 8
Line = dict[str, Any]


def parser(about: str | None, file: Path = FILE) -> argparse.ArgumentParser:
    """Return the options that every experiment has."""
    options = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--show", action="store_true", help="Train nothing; print the table of what is there.")
    options.add_argument("--quick", action="store_true", help="Train the first settings only, at a tiny size.")
    options.add_argument("--file", type=Path, default=file, help=f"Where results are kept. The default is {file}.")
    return options


def main(
    about: str | None,
    base: Settings,
    settings: Callable[[Settings], Sequence[Settings]],
    table: Callable[[Settings, Sequence[Line]], str],
    arguments: Sequence[str] | None = None,
) -> None:
    """Run an experiment from the command line: train the settings that are missing, then print the table."""
    asked = parser(about).parse_args(arguments)
    base = quick(base) if asked.quick else base
    fill(settings(base), asked)
    print(table(base, load(asked.file)))


def fill(settings: Sequence[Settings], asked: argparse.Namespace) -> None:
    """Train what is missing, as the command line asks."""
    if not asked.show:
        sweep(settings[:2] if asked.quick else settings, asked.file)


def sweep(
    settings: Sequence[Settings],
    file: Path,
    finish: Callable[[training.Trained], Line] = lambda _: {},
    say: Callable[[str], None] = print,
) -> None:
    """Train the settings that `file` does not hold yet, and append a line for each.

    Args:
      settings: what to train.
      file: of the lines.
      finish: what else a line holds, from the trained model.
      say: receives one message per run.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    emulate_devices(_MOST_DEVICES)
    keep_programs(file.parent / "programs")
    for number, config in enumerate(settings, 1):
        if find(config, load(file)) is None:
            say(f"[{number}/{len(settings)}] {command(config)}")
            line = run(config, finish)
            jax.clear_caches()  # the programs of many settings would not fit the memory maps of one process
            append(line, file)
            say(f"    {bits(line):.4f} bits, {wire_bits(line):.3f} bits per element, {line['seconds']:.0f} s")


def run(config: Settings, finish: Callable[[training.Trained], Line] = lambda _: {}) -> Line:
    """Train one setting, after the dense runs it needs; return its line."""
    needed = train_needed(config)
    trained = training.measure(config)
    return trained.result | {
        "config": written_settings(config),
        "context_bits": trained.job.context_bits,
        "commands": [*(f"{command(one)} --out {folder(one)}" for one in needed), command(config)],
    } | finish(trained)  # fmt: skip


def train_needed(config: Settings) -> list[Settings]:
    """Train the dense runs that a setting starts from or learns from, unless they are there; return their settings."""
    needed = [start(config), *([dense(config)] if config.teacher else [])]
    for one in needed:
        training.train(one, folder(one), requeue=True)
    return needed


def keep_programs(where: Path) -> None:
    """Keep compiled programs on disk, so that the next seed compiles nothing."""
    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(where.absolute()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def load(file: Path) -> list[Line]:
    """Return the lines of a file; none if it is missing. A last line that was cut short is left out."""
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True) if file.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def append(line: Line, file: Path) -> None:
    """Append a line, in place of one that was cut short."""
    whole = file.read_bytes() if file.exists() else b""
    with file.open("ab") as out:
        out.truncate(whole.rfind(b"\n") + 1)
        out.write(json.dumps(line).encode() + b"\n")


def find(config: Settings, lines: Sequence[Line]) -> Line | None:
    """Return the line of a setting."""
    return next((line for line in lines if read_settings(line["config"]) == config), None)


def seeds(config: Settings, lines: Sequence[Line], count: int) -> list[Line]:
    """Return the lines of a setting with seeds 0 to `count - 1`, as far as they are there."""
    found = [find(reseeded(config, seed), lines) for seed in range(count)]
    return [line for line in found if line is not None]


def reseeded(config: Settings, seed: int) -> Settings:
    """Return the same setting with another seed, and the dense runs of that seed."""
    config = dataclasses.replace(config, seed=seed)
    changes = {"init_from": str(folder(start(config)))}
    if config.teacher:
        changes["teacher"] = str(folder(dense(config)))
    return dataclasses.replace(config, **changes)


def bits(line: Line) -> float:
    """Return the held-out loss in bits per byte or image."""
    quality = line["quality"]
    return quality["bits_per_image"] if "bits_per_image" in quality else quality["value"]


def nats(line: Line) -> float:
    """Return the held-out loss in nats per byte or image."""
    return bits(line) * math.log(2)


def wire_bits(line: Line) -> float:
    """Return the measured bits per element that cross forward, those of the tokens that both ends need included."""
    return line["wire"]["bits_per_element"] + line["context_bits"]


def grad_bits(line: Line) -> float:
    """Return the bits per element that cross backward."""
    wire = line["wire"]
    return wire["max_bits_per_element"] * wire["backward_bytes_per_step"] / wire["forward_bytes_per_step"]
