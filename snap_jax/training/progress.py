"""How far a run is: a bar on a terminal, and elsewhere, as in a log file, a line every few steps or seconds."""

import math

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from snap_jax.errors import printable
from snap_jax.training.config import Settings
from snap_jax.training.run import Progress

_COLUMNS = (
    TextColumn("{task.description}", style="bold", markup=False),
    BarColumn(bar_width=30),
    TextColumn("{task.completed:.0f}/{task.total:.0f} steps"),
    TextColumn("{task.fields[numbers]}", markup=False),
    TimeRemainingColumn(),
)
_LEAST_SECONDS = 5.0  # between two lines off a terminal, but for those with an evaluation


class Display:
    """Context manager whose methods show the progress and the notes of one run.

    Args:
      config: of the run.
      console: where to show them.
      shown: whether to show anything.
    """

    def __init__(self, config: Settings, console: Console, shown: bool = True):
        self._config, self._console, self._shown = config, console, shown
        self._bar = Bar(*_COLUMNS, console=console, disable=not (shown and console.is_terminal))
        self._task = self._bar.add_task(f"{config.sent_link:>8}", total=config.steps, numbers="", visible=False)
        self._last = Progress(0, config.steps)

    def __enter__(self) -> "Display":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def note(self, text: str) -> None:
        """Show one line."""
        if self._shown:
            self._console.print(f"snap-jax: {printable(text)}", highlight=False, markup=False, soft_wrap=True)

    def progress(self, now: Progress) -> None:
        """Move the bar; off a terminal print a line, if one is due."""
        if math.isnan(now.loss_bits) and now.seconds:
            self._last = now  # compiled: rates begin here
            return
        rates = "" if math.isnan(now.loss_bits) else pace(self._last, now)
        numbers = _numbers(now, self._config.unit)
        speed = rates.split(", ")[1:2]  # the bar shows the time left itself
        self._bar.update(
            self._task, total=now.steps, completed=now.step, numbers=", ".join((numbers, *speed)), visible=True
        )
        if not self._console.is_terminal and self._is_due(now):
            self.note(f"step {now.step} of {now.steps}: {numbers}{rates}")
            self._last = now

    def _is_due(self, now: Progress) -> bool:
        evaluated = now.step % self._config.evaluate_every == 0 or now.step == now.steps
        return evaluated or now.seconds - self._last.seconds >= _LEAST_SECONDS


def _numbers(now: Progress, unit: str) -> str:
    if math.isnan(now.loss_bits):
        return "compiling"
    sent = f", {now.bits_per_element:.2f} bits/element" if now.bits_per_element else ""
    return f"{now.loss_bits:.3f} bits/{unit}{sent}"


def pace(before: Progress, now: Progress) -> str:
    """Return steps and bytes per second since an earlier line, and the time that the other steps take at that rate.

    Bytes are those of activations between stages, in the forward pass.

    >>> pace(Progress(0, 100), Progress(10, 100, 3.0, 2.0, seconds=5.0, elements=8000))
    ', 2 steps/s, 4 kB/s forward, 45 s left'
    """
    steps, seconds = now.step - before.step, now.seconds - before.seconds
    if steps < 1 or seconds <= 0:
        return ""
    rate = steps / seconds
    sent = now.bits_per_element * now.elements / 8 * rate
    return f", {rate:.3g} steps/s, {nbytes(sent)}/s forward, {_duration((now.steps - now.step) / rate)} left"


def nbytes(number: int | float) -> str:
    """Return a number of bytes with its unit.

    >>> nbytes(1500), nbytes(2.5e9)
    ('1.5 kB', '2.5 GB')
    """
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
