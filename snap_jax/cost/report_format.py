"""A report as a table, as JSON, and as formulas with the numbers put in.

Law: what has no source shows as n/a (JSON: null) with the reason beside it, and every assumption is
spelled out.
"""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from snap_jax.cost.axis_cost import Leg
from snap_jax.cost.links import Link
from snap_jax.cost.rounds import Phase
from snap_jax.cost.units import Number, Range

if TYPE_CHECKING:
    from snap_jax.cost.report import Report

Json = dict[str, object]


def tables(report: "Report") -> Iterator[RenderableType]:
    """Yield the table of a report, then its notes."""
    table = Table(title=f"Cost of one run on {report.system.name or 'the system'}", box=box.SIMPLE_HEAD)
    table.add_column("transfer", overflow="fold")
    table.add_column("pass", no_wrap=True)
    for heading in ("wire bytes", "energy", "latency"):
        table.add_column(heading, justify="right", no_wrap=True)
    for transfer, part in report.by_transfer():
        label = f"{transfer.times:,} x {transfer.op} over {','.join(transfer.axes)} {transfer.path}".rstrip()
        table.add_row(label, transfer.direction, *_cells(part))
    table.add_section()
    for label, part in _subtotals(report):
        table.add_row(label, "", *_cells(part))
    yield table
    yield from (Text(f"- {note}", style="dim") for note in notes(report))


def _subtotals(report: "Report") -> Iterator[tuple[str, "Report"]]:
    axes = report.by_axis()
    if len(axes) > 1:
        yield from ((f"axis {axis}", part) for axis, part in axes.items())
    if report.forward.legs and report.backward.legs:
        yield "forward", report.forward
        yield "backward", report.backward
    if report.work is not None:
        yield "links", report.links
    yield "total" if report.work is None else "total with compute", report


def _cells(part: "Report") -> tuple[str, str, str]:
    energy = str(part.energy_j) if part.has_energy else "n/a"
    if part.has_latency:
        return f"{part.wire_bytes:,.0f}", energy, str(part.latency_s)
    known = all(leg.link.gbyte_per_s is not None for leg in part.legs)
    return f"{part.wire_bytes:,.0f}", energy, f"> {part.serialisation_s}" if known else "n/a"


def notes(report: "Report") -> Iterator[str]:
    """Yield what a reader must know: what is missing, assumed, left out, and where figures come from."""
    yield from report.missing_energy
    yield from report.missing_latency
    if outside := report.outside_bandwidth_regime:
        yield (
            f"{len(outside)} of {len(report.by_transfer())} transfers outside the bandwidth regime "
            "(latency above 10 % of the bytes' time, or unknown): alpha-beta may be several times off there"
        )
    if any(leg.transfer.op == "ppermute" and leg.phases and not leg.transfer.perm for leg in report.legs):
        yield "ppermute: this traffic counts its pairs without naming them; taken as a shift by one chip"
    if report.least_share < 1:
        yield (
            "switches are priced at their costliest branches; "
            f"the cheapest send {report.least_share:.0%} of those bytes: price(cheapest(traffic), ...)"
        )
    if report.system.coding is None:
        yield "time to encode and decode is left out: the system gives no coding="
    if report.work is not None and report.work.unit.pj_per_byte is None:
        yield f"energy of memory is left out: {report.work.unit.name!r} gives no pj_per_byte"
    yield from _nodes(report)
    used = dict.fromkeys(leg.link for leg in report.legs)
    yield from (f"{link.name}: {link.boundary}. Source: {link.source}." for link in used)


def _nodes(report: "Report") -> Iterator[str]:
    known = sorted(report.system.process_nodes)
    if len(known) > 1:
        yield f"mixes process nodes {known}, as asked for: ratios between them say nothing about one chip"
    unnamed = [link.name for link in dict.fromkeys(leg.link for leg in report.legs) if link.process_node is None]
    if report.work is not None and unnamed:
        yield (
            f"compute is {report.work.unit.process_node}; {', '.join(unnamed)} name no process node: "
            "the share of the links holds only where both are of one age"
        )


def to_json(report: "Report") -> str:
    """Totals, parts and notes; joules and seconds as [low, high], null where a source is missing.

    The layout is that of one object: system, the numbers of the whole, forward, backward, by_axis,
    by_transfer, notes.
    """
    rows = [
        {"op": t.op, "axes": t.axes, "path": t.path, "direction": t.direction, "times": t.times} | _numbers(part)
        for t, part in report.by_transfer()
    ]
    parts: Json = {
        "links": _numbers(report.links),
        "forward": _numbers(report.forward),
        "backward": _numbers(report.backward),
        "by_axis": {axis: _numbers(part) for axis, part in report.by_axis().items()},
        "by_transfer": rows,
        "notes": list(notes(report)),
    }
    return json.dumps({"system": report.system.name} | _numbers(report) | parts, indent=1)


def _numbers(part: "Report") -> Json:
    return {
        "energy_j": list(part.energy_j) if part.has_energy else None,
        "latency_s": list(part.latency_s) if part.has_latency else None,
        "overlap_s": list(part.overlap_s) if part.has_latency else None,
        "no_overlap_s": list(part.no_overlap_s) if part.has_latency else None,
        "wire_bytes": part.wire_bytes,
    }


def explain(report: "Report") -> str:
    """Spell out the formula of every transfer, with its numbers put in."""
    lines = []
    for transfer, part in report.by_transfer():
        label = f"{transfer.op} {transfer.path}".strip()
        lines.append(f"{label} over {','.join(transfer.axes)}, executed {transfer.times:,} times:")
        lines += [line for leg in part.legs for phase in leg.phases for line in _phase(leg, phase)]
        lines += [
            f"  latency and bytes weigh the same on {leg.axis} at {_either(leg.half_size_bytes, ',.0f')} B an operand"
            for leg in part.legs
            if leg.half_size_bytes is not None
        ]
    return "\n".join(lines)


def _phase(leg: Leg, phase: Phase) -> Iterator[str]:
    link, times = leg.link, leg.transfer.times
    wire = link.wire_bytes(phase.message_bytes)
    size = f"{phase.message_bytes:,.0f} B = {wire:,.0f} B on the wire"
    yield f"  {phase.algorithm} on {leg.axis} ({link.name}), {size}"
    yield f"    time   {times} x {_time_formula(phase, link, wire)}"
    if link.pj_per_bit is None:
        yield "    energy n/a: no source"
        return
    formula = f"{phase.crossings:g} crossings x {wire:,.0f} B x 8 x {_either(link.pj_per_bit)} pJ/bit"
    total = phase.joules(link) * (leg.parallel * times)
    yield f"    energy {times} x {leg.parallel} groups x {formula} = {total}"


def _time_formula(phase: Phase, link: Link, wire: Number) -> str:
    known = link.latency_ns is not None and link.gbyte_per_s is not None
    alpha = "unknown" if link.latency_ns is None else f"{_either(link.latency_ns)} ns"
    rate = "unknown" if link.gbyte_per_s is None else f"{_either(link.gbyte_per_s)} GB/s"
    hops, bytes_ = f"{phase.hops} hops x {alpha}", f"{phase.load:g} x {wire:,.0f} B / {rate}"
    once = f"max({hops}, {bytes_})" if phase.overlapped else f"({hops} + {bytes_})"
    total = f" = {phase.seconds(link)} each" if known else ""
    return f"{phase.rounds} rounds x {once}{total}"


def _either(value: Range, digits: str = "g") -> str:
    low, high = f"{value.low:{digits}}", f"{value.high:{digits}}"
    return high if low == high else f"({low} to {high})"
