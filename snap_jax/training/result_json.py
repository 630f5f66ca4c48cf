"""The sections of `result.json`: what a run sent, and what that costs.

Every byte of a section is a byte of the compiled program of the step that ran, unless it says "measured".
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import PyTree

from snap_jax import cost
from snap_jax.boundary.telemetry import Telemetry
from snap_jax.cost.topologies import Topology
from snap_jax.parallel import data_parallel
from snap_jax.parallel.mesh import DATA, STAGE, TENSOR
from snap_jax.traffic import Traffic, Transfer
from snap_jax.traffic.measured_sizes import with_measured_sizes
from snap_jax.training.config import written_settings
from snap_jax.training.run import Run
from snap_jax.training.run_dir import environment


def run_sections(run: Run, params: PyTree, traffic: Traffic) -> dict:
    """Evaluate trained parameters; return the sections of `result.json` that do not depend on how training went."""
    job, config, shape = run.job, run.config, run.job.mesh.shape
    sections, seen = job.evaluate_all(params, run.out)
    wire = wire_section(traffic, shape, run.elements, seen, job.shares)
    if config.budget is not None:  # the budget also pays for the tokens that both ends need
        total = wire["bits_per_element"] + job.context_bits
        met = total <= config.budget
        wire |= {"budget": config.budget, "budget_bits_per_element": total, "budget_met": met}
    links = {"link": config.sent_link, "grad_link": config.backward_link}
    sent = as_sent(traffic, shape, run.elements, wire["bits_per_element"])
    return (
        sections
        | job.teacher_section()
        | {
            "wire": wire,
            "cost": cost_section(traffic, shape, sent),
            "config": written_settings(config) | links,
            "versions": environment(),
        }
    )


def wire_section(
    traffic: Traffic,
    mesh: Mapping[str, int],
    elements: int,
    seen: Telemetry | None = None,
    shares: Sequence[float] = (1.0,),
) -> dict:
    """Return the bytes that crossed in one step, by direction and place, and statistics of the spikes.

    Forward are the pipeline boundaries and the sums of tensor regions; backward are their cotangents and the averages
    of gradients over data replicas, which are also given alone; bookkeeping is the rest, see `part_of`.

    `max_bits_per_element = 8 * forward bytes / elements`: all bits that leave a device forward in the compiled program,
    with thresholds and headers, over the elements that `lax` would have sent, which for a sum over n devices are
    2 (n - 1) per element. So float32 has 32, bf16 16, and layout `data`, which sends nothing forward, 0. Messages of
    idle pipeline slots count on both sides, since the program sends them; sums of regions do not, since an idle stage
    has none. `bits_per_element` is measured: see `spike_statistics`. Where nothing could be measured, or sums of tensor
    regions are sent, it is the compiled number.

    Args:
      traffic: of one step.
      mesh: sizes of its axes.
      elements: that cross forward in one step.
      seen: what left each stage.
      shares: those of `spike_statistics`.
    """
    crossing = traffic.where(lambda t: "boundary" in t.path)
    averages = traffic.where(lambda t: data_parallel.SCOPE in t.path.split("/"))
    forward = _bytes(crossing, "forward")
    boundaries = _by_boundary(crossing, mesh.get(STAGE, 1))
    bits = 8 * forward / elements if elements else 0.0
    section = {
        "forward_bytes_per_step": forward,
        "backward_bytes_per_step": _bytes(crossing, "backward") + averages.sent_bytes,
        "gradient_bytes_per_step": averages.sent_bytes,
        "bookkeeping_bytes_per_step": traffic.where(lambda t: part_of(t) == "bookkeeping").sent_bytes,
        "bits_per_element": bits,
        "max_bits_per_element": bits,
        "entropy_bits_per_element": None,
        "firing_rate": None,
        "by_boundary": [*boundaries, *_by_collective(crossing, averages, mesh)],
    }
    if seen is None or not boundaries:
        return section
    if (rates := seen.firing_rate) is not None and (entropies := seen.entropy_bits) is not None:
        for boundary, rate, entropy in zip(boundaries, rates, entropies, strict=False):
            boundary |= {"firing_rate": float(rate), "entropy_bits": float(entropy)}
    measured = spike_statistics(seen, shares)
    return section | measured | ({"bits_per_element": bits} if mesh.get(TENSOR, 1) > 1 else {})


def spike_statistics(seen: Telemetry, shares: Sequence[float] = (1.0,)) -> dict:
    """Return means over all that crossed the boundaries; nothing crosses after the last stage.

    `bits_per_element` are payload bits of the size buckets taken, per element of the stream, of microbatches only:
    idle pipeline slots and thresholds are not in it.

    Args:
      seen: what left each stage.
      shares: how many numbers are sent for each element of the stream, by stage, or the same for all.
    """
    senders = seen[:-1]
    if not senders.elements.size:
        return {}
    sent = np.asarray(senders.elements, np.float64)
    elements = (sent / np.broadcast_to(shares, seen.elements.shape)[:-1]).sum()
    rates, entropies = senders.firing_rate, senders.entropy_bits
    return {
        "firing_rate": None if rates is None else float((rates * sent).sum() / sent.sum()),
        "entropy_bits_per_element": None if entropies is None else float((entropies * sent).sum() / elements),
        "bits_per_element": 8 * float(np.asarray(senders.sent_bytes, np.float64).sum() / elements),
    }


def _bytes(traffic: Traffic, direction: str) -> int:
    return traffic.where(lambda t: t.direction == direction).sent_bytes


def _by_boundary(crossing: Traffic, stages: int) -> list[dict]:
    """A boundary has the permutations that name its pair, and its share of what all stages do together."""
    along = crossing.where(lambda t: STAGE in t.axes)
    return [
        _row(f"stage {i} to stage {i + 1}", *(_between(along, i, stages - 1, way) for way in ("forward", "backward")))
        for i in range(stages - 1)
    ]


def _between(along: Traffic, stage: int, links: int, direction: str) -> int:
    """Bytes between a stage and the next in one direction."""
    named = along.where(lambda t: t.direction == direction and bool(t.perm))
    pair = sum(t.sent_bytes // t.pairs * sum(min(link) == stage for link in t.perm) for t in named)
    return pair + along.where(lambda t: t.direction == direction and not t.perm).sent_bytes // links


def _by_collective(crossing: Traffic, averages: Traffic, mesh: Mapping[str, int]) -> list[dict]:
    sums = crossing.where(lambda t: TENSOR in t.axes and STAGE not in t.axes)
    found = []
    if mesh.get(TENSOR, 1) > 1:
        found.append(_row("sums of tensor regions", _bytes(sums, "forward"), _bytes(sums, "backward")))
    if mesh.get(DATA, 1) > 1:
        found.append(_row("gradients of replicas", 0, averages.sent_bytes))
    return found


def _row(path: str, forward: int, backward: int) -> dict:
    return {
        "path": path,
        "forward_bytes": forward,
        "backward_bytes": backward,
        "firing_rate": None,
        "entropy_bits": None,
    }


def systems(mesh: Mapping[str, int]) -> dict[str, cost.System]:
    """Return the systems every run is priced on: stages in a chain, other axes in rings, on three kinds of link.

    >>> [axis.kind for axis in systems({"data": 2, "stage": 4})["PCIe 5 x16"].axes.values()]
    ['Chain', 'Chain']
    """

    def wired(link: cost.links.Link) -> Callable[[str, int], Topology]:
        return lambda axis, size: cost.Chain(size, link) if axis == STAGE or size == 2 else cost.Ring(size, link)

    wiring = {
        "UCIe standard package": wired(cost.links.UCIE_STANDARD),
        "PCIe 5 x16": wired(cost.links.PCIE5),
        "400G Ethernet": lambda axis, size: cost.Switch(size, cost.links.ETHERNET_400G),
    }
    shared = {axis: size for axis, size in mesh.items() if size > 1}
    return {
        name: cost.System({axis: wire(axis, size) for axis, size in shared.items()}, name=name)
        for name, wire in wiring.items()
    }


def as_sent(traffic: Traffic, mesh: Mapping[str, int], elements: int, sent_bits: float | None) -> Traffic | None:
    """Return one step's traffic with forward payload sizes as measured on held-out data between stages.

    Args:
      traffic: of one step.
      mesh: sizes of its axes.
      elements: that cross forward in one step.
      sent_bits: measured bits of each of them, from `spike_statistics`.

    Returns:
      None where payloads have one size, or a tensor axis sends sums whose sizes nobody measured.
    """
    if sent_bits is None or mesh.get(TENSOR, 1) > 1:
        return None

    def along(t: Transfer) -> bool:
        return t.direction == "forward" and STAGE in t.axes and "boundary" in t.path and t.op != "pmax"  # the agreement

    return with_measured_sizes(traffic, along, sent_bits * elements / 8)


def cost_section(traffic: Traffic, mesh: Mapping[str, int], sent: Traffic | None = None) -> dict:
    """Return energy and latency of one step's traffic on each system, `[low, high]`; null where a source is missing.

    `sent_...` are those of `sent`, see `as_sent`; without it they are absent. `parts` are those of `sent`, or else of
    `traffic`, by `part_of`.
    """
    if max(mesh.values()) == 1:
        return {}
    return {
        name: _price(traffic, system) | _price_sent(sent, system) | {"parts": _parts(sent or traffic, system)}
        for name, system in systems(mesh).items()
    }


def part_of(transfer: Transfer) -> str:
    """Return "gradients" for averages over data replicas, the direction of what crosses a boundary, or "bookkeeping".

    Bookkeeping are the norm, the loss and counts that devices share.
    """
    if data_parallel.SCOPE in transfer.path.split("/"):
        return "gradients"
    return transfer.direction if "boundary" in transfer.path else "bookkeeping"


def _parts(traffic: Traffic, system: cost.System) -> dict:
    priced = {
        part: traffic.where(lambda t, part=part: part_of(t) == part) for part in sorted(set(map(part_of, traffic)))
    }
    names = ("energy_j_per_step", "latency_s_per_step")
    return {part: {name: _price(moved, system)[name] for name in names} for part, moved in priced.items()}


def _price_sent(sent: Traffic | None, system: cost.System) -> dict:
    if sent is None:
        return {}
    priced = _price(sent, system)
    return {f"sent_{name}": priced[name] for name in ("energy_j_per_step", "latency_s_per_step")}


def _price(traffic: Traffic, system: cost.System) -> dict:
    report = cost.price(traffic, system)
    return {
        "energy_j_per_step": list(report.energy_j) if report.has_energy else None,
        "energy_note": "; ".join(report.missing_energy) or None,
        "latency_s_per_step": list(report.latency_s) if report.has_latency else None,
        "latency_note": "; ".join(report.missing_latency) or None,
        "serialization_s_per_step": list(report.serialization_s),
    }
