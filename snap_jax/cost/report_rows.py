"""The rows of a printed report: what they are called, which transfers share one, and their cells."""

import csv
import io
import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

from snap_jax.cost.axis_cost import AxisCost
from snap_jax.traffic.transfer import Transfer

if TYPE_CHECKING:
    import snap_jax.cost.report

HEADINGS = ("transfer", "pass", "wire bytes", "energy", "latency")


def rows(report: "snap_jax.cost.report.Report") -> Iterator[tuple[str, str, "snap_jax.cost.report.Report"]]:
    """Yield label, pass and report of each row; transfers that differ only in size share a row."""
    groups: dict[tuple[str, str], list[AxisCost]] = {}
    for part in report.parts:
        groups.setdefault((_label(part.transfer), part.transfer.direction), []).append(part)
    for (label, direction), parts in groups.items():
        times = sum({part.index: part.transfer.times for part in parts}.values())
        yield f"{times:,} x {label}", direction, report.only(tuple(parts))


def subtotals(report: "snap_jax.cost.report.Report") -> Iterator[tuple[str, "snap_jax.cost.report.Report"]]:
    """Yield label and report of each line below the transfers."""
    axes = report.by_axis()
    if len(axes) > 1:
        yield from ((f"axis {axis}", part) for axis, part in axes.items())
    if report.forward.parts and report.backward.parts:
        yield "forward", report.forward
        yield "backward", report.backward
    if report.compute is not None:
        yield "links", report.links
    yield "total" if report.compute is None else "total with compute", report


def to_csv(report: "snap_jax.cost.report.Report") -> str:
    """Return the rows of the table as CSV: bytes, and joules and seconds as low and high; empty without a source."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(("transfer", "pass", "wire_bytes", "j_low", "j_high", "s_low", "s_high"))
    every = [*rows(report), *((label, "", part) for label, part in subtotals(report))]
    for label, direction, part in every:
        joules = tuple(part.energy_j) if part.has_energy else ("", "")
        seconds = tuple(part.latency_s) if part.has_latency else ("", "")
        lines.writerow((label, direction, part.wire_bytes, *joules, *seconds))
    return text.getvalue()


def cells(report: "snap_jax.cost.report.Report") -> tuple[str, str, str]:
    """Return wire bytes, energy and latency; n/a without a source, or a lower bound of the time."""
    energy = str(report.energy_j) if report.has_energy else "n/a"
    if report.has_latency:
        return f"{report.wire_bytes:,.0f}", energy, str(report.latency_s)
    known = not any("gbyte_per_s" in link.without_source for part in report.parts for link in part.links)
    return f"{report.wire_bytes:,.0f}", energy, f"> {report.serialization_s}" if known else "n/a"


def _label(transfer: Transfer) -> str:
    """Return op, axes and path, without repeated path components and without a last one that names the op again."""
    scopes = [name for name, _ in itertools.groupby(transfer.path.split("/"))]
    if scopes[-1] == f"snap.{transfer.op}":
        scopes.pop()
    return f"{transfer.op} over {','.join(transfer.axes)} {'/'.join(scopes)}".rstrip()
