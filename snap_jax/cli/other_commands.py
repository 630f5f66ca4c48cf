"""The commands `launch`, `report`, `cost`, `export`, `import` and `bench`, as the command line shows them."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from snap_jax.errors import printable


def launch(words: list[str]) -> None:
    """Split the options from the command after `--`, and run it."""
    at = words.index("--") if "--" in words else len(words)
    options, command = words[:at], words[at + 1 :]

    def launch(
        n: Annotated[int, tyro.conf.arg(aliases=("-n",))],
        devices_per_process: int | None = None,
        coordinator: str | None = None,
        own_cores: bool = False,
    ) -> None:
        """Run a command in several processes on this machine: snap-jax launch -n 2 -- COMMAND [ARGUMENTS].

        All end together: when one fails, with its exit code. Every line starts with the number of the process.

        Args:
          n: Number of processes.
          devices_per_process: CPU devices that each process emulates. The default leaves it to the command.
          coordinator: HOST:PORT where process 0 listens. The default is a free port of the loopback interface.
          own_cores: Give each process its share of the cores, so that their threads do not wait for each other.
        """
        from snap_jax.parallel.launch import launch as run

        code = run(command, n, devices_per_process=devices_per_process, coordinator=coordinator, own_cores=own_cores)
        if code:
            sys.exit(code)

    tyro.cli(launch, prog="snap-jax launch", args=options)


def compare(runs: tyro.conf.Positional[tuple[Path, ...]], out: Path = Path("report.html"), json: bool = False) -> None:
    """Compare finished runs in one table and one self-contained HTML page.

    Args:
      runs: Run directories.
      out: The page to write.
      json: Print one JSON object instead, and write no page.
    """
    from snap_jax.cli.train_command import show

    if json:
        from snap_jax.report.comparison_json import comparison

        print(comparison(runs))
    else:
        show(runs, out, Console())


def price(
    source: Annotated[str | None, tyro.conf.Positional] = None,
    system: str | None = None,
    list: bool = False,
    form: Literal["table", "json", "csv"] = "table",
    json: bool = False,
    waterfall: Path | None = None,
) -> None:
    """Price the traffic of a run in joules and seconds on a system. Also: cost timeline, cost sweep, cost calibrate.

    Args:
      source: A run directory, or a traffic.json.
      system: A name from --list, or a TOML file.
      list: Show the links, compute units and systems there are.
      form: What to print: a table, JSON or CSV.
      json: The same as --form json.
      waterfall: A chart to write as well, such as cost.svg.
    """
    from snap_jax.cost import cli as cost_cli

    cost_cli.run(source, system, list, form="json" if json else form, waterfall=waterfall)


def costs() -> dict[str, Callable[..., None]]:
    """Return the other commands of `cost` by name."""
    from snap_jax.cost import commands

    return {"calibrate": calibrate, "sweep": commands.sweep, "timeline": commands.draw}


def calibrate(file: Annotated[Path, tyro.conf.Positional]) -> None:
    """Print the latency and the bandwidth of a link, from times measured on it, as a table for `cost --system`.

    Args:
      file: JSON lines, each with messages, bytes and seconds of a transfer.
    """
    from snap_jax.cost.link_fit import show

    print(show(file))


def export(run: Annotated[Path, tyro.conf.Positional], file: Annotated[Path, tyro.conf.Positional]) -> None:
    """Write the final weights of a run into one safetensors file, named as in the model on one device.

    Args:
      run: The run directory.
      file: The file to write, such as model.safetensors. Its metadata holds the settings.
    """
    from snap_jax.inference.weights_file import export_weights

    _say(f"{file} has {export_weights(run, file):,} numbers.")


def import_(file: Annotated[Path, tyro.conf.Positional], run: Annotated[Path, tyro.conf.Positional]) -> None:
    """Make a run directory from a file of `export`, for eval, generate and --init-from.

    Args:
      file: The safetensors file.
      run: The directory to make.
    """
    from snap_jax.inference.weights_file import import_weights

    _say(f"{run} has {import_weights(file, run):,} numbers.")


def bench(
    links: tyro.conf.Positional[tuple[str, ...]] = ("bf16", "int8:absmax", "ternary", "count:3+rans"),
    numbers: int = 2**20,
    devices: int = 4,
    rounds: int = 7,
    json: bool = False,
) -> None:
    """Time all-gathers that send coded numbers against plain ones on this machine, in turns.

    Args:
      links: What to send, as for `train --link`.
      numbers: Float32 numbers of each device.
      devices: How many devices to use. On a CPU they are emulated.
      rounds: How often each is timed.
      json: Print one JSON object instead of a table.
    """
    from snap_jax.cli import gather_bench

    found = gather_bench.measure(links, numbers, devices, rounds)
    if json:
        print(gather_bench.as_json(found))
    else:
        Console().print(gather_bench.table(found))


def _say(text: str) -> None:
    print(printable(text))
