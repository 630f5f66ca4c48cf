"""Tables of `experiments.paper_claims`: measured traffic and operations, priced on named systems.

A ratio is taken between two best or two worst figures, seed by seed, and averaged. What has no source is n/a.
"""

import dataclasses
import functools
import json
import statistics
from collections.abc import Callable, Sequence

from experiments.markdown import percent, spread, table
from experiments.sweep import Line, nats, wire_bits
from snap_jax.cost import (
    HOROWITZ_45NM,
    JOUPPI_7NM,
    ComputeUnit,
    Joules,
    OperationCount,
    Operations,
    Range,
    Report,
    Seconds,
    named,
    price,
)
from snap_jax.cost.units import ratio, span
from snap_jax.traffic import Traffic

SYSTEMS = {
    "ucie-chain": "chips in a row, UCIe standard package",
    "pcie5-ring": "boards in a ring, PCIe 5 x16 (no latency has a source: the time is that of the bytes)",
    "ethernet-400g": "hosts on one switch, 400G Ethernet (no energy has a source)",
}
REACHES = {
    "die-to-die": "ucie-chain",
    "board": "pcie5-ring",
    "rack": "optics-400g",
    "wide area": "internet-200m",
}  # systems whose links have an energy with a source
NODES = {
    "float32 at 45 nm": (HOROWITZ_45NM, "float32"),
    "float32 at 7 nm": (JOUPPI_7NM, "float32"),
    "bfloat16 at 7 nm": (JOUPPI_7NM, "bfloat16"),
    "int8 at 7 nm": (JOUPPI_7NM, "int8"),
}  # arithmetic as if all of it had that dtype
TERA_OPS = (0.1, 1.0, 10.0, 100.0)  # of a chip: a range without a source
CLAIM = {"energy": 5.3, "latency": 15.2}  # arXiv:2501.08645, abstract: "up to"
Group = Sequence[Line]
Groups = dict[str, list[Line]]


def traffic_of(line: Line, workload: str) -> Traffic:
    """Return the traffic of a workload: `pass`, `step` or `smallest`."""
    return Traffic.from_json(json.dumps(line["traffic"][workload]))


def links(line: Line, workload: str, system: str) -> Report:
    """Return the cost of the links alone."""
    traffic = traffic_of(line, workload)
    return price(traffic, named(system, traffic))


def operations(line: Line) -> Operations:
    """Return what a forward pass computes; a spiking model accumulates where neurons fire, and multiplies nothing.

    A multiply-accumulate becomes an accumulate at each time step at which a neuron fires. This also counts products
    that are fed by real numbers, which favors the spiking model. Time steps in the batch axis are counted already.
    """
    counted = Operations(tuple(OperationCount(kind, dtype, times) for kind, dtype, times in line["operations"]))
    config = line["config"]
    if config["mode"] != "spiking":
        return counted
    return counted.spiking(line["inner_rate"], 1 if config["task"] == "vision" else config["time_steps"])


def with_compute(
    line: Line, system: str, tera_ops: float, unit: ComputeUnit = HOROWITZ_45NM, dtype: str = ""
) -> Report:
    """Return the cost of links and arithmetic; operations whose energy has no source are left out everywhere."""
    traffic, counted = traffic_of(line, "pass"), operations(line)
    if dtype:
        counts = (dataclasses.replace(c, dtype=dtype if c.dtype == "float32" else c.dtype) for c in counted.counts)
        counted = dataclasses.replace(counted, counts=tuple(counts))
    known, _ = unit.split(counted)
    unit = dataclasses.replace(unit, tera_ops_per_s=Range.exactly(tera_ops))
    return price(traffic, dataclasses.replace(named(system, traffic), compute=unit), known)


def energy(report: Report) -> Joules | None:
    """Return the energy of a report, if it has one."""
    return report.energy_j if report.has_energy else None


def seconds(report: Report) -> Seconds:
    """Return the time without overlap; that of the bytes alone, where the latency of the link has no source."""
    return report.no_overlap_s if report.has_latency else report.serialization_s


def factor(base: Group, ours: Group, what: Callable[[Line], Joules | Seconds | None]) -> str:
    """Return by what factor `ours` takes less than `base`: the mean over the seeds that both have."""
    bases, ratios = {line["config"]["seed"]: line for line in base}, []
    for line in ours:
        other = bases.get(line["config"]["seed"])
        pair = (what(other), what(line)) if other else (None, None)
        if pair[0] is None or pair[1] is None:
            return "n/a"
        ratios.append(ratio(*pair))
    if not ratios:
        return "n/a"
    return span(Range(statistics.mean(r.low for r in ratios), statistics.mean(r.high for r in ratios)))


def page(groups: Groups, base: str) -> str:
    """Return all tables."""
    parts = [quality_table(groups, base), *(links_table(groups, base, system) for system in SYSTEMS)]
    parts += [energy_table(groups, base), compute_table(groups, base), requirements(groups, base)]
    took = [line["seconds"] for group in groups.values() for line in group]
    return "\n\n".join([*parts, f"{len(took)} runs of {sum(took):,.0f} s in all"])


def quality_table(groups: Groups, base: str) -> str:
    """Return the quality of each model, what it sends and what it computes."""
    text = groups[base][0]["config"]["task"] == "language"
    head = ("model", "held-out bits per byte" if text else "held-out accuracy, percent", "loss increase")
    rows = [(*head, "bits per element", "bytes of a forward pass", "of a training step", "multiply-accumulates",
             "spikes per neuron and time step")]  # fmt: skip
    dense = mean(groups[base], nats)
    for name, group in groups.items():
        rates = [line["inner_rate"] for line in group if line["inner_rate"] is not None]
        rows.append(
            (
                name,
                spread([line["quality"]["value"] for line in group], 3 if text else 2),
                percent(mean(group, nats) / dense - 1, 1),
                f"{mean(group, wire_bits):.2f}",
                f"{mean(group, lambda line: traffic_of(line, 'pass').sent_bytes):,.0f}",
                f"{mean(group, lambda line: traffic_of(line, 'step').sent_bytes):,.0f}",
                f"{mean(group, macs) / 1e6:.0f} M",
                f"{statistics.mean(rates):.3f}" if rates else "–",
            )
        )
    return table(rows)


def macs(line: Line) -> float:
    """Return the multiply-accumulates of a forward pass as it ran."""
    return sum(times for kind, _, times in line["operations"] if kind == "mac")


def links_table(groups: Groups, base: str, system: str) -> str:
    """Return the costs of the links on one system, and by what factor they are lower than those of baselines."""
    baselines = [name for name in groups if name == base or "int8" in name or name.startswith("SNN")]
    short = ("SNN" if name.startswith("SNN") else name.split(",")[-1].strip() for name in baselines)
    lower = f"reduction factor from {' / '.join(short)}"
    rows = [("links alone", "energy", lower, "time", lower, "smallest message: time, reduction factor from bf16 links",
             "training step: energy, time, reduction factor from bf16 links")]  # fmt: skip

    def joules(line: Line, workload: str = "pass") -> Joules | None:
        return energy(links(line, workload, system))

    def time(line: Line, workload: str = "pass") -> Seconds:
        return seconds(links(line, workload, system))

    def against(group: Group, what: Callable) -> str:
        return " / ".join(factor(groups[name], group, what) for name in baselines)

    for name, group in groups.items():
        smallest = functools.partial(time, workload="smallest")
        step = [factor(groups[base], group, functools.partial(what, workload="step")) for what in (joules, time)]
        cells = str(joules(group[0]) or "n/a"), against(group, joules), str(time(group[0])), against(group, time)
        rows.append((name, *cells, factor(groups[base], group, smallest), ", ".join(step)))
    return f"**{system}**: {SYSTEMS[system]}\n\n{table(rows)}"


def energy_table(groups: Groups, base: str) -> str:
    """Return the energy of links and arithmetic relative to the baseline, over nodes and reaches; lower is better."""

    def relative(group: Group, system: str, unit: ComputeUnit, dtype: str) -> str:
        bases, found = {line["config"]["seed"]: line for line in groups[base]}, []
        for line in group:
            ours, other = (with_compute(one, system, 1.0, unit, dtype) for one in (line, bases[line["config"]["seed"]]))
            found.append(ours.energy_j.high / other.energy_j.high)
        return f"{statistics.mean(found):.3f}"

    rows = [("energy of links and arithmetic, bf16 links: 1, lower is better", "reach", *NODES)]
    for name, group in groups.items():
        rows += [(name, reach, *(relative(group, system, *node) for node in NODES.values()))
                 for reach, system in REACHES.items()]  # fmt: skip
    dense = groups[base][0]
    for reach, system in REACHES.items():
        shares = [with_compute(dense, system, 1.0, *node).link_share.high for node in NODES.values()]
        rows.append(("share of the links, bf16, at most", reach, *(f"{share:.2%}" for share in shares)))
    return f"**Energy of the whole over nodes** (worst figures)\n\n{table(rows)}"


def compute_table(groups: Groups, base: str) -> str:
    """Return by what factor links and arithmetic together take less than the baseline."""

    def lower(group: Group, what: Callable, system: str, speed: float) -> str:
        return factor(groups[base], group, lambda line: what(with_compute(line, system, speed)))

    speeds = [f"time at {speed:g} tera-op/s" for speed in TERA_OPS]
    rows = [("with compute, reduction factor from bf16 links", "energy, UCIe", "energy, PCIe 5", *speeds,
             "time, 400G Ethernet, 1 tera-op/s")]  # fmt: skip
    for name, group in groups.items():
        energies = [lower(group, energy, system, 1.0) for system in ("ucie-chain", "pcie5-ring")]
        times = [lower(group, seconds, "ucie-chain", speed) for speed in TERA_OPS]
        rows.append((name, *energies, *times, lower(group, seconds, "ethernet-400g", 1.0)))
    return f"**Links and arithmetic** (float32 as it ran, 45 nm; assumed chip speeds, on UCIe)\n\n{table(rows)}"


def requirements(groups: Groups, base: str) -> str:
    """Return what would have to be true for each factor of the claim."""
    lines, dense = [], groups[base][0]
    for name in (name for name in groups if name.startswith("hybrid")):
        ours = groups[name][0]
        lines += [f"- {name}, {s}: energy {energy_needs(dense, ours, s)}" for s in ("ucie-chain", "pcie5-ring")]
        lines += [f"- {name}, {s}: latency {speed_needs(dense, ours, s)}" for s in ("ucie-chain", "ethernet-400g")]
    head = f"**What {CLAIM['energy']}x and {CLAIM['latency']}x would need**, against bf16 links"
    return f"{head}\n\n" + "\n".join(lines)


def energy_needs(dense: Line, ours: Line, system: str) -> str:
    """Return how little arithmetic may cost: `(E + W) / (e + W) = f` gives `W = (E - f e) / (f - 1)`."""
    whole, small = (links(line, "pass", system).energy_j.high for line in (dense, ours))
    target, best = CLAIM["energy"], whole / small
    if best <= target:
        return f"{best:.3g}x on the links: {target}x is out of reach"
    products = sum(c.times for c in operations(dense).counts if c.kind == "mac")
    left = (whole - target * small) / (target - 1)
    share = with_compute(dense, system, 1.0).link_share.high
    return (
        f"{best:.3g}x on the links; {target}x if a multiply-accumulate takes at most {1e12 * left / products:.2g} pJ "
        f"(float32 at 45 nm: 4.6); links are {share:.2%} of the dense energy"
    )


def speed_needs(dense: Line, ours: Line, system: str) -> str:
    """Return how fast a chip must be, with the best figures of the link."""
    whole, small = (seconds(links(line, "pass", system)).low for line in (dense, ours))
    target, best = CLAIM["latency"], whole / small
    if best <= target:
        return f"{best:.3g}x on the links: {target}x is out of reach"
    per_chip = sum(c.times for c in operations(dense).counts) / dense["config"]["devices"]
    speed = per_chip * (target - 1) / (whole - target * small) / 1e12
    return f"{best:.3g}x on the links; {target}x if each chip does {speed:.3g} tera-op/s"


def mean(group: Group, what: Callable[[Line], float]) -> float:
    """Return the mean over seeds."""
    return statistics.mean(map(what, group))
