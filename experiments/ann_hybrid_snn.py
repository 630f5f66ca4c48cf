"""Measure what spikes cost in quality: between devices (hybrid), or everywhere (SNN), against floats (ANN).

    python -m experiments.ann_hybrid_snn --task text      # train what is missing, then print the table
    python -m experiments.ann_hybrid_snn --task digits
    python -m experiments.ann_hybrid_snn --show           # the table of what is there

All models have the same data, steps, optimizer and seeds. A spiking model sends bit planes of its time steps.
"""

import statistics
from collections.abc import Sequence

from experiments import markdown
from experiments.paper_claims import BASELINE, base_of, groups, models, options
from experiments.settings import dense, ranked, spikes
from experiments.sweep import Line, bits, wire_bits
from snap_jax.training.config import LanguageConfig, Settings


def compared(base: Settings) -> dict[str, Settings]:
    """Return the models by name; the first is the one that the others are compared with."""
    shared = models(base)
    snn = "SNN, 4 time steps"
    if not isinstance(base, LanguageConfig):
        rank = ranked(base, 8 / 32)
        hybrids = {f"hybrid, {budget} bits": spikes(base, budget, rank=rank) for budget in (1.5, 1.0)}
        return {"ANN, fp32 links": dense(base), snn: shared[snn]} | hybrids
    mixed = {"mode": "spiking", "time_steps": 4, "token_groups": 1, "rank": ranked(base, 24 / 64), "grad_link": "bf16"}
    names = (BASELINE, "hybrid, 1 bit", snn)
    return {name: shared[name] for name in names} | {"SNN, 4 time steps, 1 bit": spikes(base, 1.0, **mixed)}


def table(found: dict[str, list[Line]]) -> str:
    """Return mean and standard deviation over seeds, and the loss increase over the first model."""
    first = next(iter(found.values()))
    text = first[0]["config"]["task"] == "language"
    base = statistics.mean(map(bits, first))
    quality = "held-out bits per byte" if text else "held-out accuracy"
    rows = [("model", "seeds", quality, "loss increase", "bits per element", "spikes per neuron and time step")]
    for name, group in found.items():
        values = spread(group, text)
        increase = markdown.percent(statistics.mean(map(bits, group)) / base - 1, 1)
        sent = f"{statistics.mean(map(wire_bits, group)):.3f}"
        rates = [line["inner_rate"] for line in group if line["inner_rate"] is not None]
        rows.append((name, str(len(group)), values, increase, sent, markdown.spread(rates, 3) if rates else "–"))
    return markdown.table(rows)


def spread(group: Sequence[Line], text: bool) -> str:
    """Return the quality of a model: bits per byte, or percent correct."""
    values = [line["quality"]["value"] for line in group]
    return markdown.spread(values, 3) if text else f"{markdown.spread(values, 2)} %"


def main(arguments: Sequence[str] | None = None) -> None:
    asked = options(__doc__, default=3).parse_args(arguments)
    found = groups(compared(base_of(asked)), asked)
    print(table(found) if found else f"no lines of these models in {asked.file} yet")


if __name__ == "__main__":
    main()
