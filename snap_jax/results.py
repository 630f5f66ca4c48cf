"""What a run measured: the sections of `result.json`."""

import importlib.metadata
import os
import platform

import jax

from snap_jax import cost
from snap_jax.tasks import language
from snap_jax.telemetry import Telemetry
from snap_jax.traffic import Traffic


def wire_section(
    traffic: Traffic, chips: int, elements: int, seen: Telemetry | None = None, share: float = 1.0
) -> dict:
    """Bytes that crossed the boundaries in one step, by direction and boundary, and what the spikes were like.

    `bits_per_element = 8 * forward bytes / elements that crossed forward`. Messages of idle ticks count on both sides:
    the program sends them. `share` is that of `spike_statistics`. `elements` cross forward in one step; `seen` is what left each die.
    """
    crossing = traffic.where(lambda t: "boundary" in t.path)
    forward = _bytes(crossing, "forward")
    section = {
        "forward_bytes_per_step": forward,
        "backward_bytes_per_step": _bytes(crossing, "backward"),
        "bits_per_element": 8 * forward / elements if elements else 0.0,
        "entropy_bits_per_element": None,
        "firing_rate": None,
        "by_boundary": _by_boundary(crossing, chips),
    }
    if seen is None or chips == 1:
        return section
    if (rates := seen.firing_rate) is not None and (entropies := seen.entropy_bits) is not None:
        for boundary, rate, entropy in zip(section["by_boundary"], rates, entropies, strict=False):
            boundary |= {"firing_rate": float(rate), "entropy_bits": float(entropy)}
    return section | spike_statistics(seen, share)


def spike_statistics(seen: Telemetry, share: float = 1.0) -> dict:
    """What crossed the boundaries, from what left each die; nothing crosses behind the last. Means over boundaries.

    `sent_bits_per_element` are payload bits of the rungs taken, for microbatches only. `share` is how many numbers are
    sent for each element of the stream; bits are those an element of the stream.
    """
    senders = seen[:-1]
    if not senders.elements.size:
        return {}
    rates, entropies = senders.firing_rate, senders.entropy_bits
    return {
        "firing_rate": None if rates is None else float(rates.mean()),
        "entropy_bits_per_element": None if entropies is None else share * float(entropies.mean()),
        "sent_bits_per_element": share * float(senders.bits_per_element.mean()),
    }


def _bytes(traffic: Traffic, direction: str) -> int:
    return traffic.where(lambda t: t.direction == direction).sent_bytes


def _by_boundary(crossing: Traffic, chips: int) -> list[dict]:
    """Every boundary is one pair of a permutation, all pairs carry the same."""
    links = chips - 1
    return [
        {
            "path": f"die {i} to die {i + 1}",
            "forward_bytes": _bytes(crossing, "forward") // links,
            "backward_bytes": _bytes(crossing, "backward") // links,
            "firing_rate": None,
            "entropy_bits": None,
        }
        for i in range(links)
    ]


def systems(chips: int) -> dict[str, cost.System]:
    """The systems every run is priced on: dies in a row, on three kinds of link."""
    links = {
        "UCIe standard package": cost.Chain(chips, cost.links.UCIE_STANDARD),
        "PCIe 5 x16": cost.Chain(chips, cost.links.PCIE5),
        "400G Ethernet": cost.Switch(chips, cost.links.ETHERNET_400G),
    }
    return {name: cost.System({language.AXIS: topology}, name=name) for name, topology in links.items()}


def cost_section(traffic: Traffic, chips: int) -> dict:
    """Energy and latency of one step's traffic on each system, `[low, high]`; null where a source is missing."""
    if chips == 1:
        return {}
    return {name: _price(traffic, system) for name, system in systems(chips).items()}


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
