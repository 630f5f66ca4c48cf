"""The command line: `snap-jax demo | train | report | cost`.

Law: a user's mistake is one line on stderr that names the fix, and exit code 2; nothing half-written is left behind.
"""

import dataclasses
import logging
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from snap_jax import report, training
from snap_jax.cost import cli as cost_cli
from snap_jax.errors import UsageError
from snap_jax.training.config import LanguageConfig, Settings, VisionConfig

DEMO_LINKS = ("bf16", "int4", "count:3")

_ABOUT = "Compressed collectives for JAX: train a model whose chips talk in spikes, and see what it saved."


def demo(out: Path = Path("runs/demo"), data: str = "stdlib", steps: int = 300, seed: int = 0) -> None:
    """Train one language model over four emulated chips three times: bf16, int4 and learned spikes between them.

    Args:
      out: where the three runs and report.html go; an earlier demo there is replaced.
      data: what to train on, see `train`.
      steps: of the optimizer, for each run.
      seed: of parameters and batches.
    """
    console = Console()
    console.print("One RWKV language model over four emulated chips, trained with three kinds of links between them.\n")
    runs = [out / link.replace(":", "") for link in DEMO_LINKS]
    base = LanguageConfig(data=data, steps=steps, seed=seed)
    for link, run in zip(DEMO_LINKS, runs, strict=True):
        _train(dataclasses.replace(base, link=link), Directory(run, overwrite=True), console)
    _show(runs, out / "report.html", console)


def train() -> None:
    """Train a model that is divided over emulated chips: `train language`, or `train vision`; --help behind either."""


@dataclasses.dataclass(frozen=True)
class Directory:
    """Where a run goes, and what to do with the one that is there.

    Attributes:
      out: directory for result.json, metrics.jsonl, TensorBoard's events, report.html and the checkpoints.
      overwrite: replace the run in that directory.
      resume: go on with the run in that directory, as if it had never been stopped.
    """

    out: Path
    overwrite: bool = False
    resume: bool = False


_LANGUAGE, _LANGUAGE_RUN = LanguageConfig(), Directory(Path("runs/language"))
_VISION, _VISION_RUN = VisionConfig(), Directory(Path("runs/vision"))


def language(
    directory: Annotated[Directory, tyro.conf.arg(name="")] = _LANGUAGE_RUN,
    config: Annotated[LanguageConfig, tyro.conf.arg(name="")] = _LANGUAGE,
) -> None:
    """Train an RWKV or a transformer to predict text byte by byte."""
    _train_and_show(config, directory)


def vision(
    directory: Annotated[Directory, tyro.conf.arg(name="")] = _VISION_RUN,
    config: Annotated[VisionConfig, tyro.conf.arg(name="")] = _VISION,
) -> None:
    """Train an MS-ResNet or an EfficientNet to tell pictures apart."""
    _train_and_show(config, directory)


def compare(runs: tyro.conf.Positional[tuple[Path, ...]], out: Path = Path("report.html")) -> None:
    """Compare finished runs in one table and one self-contained page.

    Args:
      runs: run directories.
      out: the page.
    """
    _show(runs, out, Console())


def price(
    source: Annotated[str | None, tyro.conf.Positional] = None, system: str | None = None, list: bool = False
) -> None:
    """Price the traffic of a run in joules and seconds on a system.

    Args:
      source: a run directory, or a traffic.json.
      system: a name from the list, or a TOML file of your own.
      list: show the links and systems there are.
    """
    cost_cli.run(source, system, list)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    for chatty in ("absl", "asyncio"):  # what Orbax reports there over pages, of a full disk say, we say in one line
        logging.getLogger(chatty).setLevel(logging.CRITICAL)
    words = list(sys.argv[1:] if arguments is None else arguments)
    commands = {"demo": demo, "train": train, "report": compare, "cost": price}
    prog, about = "snap-jax", _ABOUT
    if words[:1] == ["train"]:
        commands, prog, about = {"language": language, "vision": vision}, "snap-jax train", train.__doc__
        words = words[1:]
    try:
        tyro.extras.subcommand_cli_from_dict(commands, prog=prog, description=about, args=words)
    except UsageError as error:
        print(f"snap-jax: {error}", file=sys.stderr)
        sys.exit(2)
    except training.Stopped as stopped:
        print(f"snap-jax: {stopped}", file=sys.stderr)
        sys.exit(128 + stopped.signal)
    except KeyboardInterrupt:
        print("snap-jax: interrupted", file=sys.stderr)
        sys.exit(130)


def _train_and_show(config: Settings, directory: Directory) -> None:
    console = Console()
    _train(config, directory, console)
    _show([directory.out], directory.out / "report.html", console)


def _train(config: Settings, directory: Directory, console: Console) -> None:
    columns = (
        TextColumn("{task.description}", style="bold"),
        BarColumn(bar_width=30),
        TextColumn("{task.completed:.0f}/{task.total:.0f} steps"),
        TextColumn("{task.fields[numbers]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(f"{config.sent_link:>8}", total=config.steps, numbers="compiling", visible=False)

        def show(progress: training.Progress) -> None:
            sent = f"  {progress.bits_per_element:.2f} bits/element" if progress.bits_per_element else ""
            numbers = f"{progress.loss_bits:.3f} bits/{config.unit}{sent}"
            known = not math.isnan(progress.loss_bits)
            bar.update(task, completed=progress.step, numbers=numbers if known else "compiling", visible=True)

        def note(text: str) -> None:
            console.print(f"snap-jax: {text}", highlight=False, markup=False, soft_wrap=True)

        training.train(
            config,
            directory.out,
            overwrite=directory.overwrite,
            resume=directory.resume,
            on_progress=show,
            on_note=note,
        )


def _show(runs: Sequence[Path], page: Path, console: Console) -> None:
    table = report.table(runs)
    report.write_report(runs, page)
    console.print(table)
    console.print(f"[bold]{page}[/bold] has the plots.")
