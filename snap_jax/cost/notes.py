"""What a reader of a report must know: what is missing, assumed or left out, and where the figures come from."""

from collections.abc import Iterator, Sequence

from snap_jax.cost.axis_cost import AxisCost
from snap_jax.cost.compute import Compute
from snap_jax.cost.link import Link
from snap_jax.cost.memory import Memory
from snap_jax.cost.system import System
from snap_jax.cost.units import Number

Parts = Sequence[AxisCost]


def missing_energy(parts: Parts, compute: Compute | None, memory: Memory | None = None) -> tuple[str, ...]:
    """Return one line for each link and memory in use, and each kind of operation, whose energy has no source."""
    links = tuple(link.missing("pj_per_bit") for link in used_links(parts) if "pj_per_bit" in link.without_source)
    levels = (memory.missing("pj_per_byte"),) if memory and _adds(parts) and memory.pj_per_byte is None else ()
    return links + levels + (compute.unit.missing_energy(compute.operations) if compute else ())


def missing_latency(parts: Parts, compute: Compute | None, memory: Memory | None = None) -> tuple[str, ...]:
    """Return one line for each link and memory in use, and the compute unit, whose speed has no source."""
    slow = tuple(link.missing("latency_ns") for link in used_links(parts) if "latency_ns" in link.without_source)
    narrow = tuple(link.missing("gbyte_per_s") for link in used_links(parts) if "gbyte_per_s" in link.without_source)
    levels = (memory.missing("gbyte_per_s"),) if memory and _adds(parts) and memory.gbyte_per_s is None else ()
    return slow + narrow + levels + (compute.unit.missing_latency if compute else ())


def _adds(parts: Parts) -> bool:
    return any(part.memory_bytes for part in parts)


def used_links(parts: Parts) -> tuple[Link, ...]:
    """Return the kinds of link that something crosses."""
    return tuple(dict.fromkeys(link for part in parts if part.plan for link in part.links))


def notes(parts: Parts, system: System, compute: Compute | None, least_share: Number) -> Iterator[str]:
    """Yield the notes of a report, one sentence each; the arguments are those of `Report`."""
    yield from missing_energy(parts, compute, system.memory)
    yield from missing_latency(parts, compute, system.memory)
    if outside := {part.index for part in parts if not part.in_bandwidth_regime}:
        yield (
            f"{len(outside)} of {len({part.index for part in parts})} transfers outside the bandwidth regime "
            "(latency above 10 % of the bytes' time, or unknown): alpha-beta may be several times off there"
        )
    if any(part.transfer.op == "ppermute" and part.plan and not part.transfer.perm for part in parts):
        yield "ppermute: this traffic counts its pairs without naming them; taken as a shift by one chip"
    if least_share < 1:
        yield (
            "switches are priced at their costliest branches; "
            f"the cheapest send {least_share:.0%} of those bytes: price(cheapest(traffic), ...)"
        )
    if system.coding is None:
        yield "time and energy to encode and decode are left out: the system gives no coding="
    elif system.coding.pj_per_byte is None:
        yield "energy to encode and decode is left out: coding gives no pj_per_byte"
    if unknown := [link.name for link in used_links(parts) if link.static_w is None]:
        yield (
            f"no source for static_w of {', '.join(unknown)}: links that cannot sleep are bounded by no idle power "
            "and by that of sending"
        )
    if system.memory is None and _adds(parts):
        yield "what reductions read and write is left out: the system gives no memory="
    if compute is not None and compute.unit.whole_chip:
        yield f"{compute.unit.name}: power of the whole chip divided by its peak rate; memory is in it, and full use"
    elif compute is not None and compute.unit.pj_per_byte is None:
        yield f"energy of memory is left out: {compute.unit.name!r} gives no pj_per_byte"
    links = dict.fromkeys(link for part in parts for link in part.links)
    yield from _process_nodes(system, compute, [link.name for link in links if link.process_node is None])
    yield from (f"{link.name}: {link.boundary}. Source: {link.source}." for link in links)


def _process_nodes(system: System, compute: Compute | None, unnamed: list[str]) -> Iterator[str]:
    known = sorted(system.process_nodes)
    if len(known) > 1:
        yield f"mixes process nodes {known}, as asked for: ratios between them say nothing about one chip"
    if compute is not None and unnamed:
        yield (
            f"compute is {compute.unit.process_node}; {', '.join(unnamed)} name no process node: "
            "the share of the links holds only where both are of one age"
        )
