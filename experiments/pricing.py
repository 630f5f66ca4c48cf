"""Lines of `ways`, priced on named systems: the tables of the headline.

Law: a ratio is taken between two best or two worst figures, seed by seed, and averaged; what has no source is n/a.
"""

import dataclasses
import functools
import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from experiments.sweeps import load
from experiments.ways import Trial, find
from snap_jax.cost import HOROWITZ_45NM, Joules, OperationCount, Operations, Range, Report, Seconds, named, price
from snap_jax.cost.units import ratio, span
from snap_jax.traffic import Traffic

SYSTEMS = {
    "ucie-chain": "dies in a row, UCIe standard package",
    "pcie5-ring": "boards in a ring, PCIe 5 x16 (no latency has a source: time is that of the bytes)",
    "ethernet-400g": "hosts on one switch, 400G Ethernet (no energy has a source)",
}
ASSUMED_TERA_OPS = (0.1, 1.0, 10.0, 100.0)  # of a chip; no source, a range to look at
CLAIM = {"energy": 5.3, "latency": 15.2}  # arXiv:2501.08645, abstract: "up to"
Group = Sequence[dict]


def traffic_of(line: dict, workload: str) -> Traffic:
    """What a workload moves: `pass`, `smallest` or `step`."""
    return Traffic.from_json(json.dumps(line["traffic"][workload]))


def links(line: dict, workload: str, system: str) -> Report:
    """The links alone."""
    traffic = traffic_of(line, workload)
    return price(traffic, named(system, traffic))


def operations(line: dict) -> Operations:
    """What a pass computes; of a spiking model with neurons in place of products, as SNNs are reckoned.

    A multiply-accumulate becomes an accumulate at each tick at which a neuron fires, all of them: also those that in
    truth are fed by real numbers, which favours the SNN. Ticks that lie in the batch are counted already.
    """
    counted = Operations(tuple(OperationCount(kind, dtype, times) for kind, dtype, times in line["operations"]))
    if not line["way"]["ticks"]:
        return counted
    return counted.spiking(line["inner_rate"], 1 if line["task"] == "digits" else line["way"]["ticks"])


def with_compute(line: dict, system: str, tera_ops: float) -> Report:
    """Links and what has an energy: exponentials, divisions and comparisons are left out, everywhere alike."""
    traffic, unit = traffic_of(line, "pass"), HOROWITZ_45NM
    known, _ = unit.split(operations(line))
    unit = dataclasses.replace(unit, tera_ops_per_s=Range.exactly(tera_ops))
    return price(traffic, dataclasses.replace(named(system, traffic), compute=unit), known)


def energy(report: Report) -> Joules | None:
    """Of a report, if it has one."""
    return report.energy_j if report.has_energy else None


def seconds(report: Report) -> Seconds:
    """One thing after another; of the bytes alone, where the latency of the link has no source."""
    return report.no_overlap_s if report.has_latency else report.serialization_s


def times_less(base: Group, ours: Group, what: Callable[[dict], Joules | Seconds | None]) -> str:
    """How many times less `ours` takes than `base`, mean over the seeds that both have."""
    if not ours:
        return "n/a"
    ratios = []
    for mine in ours:
        other = next((line for line in base if line["seed"] == mine["seed"]), None)
        pair = (what(other), what(mine)) if other else (None, None)
        if pair[0] is None or pair[1] is None:
            return "n/a"
        ratios.append(ratio(*pair))
    return span(Range(statistics.mean(r.low for r in ratios), statistics.mean(r.high for r in ratios)))


def page(trials: Sequence[Trial], file: Path, base: str) -> str:
    """All tables, as Markdown."""
    lines = load(file)
    groups: dict[str, list[dict]] = {}
    for trial in trials:
        if (line := find(trial, lines)) is not None:
            groups.setdefault(trial.way.name, []).append(line)
    if base not in groups:
        return f"no line of {base!r} in {file} yet"
    parts = [quality_table(groups, base)]
    parts += [links_table(groups, base, system) for system in SYSTEMS]
    parts += [compute_table(groups, base), verdict(groups, base)]
    took = [line["seconds"] for group in groups.values() for line in group]
    parts.append(f"{len(took)} runs of {sum(took):,.0f} s in all")
    return "\n\n".join(parts)


def quality_table(groups: dict[str, Group], base: str) -> str:
    """How good each way is, and what it moves."""
    text = groups[base][0]["task"] == "text"
    head = ("way", "held-out bits/byte" if text else "test accuracy", "wire bits an element")
    rows = [(*head, "bytes of a pass", "of a training step", "products", "fires inside")]
    dense = mean_of(groups[base], lambda line: line["nats"])
    for name, group in groups.items():
        values = [line["bits_per_byte"] if text else line["accuracy"] for line in group]
        loss = f" ({100 * (mean_of(group, lambda line: line['nats']) / dense - 1):+.1f} %)"
        step = [traffic_of(line, "step").sent_bytes for line in group if "step" in line["traffic"]]
        rate = [line["inner_rate"] for line in group if line["inner_rate"] is not None]
        rows.append(
            (
                name,
                spread(values, 3 if text else 2) + (loss if text else " %"),
                f"{mean_of(group, lambda line: line['wire_bits']):.2f}",
                f"{mean_of(group, lambda line: traffic_of(line, 'pass').sent_bytes):,.0f}",
                f"{step[0]:,}" if step else "n/a",
                f"{mean_of(group, products) / 1e6:.0f} M",
                f"{statistics.mean(rate):.1%}" if rate else "–",
            )
        )
    return markdown(rows)


def products(line: dict) -> float:
    """Multiply-accumulates of a pass as it ran."""
    return sum(times for kind, _, times in line["operations"] if kind == "mac")


def links_table(groups: dict[str, Group], base: str, system: str) -> str:
    """One system, the links alone."""
    rivals = [name for name in groups if name == base or "int8" in name or name.startswith("SNN")]
    short = ("SNN" if name.startswith("SNN") else name.split(",")[-1].strip() for name in rivals)
    less = "times less than " + " / ".join(short)
    rows = [("links alone", "energy", less, "time", less, "smallest message: time, times less than bf16 links",
             "training step: energy, time, times less than bf16 links")]  # fmt: skip

    def joules(line: dict, workload: str = "pass") -> Joules | None:
        return energy(links(line, workload, system))

    def time(line: dict, workload: str = "pass") -> Seconds:
        return seconds(links(line, workload, system))

    def against(group: Group, what: Callable) -> str:
        return " / ".join(times_less(groups[rival], group, what) for rival in rivals)

    for name, group in groups.items():
        smallest, step = functools.partial(time, workload="smallest"), [g for g in group if "step" in g["traffic"]]
        both = [times_less(groups[base], step, functools.partial(what, workload="step")) for what in (joules, time)]
        cells = str(joules(group[0]) or "n/a"), against(group, joules), str(time(group[0])), against(group, time)
        rows.append((name, *cells, times_less(groups[base], group, smallest), ", ".join(both)))
    return f"**{system}**: {SYSTEMS[system]}\n\n{markdown(rows)}"


def compute_table(groups: dict[str, Group], base: str) -> str:
    """Links and arithmetic together."""
    speeds = [f"time at {speed:g} tera-op/s" for speed in ASSUMED_TERA_OPS]
    rows = [("with compute, times less than bf16", "energy, UCIe", "energy, PCIe 5", *speeds, "400G Ethernet at 1")]
    for name, group in groups.items():
        row = [name]
        for system in ("ucie-chain", "pcie5-ring"):
            row.append(times_less(groups[base], group, lambda line, s=system: energy(with_compute(line, s, 1.0))))
        for speed in ASSUMED_TERA_OPS:
            what = lambda line, v=speed: seconds(with_compute(line, "ucie-chain", v))  # noqa: E731
            row.append(times_less(groups[base], group, what))
        row.append(times_less(groups[base], group, lambda line: seconds(with_compute(line, "ethernet-400g", 1.0))))
        rows.append(tuple(row))
    return "**Links and arithmetic** (float32 as it ran, 45 nm; chips of assumed speed, on UCIe)\n\n" + markdown(rows)


def verdict(groups: dict[str, Group], base: str) -> str:
    """What would have to be true for each factor of the claim, from our numbers."""
    said = []
    dense = groups[base][0]
    for name in (name for name in groups if name.startswith("hybrid")):
        ours = groups[name][0]
        for system in ("ucie-chain", "pcie5-ring"):
            said.append(f"- {name}, {system}: energy {_energy_needs(dense, ours, system)}")
        for system in ("ucie-chain", "ethernet-400g"):
            said.append(f"- {name}, {system}: latency {_speed_needs(dense, ours, system)}")
    return f"**What {CLAIM['energy']}x and {CLAIM['latency']}x would need**, against bf16 links\n\n" + "\n".join(said)


def _energy_needs(dense: dict, ours: dict, system: str) -> str:
    """From (E + W) / (e + W) = f follows W = (E - f e) / (f - 1): how little arithmetic may cost."""
    whole, small = (links(line, "pass", system).energy_j.high for line in (dense, ours))
    wanted, best = CLAIM["energy"], whole / small
    if best <= wanted:
        return f"{best:.3g}x on the links: {wanted}x is out of reach"
    macs = sum(c.times for c in operations(dense).counts if c.kind == "mac")
    left = (whole - wanted * small) / (wanted - 1)
    here = with_compute(dense, system, 1.0)
    return (
        f"{best:.3g}x on the links; {wanted}x if a multiply-accumulate takes at most {1e12 * left / macs:.2g} pJ "
        f"(float32 at 45 nm: 4.6); links are {here.link_share.high:.2%} of the dense energy"
    )


def _speed_needs(dense: dict, ours: dict, system: str) -> str:
    """The same for time, with both best figures of the link: how fast a chip must be."""
    whole, small = (seconds(links(line, "pass", system)).low for line in (dense, ours))
    wanted, best = CLAIM["latency"], whole / small
    if best <= wanted:
        return f"{best:.3g}x on the links: {wanted}x is out of reach"
    done = sum(c.times for c in operations(dense).counts) / 4
    speed = done * (wanted - 1) / (whole - wanted * small) / 1e12
    return f"{best:.3g}x on the links; {wanted}x if each chip does {speed:.3g} tera-op/s"


def mean_of(group: Group, what: Callable[[dict], float]) -> float:
    """Over seeds."""
    return statistics.mean(what(line) for line in group)


def spread(values: Sequence[float], digits: int) -> str:
    """Mean and standard deviation.

    >>> spread([1.0, 2.0], 2), spread([3.0], 1)
    ('1.50 ± 0.71', '3.0')
    """
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table, the first row its head.

    >>> print(markdown([("a", "b"), ("1", "2")]))
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    head, *body = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body])
