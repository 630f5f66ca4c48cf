"""A report as CSV."""

import csv
import io

from snap_jax.cost.report import Report


def to_csv(report: Report) -> str:
    """Return the rows of the table: bytes, and joules and seconds as low and high; empty without a source."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(("transfer", "pass", "wire_bytes", "j_low", "j_high", "s_low", "s_high"))
    for label, direction, part in (*report.rows(), *((label, "", part) for label, part in report.subtotals())):
        joules = tuple(part.energy_j) if part.has_energy else ("", "")
        seconds = tuple(part.latency_s) if part.has_latency else ("", "")
        lines.writerow((label, direction, part.wire_bytes, *joules, *seconds))
    return text.getvalue()
