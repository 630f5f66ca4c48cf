"""Compare finished runs: a table for the terminal and one self-contained HTML page."""

from snap_jax.report.page import write_report as write_report
from snap_jax.report.terminal import table as table
