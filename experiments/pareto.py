"""Question: what does a bit on the wire buy, for spikes and for everything they are held against.

    python -m experiments.pareto                          # what is not yet in runs/pareto.jsonl, then the tables
    python -m experiments.pareto --task digits --part 1/2 # a share, so that two processes can divide the work
    python -m experiments.pareto --show                   # tables of what is there

Every point: the same data, steps, optimizer, learned-step initialisation and calibration; see `experiments.frontier`.
"""

import dataclasses
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments import plots
from experiments.points import Point
from experiments.sweeps import find, load, parser, sweep

FILE = Path("runs/pareto.jsonl")
STEPS = {"text": 600, "digits": 500, "noisy": 500}
BUDGETS = (0.5, 1.0, 1.5, 2.0, 3.0)
SEEDS = {"text": (0, 1, 2), "digits": (0, 1, 2), "noisy": (0, 1, 2, 3)}
DIMS = {  # of `width` 64 and 32; fewer at fewer bits
    "text": {0.5: 10, 1.0: 20, 1.5: 28, 2.0: 36, 3.0: 56},
    "digits": {0.5: 4, 1.0: 8, 1.5: 12, 2.0: 16, 3.0: 24},
    "noisy": {0.5: 4, 1.0: 8, 1.5: 12, 2.0: 16, 3.0: 24},
}


def spikes(task: str, bits: float, **changes: Any) -> Point:
    """Ours."""
    point = Point(task, "spikes", bits, DIMS[task][bits], steps=STEPS[task])
    if task == "text":
        point = dataclasses.replace(point, limit=15 if bits < 3 else 31, context_tokens=4, token_groups=8)
    return dataclasses.replace(point, **changes)


def bottlenecks(task: str, budget: float, **changes: Any) -> list[Point]:
    """Learned bottlenecks with learned-step integers of 4, 3, 2 and 6 bits that take just the budget."""
    width = {"text": 64, "digits": 32, "noisy": 32}[task]
    fits = [(bits, int(budget * width / bits)) for bits in (4, 3, 2, 6)]
    return [
        dataclasses.replace(Point(task, "integer", bits, rank, steps=STEPS[task]), **changes)
        for bits, rank in fits
        if 1 <= rank <= width
    ]


def others(task: str, seed: int = 0) -> list[Point]:
    """Dense, bf16, integers with learned step and absmax, top-k."""
    steps = STEPS[task]
    links = ("bf16", "int8:absmax", "int4:absmax", "int3:absmax", "int2:absmax", "topk:0.05", "topk:0.1", "topk:0.25")
    return [
        Point(task, "dense", seed=seed, steps=steps),
        *(Point(task, "integer", bits=bits, seed=seed, steps=steps) for bits in (2, 3, 4, 8)),
        *(Point(task, link, seed=seed, steps=steps) for link in links),
    ]


def first_pass(task: str) -> tuple[list[Point], list[Point]]:
    """Seed 0 of everything: what is likely to be best at some budget, and the rest."""
    ours = [spikes(task, bits) for bits in BUDGETS]
    rivals = [bottlenecks(task, bits) for bits in BUDGETS]
    dense, *plain = others(task)
    likely = [dense, *ours, *(points[0] for points in rivals), *plain[:3]]
    return likely, [*(point for points in rivals for point in points[1:]), *plain[3:]]


def repeats(task: str, lines: Sequence[dict]) -> list[Point]:
    """More seeds of dense, of ours, and of the best rival at each budget."""
    points = []
    for seed in SEEDS[task][1:]:
        points += [Point(task, "dense", seed=seed, steps=STEPS[task])]
        for bits in BUDGETS:
            points += [spikes(task, bits, seed=seed)]
            best = best_rival(task, bits, lines)
            points += [_again(best, seed)] if best else []
    return points


def best_rival(task: str, budget: float, lines: Sequence[dict]) -> dict | None:
    """Of all that is not spikes and takes at most 2 % more than the budget, the best at seed 0."""
    fit = [
        line
        for line in lines
        if line["task"] == task
        and of_frontier(line)
        and line["method"] not in ("spikes", "dense")
        and line["seed"] == 0
        and line["wire_bits"] <= 1.02 * budget
    ]
    return min(fit, key=lambda line: line["nats"], default=None)


def of_frontier(line: dict) -> bool:
    """Whether a line is of a point as it is here: other experiments add teachers, other sizes and steps."""
    point, task = _again(line, line["seed"]), line["task"]
    if point.method == "spikes":
        return point.bits in BUDGETS and point == spikes(task, point.bits, seed=point.seed)
    return point == Point(task, point.method, point.bits, point.rank, seed=point.seed, steps=STEPS[task])


def _again(line: dict, seed: int) -> Point:
    known = {name: line[name] for name in Point.__dataclass_fields__ if name in line}
    return Point(**known | {"seed": seed})


def table(task: str, lines: Sequence[dict]) -> str:
    """Mean and spread over seeds: ours and the best rival at each budget, and how the loss against dense compares."""
    dense = [line for seed in SEEDS[task] if (line := find(Point(task, "dense", seed=seed, steps=STEPS[task]), lines))]
    base = statistics.mean(line["nats"] for line in dense)
    rows = [
        f"dense: {_spread(dense)}",
        "",
        "| budget | spikes: wire bits | quality | loss | best rival | wire bits | quality | loss "
        "| spikes / rival | nats less, by seed |",
        "|" + "---|" * 10,
    ]
    for bits in BUDGETS:
        ours = [line for seed in SEEDS[task] if (line := find(spikes(task, bits, seed=seed), lines))]
        rival = best_rival(task, bits, lines)
        theirs = [line for seed in SEEDS[task] if rival and (line := find(_again(rival, seed), lines))]
        if not ours or not theirs or rival is None:
            continue
        mean = [statistics.mean(line["nats"] for line in group) - base for group in (ours, theirs)]
        name = f"{rival['method']} {rival['bits'] or ''}" + (f" x {rival['dims']} dims" if rival["rank"] else "")
        rows.append(
            f"| {bits} | {_bits(ours)} | {_spread(ours)} | {mean[0] / base:+.1%} | "
            f"{name} | {_bits(theirs)} | {_spread(theirs)} | {mean[1] / base:+.1%} | "
            f"{mean[0] / mean[1]:.2f} | {_less(ours, theirs)} |"
        )
    return "\n".join(rows)


def _less(ours: Sequence[dict], theirs: Sequence[dict]) -> str:
    """What spikes lose less than the rival of the same seed, mean and spread: both saw the same batches."""
    rivals = {line["seed"]: line["nats"] for line in theirs}
    less = [rivals[line["seed"]] - line["nats"] for line in ours if line["seed"] in rivals]
    spread = f" ± {statistics.stdev(less):.4f}" if len(less) > 1 else ""
    return f"{statistics.mean(less):.4f}{spread}" if less else ""


def _bits(lines: Sequence[dict]) -> str:
    return f"{statistics.mean(line['wire_bits'] for line in lines):.3f}"


def _spread(lines: Sequence[dict]) -> str:
    key = "bits_per_byte" if lines[0]["task"].startswith("text") else "nats"
    values = [line[key] for line in lines]
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    unit = "bits/byte" if key == "bits_per_byte" else "nats"
    right = statistics.mean(line["accuracy"] for line in lines)
    return f"{statistics.mean(values):.4f}{spread} {unit}" + ("" if unit == "bits/byte" else f", {right:.2f} %")


def main() -> None:
    asking = parser(__doc__, FILE)
    asking.add_argument("--task", choices=("text", "digits", "noisy"), action="append")
    asking.add_argument("--part", default="1/1", help="which share of the points, such as 1/2")
    asked = asking.parse_args()
    share, shares = map(int, asked.part.split("/"))
    for task in asked.task or ("text", "noisy", "digits"):
        if not asked.show:
            for points in first_pass(task):
                sweep(points[share - 1 :: shares], asked.file)
                sweep(repeats(task, load(asked.file))[share - 1 :: shares], asked.file)
        lines = [line for line in load(asked.file) if line["task"] == task and of_frontier(line)]
        print(f"\n## {task}\n\n{table(task, lines)}")
        quality, unit = ("bits_per_byte", "bits a byte") if task == "text" else ("nats", "nats an image")
        plots.frontier(lines, task, quality, unit, asked.file.with_name(f"{task}.svg"))


if __name__ == "__main__":
    main()
