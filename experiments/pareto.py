"""Measure what one more bit per element buys, for spikes and for the baselines.

python -m experiments.pareto                  # train what is missing, then print the tables and draw the plots
python -m experiments.pareto --task digits    # one task
python -m experiments.pareto --show           # tables and plots of what is there

The best baseline of a fixed size is chosen at seed 0, on the held-out data that is also reported.
"""

import statistics
from collections.abc import Sequence
from itertools import chain

from experiments import pareto_plot
from experiments.markdown import percent, spread, table
from experiments.settings import BUDGETS, TASKS, bottlenecks, coded, coded_integers, dense, quick, spikes
from experiments.sweep import Line, bits, fill, find, load, nats, parser, reseeded, seeds, wire_bits
from snap_jax.training.config import Settings, read_settings

SEEDS = {"text": 3, "digits": 3, "noisy": 4}
PLAIN = ("bf16", "int8", "int4", "int3", "int2", "int8:absmax", "int4:absmax", "int3:absmax", "int2:absmax",
         "topk:0.05", "topk:0.1", "topk:0.25")  # fmt: skip


def fixed(base: Settings) -> list[Settings]:
    """Return the baselines of a fixed size: bottlenecks for each budget, and links without a transform."""
    return [*chain.from_iterable(bottlenecks(base, budget) for budget in BUDGETS), *(coded(base, x) for x in PLAIN)]


def first_seed(base: Settings) -> list[Settings]:
    """Return seed 0 of everything."""
    ours = [spikes(base, budget) for budget in BUDGETS]
    return [dense(base), *ours, *(coded_integers(base, budget) for budget in BUDGETS), *fixed(base)]


def repeats(base: Settings, lines: Sequence[Line], count: int) -> list[Settings]:
    """Return more seeds of the dense model, of spikes and coded integers, and of the best fixed baseline."""
    best = [best_fixed(base, budget, lines) for budget in BUDGETS]
    again = [
        dense(base),
        *(make(base, budget) for make in (spikes, coded_integers) for budget in BUDGETS),
        *(read_settings(line["config"]) for line in best if line),
    ]
    return [reseeded(config, seed) for seed in range(1, count) for config in dict.fromkeys(again)]


def best_fixed(base: Settings, budget: float, lines: Sequence[Line]) -> Line | None:
    """Return the baseline of a fixed size that is best at seed 0, of those within 2 % of the budget."""
    found = [line for config in fixed(base) if (line := find(config, lines)) and wire_bits(line) <= 1.02 * budget]
    return min(found, key=nats, default=None)


def comparison(base: Settings, lines: Sequence[Line], count: int) -> str:
    """Return loss increase over the dense model by budget: spikes, coded integers, best fixed baseline."""
    without = seeds(dense(base), lines, count)
    if not without:
        return "no dense run yet"
    head = ("budget", "method", "seeds", "bits per element", f"held-out bits per {base.unit}", "loss increase",
            "lower loss of spikes, nats, by seed")  # fmt: skip
    rows = [head, ("–", "dense", str(len(without)), "32", spread(list(map(bits, without)), 4), "–", "–")]
    for budget in BUDGETS:
        fixed_line, ours = best_fixed(base, budget, lines), seeds(spikes(base, budget), lines, count)
        groups = {"spikes": ours, "coded integers": seeds(coded_integers(base, budget), lines, count)}
        if fixed_line and ours:
            groups[name(fixed_line)] = seeds(read_settings(fixed_line["config"]), lines, count)
        rows += [_row(budget, title, group, without, ours) for title, group in groups.items() if group]
    return table(rows)


def _row(budget: float, title: str, group: list[Line], without: list[Line], ours: list[Line]) -> tuple[str, ...]:
    increase = statistics.mean(map(nats, group)) / statistics.mean(map(nats, without)) - 1
    sent = f"{statistics.mean(map(wire_bits, group)):.3f}"
    quality = spread(list(map(bits, group)), 4)
    return str(budget), title, str(len(group)), sent, quality, percent(increase, 1), _lower(ours, group)


def _lower(ours: Sequence[Line], theirs: Sequence[Line]) -> str:
    """By how much the loss of `ours` is lower, over the seeds of both."""
    mine = {line["config"]["seed"]: nats(line) for line in ours}
    lower = [nats(line) - mine[line["config"]["seed"]] for line in theirs if line["config"]["seed"] in mine]
    return spread(lower, 4) if lower and ours != theirs else "–"


def name(line: Line) -> str:
    """Return link and rank of a line."""
    rank = line["config"]["rank"]
    return line["config"]["link"] + (f", rank {rank}" if rank else "")


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--task", choices=tuple(TASKS), action="append", help="Which task. The default is all.")
    asked = options.parse_args(arguments)
    for task in asked.task or TASKS:
        base, count = (quick(TASKS[task]), 1) if asked.quick else (TASKS[task], SEEDS[task])
        fill(first_seed(base), asked)
        fill(repeats(base, load(asked.file), count), asked)
        lines = load(asked.file)
        print(f"\n## {task}\n\n{comparison(base, lines, count)}")
        shown = [line for config in first_seed(base) for line in seeds(config, lines, count)]
        pareto_plot.draw(shown, task, base.unit, asked.file.with_name(f"{task}.svg"))


if __name__ == "__main__":
    main()
