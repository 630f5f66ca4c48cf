"""The comparison of runs as JSON, for programs: what the table shows, as numbers."""

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from snap_jax.report.load_run import read_runs

_LEFT_OUT = {"path", "logs", "spikes"}  # the first may name a directory of the user, the others are not in the table


def comparison(paths: Sequence[Path]) -> str:
    """Return `{"runs": [...]}`: for each run what `RunData` holds; unknown numbers are null.

    Raises:
      UsageError: as `read_runs`.
    """
    runs = [
        {
            field.name: _plain(getattr(run, field.name))
            for field in dataclasses.fields(run)
            if field.name not in _LEFT_OUT
        }
        for run in read_runs(paths)
    ]
    return json.dumps({"runs": runs}, indent=1, allow_nan=False)


def _plain(value: Any) -> Any:
    """Return what JSON can hold."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
