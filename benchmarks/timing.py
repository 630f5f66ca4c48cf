"""Time candidates fairly: after a warm-up they take turns in rounds, so that drift affects all alike."""

import dataclasses
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping

import jax


@dataclasses.dataclass(frozen=True)
class Times:
    """The seconds of each round."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Return the median seconds."""
        return statistics.median(self.rounds)

    def __str__(self) -> str:
        """Return the median seconds with quartiles."""
        low, _, high = statistics.quantiles(self.rounds, n=4)
        return f"{self.median:.2f} ({max(low, min(self.rounds)):.2f}–{min(high, max(self.rounds)):.2f})"

    def over(self, other: "Times", digits: int = 2) -> str:
        """Return the median ratio to another candidate, with the quartiles of the ratios of single rounds."""
        ratios = sorted(a / b for a, b in zip(self.rounds, other.rounds, strict=True))
        low, _, high = statistics.quantiles(ratios, n=4)
        return " ".join((f"{statistics.median(ratios):.{digits}f}", f"({low:.{digits}f}–{high:.{digits}f})"))


def take_turns(
    candidates: Mapping[str, Callable[[], object]], rounds: int, *, clock: Callable[[], float] = time.perf_counter
) -> dict[str, Times]:
    """Return the times of each candidate; a candidate returns the arrays to wait for."""
    for run in candidates.values():
        jax.block_until_ready(run())
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            start = clock()
            jax.block_until_ready(run())
            seconds[name].append(clock() - start)
    return {name: Times(tuple(s)) for name, s in seconds.items()}


def machine() -> str:
    """Return one line on the machine and the versions."""
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, jax {jax.__version__} on {jax.default_backend()}, "
        f"Python {platform.python_version()}"
    )
