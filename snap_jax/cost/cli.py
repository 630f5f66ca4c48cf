"""The command `snap-jax cost`: price recorded traffic on a system, or list the links and systems.

It prints a report or raises UsageError; it guesses neither sizes nor figures.
"""

import contextlib
import dataclasses
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from snap_jax.cost import links, toml_systems
from snap_jax.cost.gantt import gantt
from snap_jax.cost.link import Link
from snap_jax.cost.memory import MEMORIES
from snap_jax.cost.nodes import UNITS
from snap_jax.cost.pricing import price
from snap_jax.cost.report_csv import to_csv
from snap_jax.cost.schedules import PipelineOrder
from snap_jax.cost.sweep import sweep
from snap_jax.cost.system import NAMED, System, named
from snap_jax.cost.tables import plain, table
from snap_jax.cost.timeline import timeline
from snap_jax.cost.units import CostError, Range, si
from snap_jax.cost.workload import Workload
from snap_jax.errors import UsageError
from snap_jax.traffic.transfer import Traffic

Form = Literal["table", "json", "csv"]


def run(
    source: str | None,
    system: str | None,
    list_: bool = False,
    console: Console | None = None,
    form: Form = "table",
    waterfall: Path | None = None,
) -> None:
    """Print the report of some traffic on a system, or the list of links, units and systems.

    Args:
      source: a file that `Traffic.to_json` wrote, or a directory that holds it as traffic.json.
      system: a name from the list, or a path that ends in .toml.
      list_: whether to print the list instead.
      console: where to print; None is the terminal.
      form: of what is printed.
      waterfall: file of a chart to write as well.

    Raises:
      CostError: something is missing, cannot be read or does not fit.
    """
    screen = console or Console()
    if list_:
        for part in (link_table(), *link_sources(), unit_table(), *unit_sources(), system_table()):
            screen.print(part)
        return
    if source is None or system is None:
        raise CostError("cost: want RUN_DIR or TRAFFIC.json, and --system NAME or FILE.toml; or --list")
    traffic = read_traffic(source)
    report = price(traffic, find_system(system, traffic))
    if waterfall is not None:
        if waterfall.suffix not in (kinds := (".svg", ".png", ".pdf")):
            raise CostError(f"--waterfall {waterfall}: name a file that ends in {', '.join(kinds)}")
        plots = importlib.import_module("snap_jax.cost.plots")
        with _writing(waterfall):
            plots.waterfall(report, waterfall)
    if form == "table":
        screen.print(report)
    else:
        screen.file.write(report.to_json() + "\n" if form == "json" else to_csv(report))


@contextlib.contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CostError(f"cannot write {out} ({error.strerror}): give a path that can be written") from error


def draw_timeline(source: str, system: str, schedule: PipelineOrder, out: Path, console: Console | None = None) -> None:
    """Write the timeline of a pipeline as a chart (.svg) or as a trace for ui.perfetto.dev (.json).

    Raises:
      CostError: another ending, or as `timeline`.
    """
    if out.suffix not in (".svg", ".json"):
        raise CostError(f"cost timeline: --out {out}; want a name that ends in .svg or .json")
    traffic = read_traffic(source)
    made = timeline(traffic, schedule, find_system(system, traffic))
    with _writing(out):
        out.write_text(gantt(made) if out.suffix == ".svg" else made.to_chrome(), encoding="utf-8")
    screen = console or Console()
    screen.print(plain(f"{si(made.makespan, 's')} a step, devices wait {made.waiting:.1%} of it: {out}"))


def show_sweep(
    system: str, vary: str, values: list[str], unit: str | None, base: Workload, console: Console | None = None
) -> None:
    """Print a sweep of one field of a workload on a named system.

    Raises:
      CostError: an unknown system, unit or field.
    """
    if system not in NAMED:
        raise CostError(f"cost sweep: --system {system} is not known; want one of {', '.join(NAMED)}")
    if unit is not None and unit not in UNITS:
        raise CostError(f"cost sweep: --unit {unit} is not known; want one of {', '.join(UNITS)}")
    if vary not in (fields := [field.name for field in dataclasses.fields(Workload)]):
        raise CostError(f"cost sweep: --vary {vary} is not known; want one of {', '.join(fields)}")
    typed = [_typed(value) for value in values]
    (console or Console()).print(sweep(base, {vary: typed}, NAMED[system], UNITS[unit] if unit else None))


def _typed(value: str) -> int | float | str:
    try:
        return float(value) if "." in value or "e" in value else int(value)
    except ValueError:
        return value


def read_traffic(source: str) -> Traffic:
    """Return the traffic in a file, or in the traffic.json of a run directory."""
    path = Path(source)
    path = path / "traffic.json" if path.is_dir() else path
    from snap_jax.input_files.checked import read_text  # imports pydantic, which only files need

    try:
        return Traffic.from_json(read_text(path, "give a run directory or a traffic.json"), str(path))
    except UsageError as error:
        raise CostError(f"cost: {error}") from error


def find_system(system: str, traffic: Traffic) -> System:
    """Return a named system, sized for the traffic, or the system that a TOML file describes."""
    return toml_systems.load(system) if system.endswith(".toml") else named(system, traffic)


def link_table() -> Table:
    """Return the table of preset links; a number without a source is left empty."""
    rows = [
        (name, *map(_cell, (link.pj_per_bit, link.gbyte_per_s, link.latency_ns)), _packet(link))
        for name, link in links.PRESETS.items()
    ]
    headings = ("preset", "pJ/bit", "GB/s", "latency, ns", "packet")
    return _narrow(table("Links: figures for each direction; empty where no source is known", headings, rows))


def link_sources() -> list[Text]:
    """Return one line per preset that says where its figures come from."""
    return [
        Text(f"{name}: {link.name}. {link.boundary}. Source: {link.source}.", style="dim")
        for name, link in links.PRESETS.items()
    ]


def unit_table() -> Table:
    """Return the table of compute units: picojoules of a multiply-accumulate."""
    dtypes = ("float32", "bfloat16", "float8_e4m3fn", "int8")
    rows = [
        (name, unit.process_node, *(_cell(unit.pj_per_op.get(("mac", dtype)), ".3g") for dtype in dtypes))
        for name, unit in UNITS.items()
    ]
    headings = ("unit", "node", "float32", "bfloat16", "float8", "int8")
    return _narrow(table("Compute: pJ of a multiply-accumulate; empty where no source is known", headings, rows))


def unit_sources() -> list[Text]:
    """Return one line per compute unit and memory that says where its figures come from."""
    parts = {**UNITS, **MEMORIES}
    return [Text(f"{name}: {part.name}. Source: {part.source}.", style="dim") for name, part in parts.items()]


def system_table() -> Table:
    """Return the table of named systems."""
    samples = {name: topology(4) for name, topology in NAMED.items()}
    rows = [(name, sample.kind, sample.link.name) for name, sample in samples.items()]
    return _narrow(table("Systems: sized by the traffic", ("name", "every axis", "link"), rows, left=3))


def _narrow(made: Table) -> Table:
    """Without space around columns, so that names are whole in 80 columns."""
    made.pad_edge, made.padding = False, (0, 0)
    return made


def _packet(link: Link) -> str:
    return f"{link.packet_bytes} + {link.header_bytes} B" if link.header_bytes else ""


def _cell(figure: Range | None, form: str = "g") -> str:
    if figure is None:
        return ""
    return f"{figure.high:{form}}" if figure.low == figure.high else f"{figure.low:{form}} – {figure.high:{form}}"
