"""`snap-jax train` and `snap-jax demo`: from the command line to a run directory and its page."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from snap_jax.errors import UsageError, printable

if TYPE_CHECKING:
    from snap_jax.cli.option_groups import RunOptions
    from snap_jax.training.config import Settings

_ABOUT = {
    "language": "Train an RWKV or a transformer to predict text byte by byte.",
    "vision": "Train an MS-ResNet or an EfficientNet to classify images.",
}
TASKS = tuple(_ABOUT)
_AT_EVERY_SAVE = ("Skipping merge of OCDBT checkpoints",)  # a single process has nothing to merge


def train(task: str, words: Sequence[str]) -> None:
    """Train as the words of a command line say; with `--dry-run` only show what that would take."""
    from snap_jax.cli.option_groups import parse
    from snap_jax.training.config import LanguageConfig, VisionConfig

    kind = LanguageConfig if task == "language" else VisionConfig
    options, config = parse(kind, words, _ABOUT[task], Path("runs") / task)
    if options.system is not None and not options.dry_run:
        raise UsageError(f"--system {options.system} without --dry-run: add --dry-run, or use `snap-jax cost` later")
    if options.dry_run:
        _show_plan(config, options.system)
    else:
        _train_and_show(config, options)


def _show_plan(config: "Settings", system: str | None) -> None:
    from snap_jax.cli.dry_run import plan_tables
    from snap_jax.parallel import processes

    processes.join_processes()
    tables = plan_tables(config, system)
    if processes.is_first():
        console = Console()
        for each in tables:
            console.print(each)


def _train_and_show(config: "Settings", options: "RunOptions") -> None:
    from snap_jax.parallel import processes

    console = Console()
    with processes.ended_on_failure():
        _train(config, options, console)
        if processes.is_first():
            show([options.out], options.out / "report.html", console)


def _train(config: "Settings", options: "RunOptions", console: Console) -> None:
    from snap_jax import training
    from snap_jax.parallel import processes
    from snap_jax.training.progress import Display
    from snap_jax.training.standard_output import ended_on_write_error, go_on_without_output

    go_on_without_output()
    processes.join_processes(options.lost_after)
    _set_up_logs(options.verbose)
    shown = processes.is_first() and not options.quiet
    with ended_on_write_error(), Display(config, console, shown) as display:
        try:
            training.train(
                config,
                options.out,
                overwrite=options.overwrite,
                resume=options.resume,
                requeue=options.requeue,
                on_progress=display.progress,
                on_note=display.note,
            )
        except training.Stopped as stopped:
            print(f"snap-jax: {printable(str(stopped))}", file=sys.stderr)
            sys.exit(128 + stopped.signal)


def _set_up_logs(verbose: bool) -> None:
    """Show what libraries log as warnings, or with `verbose` as information."""
    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(format="%(name)s: %(message)s", level=level)
    for name in ("absl", "asyncio"):
        log = logging.getLogger(name)
        log.setLevel(level)
        log.addFilter(is_shown)


def is_shown(record: logging.LogRecord) -> bool:
    """Return whether to show a record: not what Orbax says at every save, nor the traceback of what ends the run.

    Orbax and asyncio log the traceback of a full disk or a failed save from their threads, and then raise the error; we
    say it in one line.
    """
    ends = record.levelno >= logging.ERROR and record.exc_info
    return not ends and not any(words in record.getMessage() for words in _AT_EVERY_SAVE)


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
    from snap_jax.cli.option_groups import RunOptions
    from snap_jax.training import demo as story

    if steps is not None and steps < 1:
        raise UsageError(f"demo: --steps {steps}: use 1 or more")
    story.check_free(out, overwrite)
    console = Console()
    print(story.INTRODUCTION)
    trained = story.train(
        out, data, steps or story.STEPS, lambda config, run: _train(config, RunOptions(run, overwrite=True), console)
    )
    console.print(story.table(trained))
    print(f"\n{story.LEGEND}")
    print(story.conclusion(trained))
    write_page([run for link in trained for run in link.runs], out / "report.html", console)


def show(runs: Sequence[Path], page: Path, console: Console) -> None:
    """Print the comparison of some runs, and write its page."""
    from snap_jax import report

    console.print(report.table(runs))
    write_page(runs, page, console)


def write_page(runs: Sequence[Path], page: Path, console: Console) -> None:
    """Write the page that compares some runs, and say where."""
    from snap_jax import report

    report.write_report(runs, page)
    console.print(f"{printable(str(page))} has the plots.", highlight=False, markup=False, soft_wrap=True)
