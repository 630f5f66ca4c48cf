"""How far a run is: a bar on a terminal, and elsewhere, as in a log file, a line at every evaluation."""

import math

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from snap_jax.training.config import Settings
from snap_jax.training.run import Progress

_COLUMNS = (
    TextColumn("{task.description}", style="bold"),
    BarColumn(bar_width=30),
    TextColumn("{task.completed:.0f}/{task.total:.0f} steps"),
    TextColumn("{task.fields[numbers]}"),
    TimeRemainingColumn(),
)


class Display:
    """Context manager whose methods show the progress and the notes of one run.

    Args:
      config: of the run.
      console: where to show them.
      shown: whether to show a bar.
    """

    def __init__(self, config: Settings, console: Console, shown: bool = True):
        self._config, self._console = config, console
        self._bar = Bar(*_COLUMNS, console=console, disable=not shown)
        self._task = self._bar.add_task(f"{config.sent_link:>8}", total=config.steps, numbers="", visible=False)
        self._last = Progress(0, config.steps)

    def __enter__(self) -> "Display":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def note(self, text: str) -> None:
        """Show one line."""
        self._console.print(f"snap-jax: {text}", highlight=False, markup=False, soft_wrap=True)

    def progress(self, now: Progress) -> None:
        """Move the bar; off a terminal print a line, if an evaluation is due."""
        numbers = _numbers(now, self._config.unit)
        self._bar.update(self._task, completed=now.step, numbers=numbers, visible=True)
        if not self._console.is_terminal and now.step % self._config.evaluate_every == 0:
            self.note(f"step {now.step} of {now.steps}: {numbers}{pace(self._last, now)}")
            self._last = now


def _numbers(now: Progress, unit: str) -> str:
    if math.isnan(now.loss_bits):
        return "compiling"
    sent = f", {now.bits_per_element:.2f} bits/element" if now.bits_per_element else ""
    return f"{now.loss_bits:.3f} bits/{unit}{sent}"


def pace(before: Progress, now: Progress) -> str:
    """Return steps and bytes per second since an earlier line, and the time that the other steps take at that rate.

    Bytes are those of activations between stages, in the forward pass.

    >>> pace(Progress(0, 100), Progress(10, 100, 3.0, 2.0, seconds=5.0, elements=8000))
    ', 2 steps/s, 4 kB/s, 45 s left'
    """
    steps, seconds = now.step - before.step, now.seconds - before.seconds
    if steps < 1 or seconds <= 0:
        return ""
    rate = steps / seconds
    sent = now.bits_per_element * now.elements / 8 * rate
    return f", {rate:.3g} steps/s, {_bytes(sent)}/s, {_duration((now.steps - now.step) / rate)} left"


def _bytes(number: float) -> str:
    for unit in ("B", "kB", "MB"):
        if number < 999.5:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} GB"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
