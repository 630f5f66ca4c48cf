"""The command `snap-jax cost`: price recorded traffic on a system, or list the links and systems.

It prints a report or raises UsageError; it guesses neither sizes nor figures.
"""

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from snap_jax.cost import links, toml_systems
from snap_jax.cost.links import Link
from snap_jax.cost.pricing import price
from snap_jax.cost.system import NAMED, System, named
from snap_jax.cost.tables import table
from snap_jax.cost.units import CostError, Range
from snap_jax.traffic.transfer import Traffic


def run(source: str | None, system: str | None, list_: bool = False, console: Console | None = None) -> None:
    """Print the report of some traffic on a system, or the list of links and systems.

    Args:
      source: a file that `Traffic.to_json` wrote, or a directory that holds it as traffic.json.
      system: a name from the list, or a path that ends in .toml.
      list_: whether to print the list instead.
      console: where to print; None is the terminal.

    Raises:
      CostError: something is missing, cannot be read or does not fit.
    """
    screen = console or Console()
    if list_:
        for part in (link_table(), *link_sources(), system_table()):
            screen.print(part)
        return
    if source is None or system is None:
        raise CostError("cost: want RUN_DIR or TRAFFIC.json, and --system NAME or FILE.toml; or --list")
    traffic = read_traffic(source)
    screen.print(price(traffic, find_system(system, traffic)))


def read_traffic(source: str) -> Traffic:
    """Return the traffic in a file, or in the traffic.json of a run directory."""
    path = Path(source)
    path = path / "traffic.json" if path.is_dir() else path
    try:
        return Traffic.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CostError(f"cost: {path} does not hold traffic as Traffic.to_json writes it: {error!r}") from error


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
    return table("Links: figures for each direction; empty where no source is known", headings, rows)


def link_sources() -> list[Text]:
    """Return one line per preset that says where its figures come from."""
    return [
        Text(f"{name}: {link.name}. {link.boundary}. Source: {link.source}.", style="dim")
        for name, link in links.PRESETS.items()
    ]


def system_table() -> Table:
    """Return the table of named systems."""
    samples = {name: topology(4) for name, topology in NAMED.items()}
    rows = [(name, sample.kind, sample.link.name) for name, sample in samples.items()]
    return table("Systems: sized by the traffic", ("name", "topology of every axis", "link"), rows, left=3)


def _packet(link: Link) -> str:
    return f"{link.packet_bytes} + {link.header_bytes} B" if link.header_bytes else ""


def _cell(figure: Range | None) -> str:
    if figure is None:
        return ""
    return f"{figure.high:g}" if figure.low == figure.high else f"{figure.low:g} – {figure.high:g}"
