"""What `snap-jax cost` does: price recorded traffic on a system, or list what there is to price it on.

Law: it prints a report or raises UsageError; it guesses neither sizes nor figures.
"""

from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from snap_jax.cost import links, toml_systems
from snap_jax.cost.errors import CostError
from snap_jax.cost.links import Link
from snap_jax.cost.presets import NAMED, named
from snap_jax.cost.pricing import price
from snap_jax.cost.system import System
from snap_jax.cost.units import Range
from snap_jax.traffic.transfer import Traffic


def run(source: str | None, system: str | None, list_: bool = False, console: Console | None = None) -> None:
    """Print the report of some traffic on a system, or the list of links and systems.

    Args:
      source: a file that `Traffic.to_json` wrote, or a directory that holds it as traffic.json.
      system: a name of the list, or a path ending in .toml.
      list_: print the list instead.
      console: where to; None prints to the terminal.

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
    """Read a traffic file, or the traffic.json of a run."""
    path = Path(source)
    path = path / "traffic.json" if path.is_dir() else path
    try:
        return Traffic.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CostError(f"cost: {path} does not hold traffic as Traffic.to_json writes it: {error!r}") from error


def find_system(system: str, traffic: Traffic) -> System:
    """Return a named system, sized for the traffic, or the one a TOML file describes."""
    return toml_systems.load(system) if system.endswith(".toml") else named(system, traffic)


def link_table() -> Table:
    """Every preset link with its figures; what has no source is empty."""
    table = Table(title="Links: figures each way; empty where no source is known", box=box.SIMPLE_HEAD)
    for heading in ("preset", "pJ/bit", "GB/s", "latency, ns", "packet"):
        table.add_column(heading, justify="left" if heading == "preset" else "right", no_wrap=True)
    for name, link in links.PRESETS.items():
        figures = (_cell(figure) for figure in (link.pj_per_bit, link.gbyte_per_s, link.latency_ns))
        table.add_row(name, *figures, _packet(link))
    return table


def link_sources() -> list[Text]:
    """Where the figures of every preset come from, one line each."""
    return [
        Text(f"{name}: {link.name}. {link.boundary}. Source: {link.source}.", style="dim")
        for name, link in links.PRESETS.items()
    ]


def system_table() -> Table:
    """Every named system."""
    table = Table(title="Systems: sized by the traffic", box=box.SIMPLE_HEAD)
    for heading in ("name", "wiring of every axis", "link"):
        table.add_column(heading)
    for name, wiring in NAMED.items():
        topology = wiring(4)
        table.add_row(name, type(topology).__name__, topology.link.name)
    return table


def _packet(link: Link) -> str:
    return f"{link.packet_bytes} + {link.header_bytes} B" if link.header_bytes else ""


def _cell(figure: Range | None) -> str:
    if figure is None:
        return ""
    return f"{figure.high:g}" if figure.low == figure.high else f"{figure.low:g} – {figure.high:g}"
