"""`snap-jax train --dry-run`: what a run would take, as tables."""

from collections.abc import Iterator

from rich import box
from rich.table import Table

from snap_jax import cost
from snap_jax.cost.cli import find_system
from snap_jax.cost.tables import plain
from snap_jax.training.config import Settings, command
from snap_jax.training.config.settings import from_scratch
from snap_jax.training.phases import dense_phase
from snap_jax.training.plan import Plan, plan
from snap_jax.training.progress import nbytes
from snap_jax.training.result_json import systems


def plan_tables(config: Settings, system: str | None) -> Iterator[Table]:
    """Yield the sizes of a run, the bytes of one step, and their price on a named system, or on those of a report.

    Raises:
      UsageError: as `plan`; for a system that is not known or does not fit.
    """
    found = plan(config)
    on = systems(found.axes) if system is None else {system: find_system(system, found.traffic)}
    if from_scratch(config):
        yield _sizes(dense_phase(config), plan(dense_phase(config)))
    yield _sizes(config, found)
    yield _bytes(found)
    if max(found.axes.values()) > 1:
        yield _prices(found, on)


def _table(title: str, *headings: str) -> Table:
    made = Table(title=plain(title), title_justify="left", box=box.SIMPLE, pad_edge=False)
    for k, heading in enumerate(headings):
        made.add_column(heading, justify="right" if k else "left", overflow="fold")
    return made


def _sizes(config: Settings, found: Plan) -> Table:
    made = _table(command(config), "", "")
    memory = "unknown" if found.device_bytes is None else nbytes(found.device_bytes)
    for name, value in (
        ("parameters", f"{found.parameters:,}"),
        ("devices", ", ".join(f"{axis} {size}" for axis, size in found.axes.items())),
        ("memory of one device", memory),
        ("steps", f"{config.steps:,}"),
        ("elements that cross forward per step", f"{found.elements:,}"),
        ("bits per element, at most", f"{found.wire['max_bits_per_element']:.4g}"),
    ):
        made.add_row(name, value)
    return made


def _bytes(found: Plan) -> Table:
    made = _table("Bytes that leave all devices in one step, as compiled", "", "forward", "backward")
    for row in found.wire["by_boundary"]:
        made.add_row(plain(row["path"]), f"{row['forward_bytes']:,}", f"{row['backward_bytes']:,}")
    if found.exchange is not None:
        made.add_row("an exchange of parameters", "", f"{found.exchange.sent_bytes:,}")
    made.add_row("bookkeeping", f"{found.wire['bookkeeping_bytes_per_step']:,}", "")
    return made


def _prices(found: Plan, on: dict[str, cost.System]) -> Table:
    made = _table("Links of one step", "system", "energy", "latency")
    for name, system in on.items():
        report = cost.price(found.traffic, system)
        energy = str(report.energy_j) if report.has_energy else "unknown"
        latency = str(report.latency_s) if report.has_latency else f"> {report.serialization_s}"
        made.add_row(plain(name), energy, latency)
    return made
