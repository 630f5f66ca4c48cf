"""The command line: `snap-jax demo | train language | train vision | eval | generate | launch | report | cost`.

A user's mistake is one line on stderr that names the fix, and exit code 2; nothing half-written is left.
Each command imports what it needs when it runs, so `--help` and `--version` answer at once.
"""

import dataclasses
import difflib
import logging
import pkgutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from rich.console import Console

from snap_jax import __version__
from snap_jax.errors import UsageError

if TYPE_CHECKING:
    from snap_jax.training.config import Settings

_ABOUT = """usage: snap-jax COMMAND [OPTIONS]

Compressed collectives for JAX: train a model whose devices send each other a few bits
per number, and see what that saves.

commands:
  demo             Train one language model with five kinds of links and compare them.
  train language   Train an RWKV or a transformer to predict text byte by byte.
  train vision     Train an MS-ResNet or an EfficientNet to classify images.
  eval             Evaluate a trained run, on its held-out data or on other data.
  generate         Write text with a trained language run.
  launch           Run a command in several processes that work together.
  report           Compare finished runs in one table and one HTML page.
  cost             Price the traffic of a run in joules and seconds on a system.

options:
  -h, --help       Show this message, or with a command its options.
  --version        Show the version.
"""


_COMMANDS = ("demo", "train", "eval", "generate", "launch", "report", "cost")
_FLAT = tyro.conf.arg(name="")  # the fields of a dataclass as flags without a prefix


@dataclasses.dataclass(frozen=True)
class Directory:
    """Where a run is written, and what happens to a run that is there.

    Attributes:
      out: Directory for result.json, metrics.jsonl, TensorBoard events, report.html and the checkpoints.
      overwrite: Replace the run in that directory.
      resume: Continue the run in that directory as if it had never been stopped.
      requeue: Continue the run in that directory, or start it if there is none. For jobs that a scheduler starts again.
      lost_after: Of several processes, end when another one has not answered for so many seconds.
    """

    out: Path
    overwrite: bool = False
    resume: bool = False
    requeue: bool = False
    lost_after: int = 60


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _run(words)
    except UsageError as error:
        print(f"snap-jax: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("snap-jax: interrupted", file=sys.stderr)
        sys.exit(130)


def _run(words: list[str]) -> None:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_ABOUT, end="")
    elif words[0] == "--version":
        print(f"snap-jax {__version__}")
    elif words[0] == "train" and words[1:2] in ([], ["-h"], ["--help"]):
        print("usage: snap-jax train language | vision [OPTIONS]\n\nTry `snap-jax train language --help`.")
    elif words[0] == "train":
        _call({"language": _language, "vision": _vision}, words[1:], "snap-jax train")
    elif words[0] == "launch":
        _launch(words[1:])
    elif words[0] == "cost" and words[1:2] and words[1] in (more := _costs()):
        tyro.cli(more[words[1]], prog=f"snap-jax cost {words[1]}", args=words[2:])
    else:
        others: dict[str, Callable[[], Callable]] = {
            "eval": lambda: _inference("evaluate"),
            "generate": lambda: _inference("write"),
        }
        others |= {"demo": lambda: demo, "report": lambda: compare, "cost": lambda: price}
        _call(others, words, "snap-jax", _COMMANDS)


def _costs() -> dict[str, Callable[..., None]]:
    from snap_jax.cost import commands

    return {"calibrate": calibrate, "sweep": commands.sweep, "timeline": commands.draw}


def _launch(words: list[str]) -> None:
    """Split the options from the command after `--`, and run it."""
    at = words.index("--") if "--" in words else len(words)
    options, command = words[:at], words[at + 1 :]

    def launch(
        n: Annotated[int, tyro.conf.arg(aliases=("-n",))],
        devices_per_process: int | None = None,
        coordinator: str | None = None,
    ) -> None:
        """Run a command in several processes on this machine: snap-jax launch -n 2 -- COMMAND [ARGUMENTS].

        All end together: when one fails, with its exit code. Every line starts with the number of the process.

        Args:
          n: Number of processes.
          devices_per_process: CPU devices that each process emulates. The default leaves it to the command.
          coordinator: HOST:PORT where process 0 listens. The default is a free port of the loopback interface.
        """
        from snap_jax.parallel.launch import launch as run

        code = run(command, n, devices_per_process=devices_per_process, coordinator=coordinator)
        if code:
            sys.exit(code)

    tyro.cli(launch, prog="snap-jax launch", args=options)


def _call(
    commands: Mapping[str, Callable[[], Callable]], words: list[str], prog: str, names: Sequence[str] = ()
) -> None:
    """Parse the options of one command, and run it; `names` are those there are, if more than `commands`."""
    name, *options = words
    if name not in commands:
        names = names or list(commands)
        close = difflib.get_close_matches(name, (*names, "--version", "--help"), 1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise UsageError(f"{name!r} is no command of `{prog}`{hint}: use {', '.join(names)}; or --help")
    tyro.cli(commands[name](), prog=f"{prog} {name}", args=options)


def _language() -> Callable:
    from snap_jax.training.config import LanguageConfig

    where, what = Directory(Path("runs/language")), LanguageConfig()

    def language(
        directory: Annotated[Directory, _FLAT] = where, config: Annotated[LanguageConfig, _FLAT] = what
    ) -> None:
        """Train an RWKV or a transformer to predict text byte by byte."""
        _train_and_show(config, directory)

    return language


def _vision() -> Callable:
    from snap_jax.training.config import VisionConfig

    where, what = Directory(Path("runs/vision")), VisionConfig()

    def vision(directory: Annotated[Directory, _FLAT] = where, config: Annotated[VisionConfig, _FLAT] = what) -> None:
        """Train an MS-ResNet or an EfficientNet to classify images."""
        _train_and_show(config, directory)

    return vision


def _inference(name: str) -> Callable:
    return pkgutil.resolve_name(f"snap_jax.inference.cli:{name}")


def demo(
    out: Path = Path("runs/demo"), data: str = "stdlib", steps: int | None = None, overwrite: bool = False
) -> None:
    """Train one language model with five kinds of links between its devices, and compare them.

    Args:
      out: Directory for the runs and report.html.
      data: The training text, as for `train language`.
      steps: Number of optimizer steps of each run. The default takes about three minutes on two cores.
      overwrite: Replace the demo in that directory.
    """
    from snap_jax.training import demo as story

    if steps is not None and steps < 1:
        raise UsageError(f"demo: --steps {steps}: use 1 or more")
    story.check_free(out, overwrite)
    console = Console()
    print(story.INTRODUCTION)
    trained = story.train(
        out, data, steps or story.STEPS, lambda config, run: _train(config, Directory(run, overwrite=True), console)
    )
    console.print(story.table(trained))
    print(f"\n{story.LEGEND}")
    print(story.conclusion(trained))
    _write_page([link.runs[0] for link in trained], out / "report.html", console)


def compare(runs: tyro.conf.Positional[tuple[Path, ...]], out: Path = Path("report.html")) -> None:
    """Compare finished runs in one table and one self-contained HTML page.

    Args:
      runs: Run directories.
      out: The page to write.
    """
    _show(runs, out, Console())


def price(
    source: Annotated[str | None, tyro.conf.Positional] = None,
    system: str | None = None,
    list: bool = False,
    form: Literal["table", "json", "csv"] = "table",
    waterfall: Path | None = None,
) -> None:
    """Price the traffic of a run in joules and seconds on a system. Also: cost timeline, cost sweep, cost calibrate.

    Args:
      source: A run directory, or a traffic.json.
      system: A name from --list, or a TOML file.
      list: Show the links, compute units and systems there are.
      form: What to print: a table, JSON or CSV.
      waterfall: A chart to write as well, such as cost.svg.
    """
    from snap_jax.cost import cli as cost_cli

    cost_cli.run(source, system, list, form=form, waterfall=waterfall)


def calibrate(file: Annotated[Path, tyro.conf.Positional]) -> None:
    """Print the latency and the bandwidth of a link, from times measured on it, as a table for `cost --system`.

    Args:
      file: JSON lines, each with messages, bytes and seconds of a transfer.
    """
    from snap_jax.cost.link_fit import show

    print(show(file))


def _train_and_show(config: "Settings", directory: Directory) -> None:
    from snap_jax.parallel import processes

    console = Console()
    with processes.ended_on_failure():
        _train(config, directory, console)
        if processes.is_first():
            _show([directory.out], directory.out / "report.html", console)


def _train(config: "Settings", directory: Directory, console: Console) -> None:
    from snap_jax import training
    from snap_jax.parallel import processes
    from snap_jax.training.progress import Display
    from snap_jax.training.standard_output import ended_on_write_error, go_on_without_output

    go_on_without_output()
    processes.join_processes(directory.lost_after)
    for verbose in ("absl", "asyncio"):  # Orbax fills pages with an error that we report in one line
        logging.getLogger(verbose).setLevel(logging.CRITICAL)
    with ended_on_write_error(), Display(config, console, shown=processes.is_first()) as display:
        try:
            training.train(
                config,
                directory.out,
                overwrite=directory.overwrite,
                resume=directory.resume,
                requeue=directory.requeue,
                on_progress=display.progress,
                on_note=display.note,
            )
        except training.Stopped as stopped:
            print(f"snap-jax: {stopped}", file=sys.stderr)
            sys.exit(128 + stopped.signal)


def _show(runs: Sequence[Path], page: Path, console: Console) -> None:
    from snap_jax import report

    console.print(report.table(runs))
    _write_page(runs, page, console)


def _write_page(runs: Sequence[Path], page: Path, console: Console) -> None:
    from snap_jax import report

    report.write_report(runs, page)
    console.print(f"{page} has the plots.", highlight=False, markup=False, soft_wrap=True)
