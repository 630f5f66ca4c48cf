"""How the runs were made: what they share, what tells them apart, and the commands to make them again."""

import shlex
from collections.abc import Sequence
from typing import Any

from snap_jax.report.run_data import Run


def shared(runs: Sequence[Run]) -> dict[str, Any]:
    """Find the settings that all runs have alike."""
    return {key: value for key, value in runs[0].config.items() if key not in differing(runs)}


def differing(runs: Sequence[Run]) -> list[str]:
    """Find the names of the settings that tell the runs apart."""
    keys = dict.fromkeys(key for run in runs for key in run.config)
    return [key for key in keys if len({repr(run.config.get(key)) for run in runs}) > 1]


def command(run: Run) -> str:
    """Write the command that makes a run again: the recorded one, else one with all settings as flags."""
    if run.command is not None:
        return run.command
    settings = {key: value for key, value in run.config.items() if key != "task"}
    flags = [word for key, value in settings.items() for word in _flag(key.replace("_", "-"), value)]
    return shlex.join(["snap-jax", "train", str(run.config.get("task", "language")), *flags, "--out", run.folder])


def _flag(name: str, value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    return [f"--{name}", *(str(part) for part in (value if isinstance(value, list) else [value]))]
