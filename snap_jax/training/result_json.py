"""What a run measured: the sections of `result.json`.

Law: every byte of a section is a byte of the compiled program of the very step that ran.
"""

import importlib.metadata
import os
import platform
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np

from snap_jax import cost
from snap_jax.boundary.telemetry import Telemetry
from snap_jax.cost.topologies.base import Topology
from snap_jax.parallel import data_parallel
from snap_jax.parallel.mesh import DATA, STAGE, TENSOR
from snap_jax.traffic import Traffic, Transfer
from snap_jax.traffic.measured_sizes import taken


def wire_section(
    traffic: Traffic,
    mesh: Mapping[str, int],
    elements: int,
    seen: Telemetry | None = None,
    shares: Sequence[float] = (1.0,),
) -> dict:
    """Bytes that crossed in one step, by direction and place, and what the spikes were like.

    Forward are the boundaries of a pipeline and the sums of tensor regions, backward their cotangents and the averages
    of gradients over replicas. `bits_per_element = 8 * forward bytes / elements`: all bits that leave a chip forward,
    thresholds and headers among them, over the elements that `lax` would have sent in their place, which for a sum over
    n chips are 2 (n - 1) an element. So floats have 32, bf16 16, and `data` alone, which sends nothing forward, 0.
    Messages of idle ticks count on both sides: the program sends them. Sums of regions do not: an idle die has none.

    Args:
      traffic: of one step.
      mesh: sizes of its axes.
      elements: that cross forward in one step.
      seen: what left each die.
      shares: those of `spike_statistics`.
    """
    boundary_stats = traffic.where(lambda t: "boundary" in t.path)
    averages = traffic.where(lambda t: data_parallel.SCOPE in t.path.split("/"))
    forward = _bytes(boundary_stats, "forward")
    boundaries = _by_boundary(boundary_stats, mesh.get(STAGE, 1))
    section = {
        "forward_bytes_per_step": forward,
        "backward_bytes_per_step": _bytes(boundary_stats, "backward") + averages.sent_bytes,
        "bits_per_element": 8 * forward / elements if elements else 0.0,
        "entropy_bits_per_element": None,
        "firing_rate": None,
        "by_boundary": [*boundaries, *_by_collective(boundary_stats, averages, mesh)],
    }
    if seen is None or not boundaries:
        return section
    if (rates := seen.firing_rate) is not None and (entropies := seen.entropy_bits) is not None:
        for boundary, rate, entropy in zip(boundaries, rates, entropies, strict=False):
            boundary |= {"firing_rate": float(rate), "entropy_bits": float(entropy)}
    return section | spike_statistics(seen, shares)


def spike_statistics(seen: Telemetry, shares: Sequence[float] = (1.0,)) -> dict:
    """What crossed the boundaries, from what left each die; nothing crosses behind the last.

    Means over all that crossed, bits an element of the stream. `sent_bits_per_element` are payload bits of the rungs
    taken, for microbatches only.

    Args:
      seen: by die.
      shares: how many numbers are sent for each element of the stream, by die, or the same for all.
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
        "sent_bits_per_element": 8 * float(np.asarray(senders.sent_bytes, np.float64).sum() / elements),
    }


def _bytes(traffic: Traffic, direction: str) -> int:
    return traffic.where(lambda t: t.direction == direction).sent_bytes


def _by_boundary(boundary_stats: Traffic, dies: int) -> list[dict]:
    """A boundary has the permutations that name its pair, and its share of what all dies do together."""
    along = boundary_stats.where(lambda t: STAGE in t.axes)
    return [
        _row(f"stage {i} to stage {i + 1}", *(_between(along, i, dies - 1, way) for way in ("forward", "backward")))
        for i in range(dies - 1)
    ]


def _between(along: Traffic, die: int, links: int, direction: str) -> int:
    """Bytes between a die and the next, one way."""
    named = along.where(lambda t: t.direction == direction and bool(t.perm))
    pair = sum(t.sent_bytes // t.pairs * sum(min(link) == die for link in t.perm) for t in named)
    return pair + along.where(lambda t: t.direction == direction and not t.perm).sent_bytes // links


def _by_collective(boundary_stats: Traffic, averages: Traffic, mesh: Mapping[str, int]) -> list[dict]:
    sums = boundary_stats.where(lambda t: TENSOR in t.axes and STAGE not in t.axes)
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
    """The systems every run is priced on: dies in a row, others in rings, on three kinds of link.

    >>> [type(axis).__name__ for axis in systems({"data": 2, "stage": 4})["PCIe 5 x16"].axes.values()]
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
    """One step's traffic with the payload sizes taken on held-out data from die to die, forward; the rest as compiled.

    Args:
      traffic: of one step.
      mesh: sizes of its axes.
      elements: that cross forward in one step.
      sent_bits: payload bits taken for each of them, from `spike_statistics`.

    Returns:
      `None` where payloads have one size, or a tensor axis sends sums whose sizes nobody counted.
    """
    if sent_bits is None or mesh.get(TENSOR, 1) > 1:
        return None

    def along(t: Transfer) -> bool:
        return t.direction == "forward" and STAGE in t.axes and "boundary" in t.path

    return taken(traffic, along, sent_bits * elements / 8)


def cost_section(traffic: Traffic, mesh: Mapping[str, int], sent: Traffic | None = None) -> dict:
    """Energy and latency of one step's traffic on each system, `[low, high]`; null where a source is missing.

    `sent_...` are those of `sent`, see `as_sent`; without it they are left out.
    """
    if max(mesh.values()) == 1:
        return {}
    return {name: _price(traffic, system) | _price_sent(sent, system) for name, system in systems(mesh).items()}


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
        "serialisation_s_per_step": list(report.serialisation_s),
    }


def environment() -> dict[str, str]:
    """Versions of what computed, and on what."""
    names = ("snap-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    versions = {name: importlib.metadata.version(name) for name in names}
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {jax.default_backend()}"
    return versions | {"python": platform.python_version(), "machine": machine}
