"""What runs did, side by side: a table for the terminal and one self-contained HTML page."""

from snap_jax.report.html import write_report as write_report
from snap_jax.report.terminal import table as table
