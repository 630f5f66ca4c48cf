"""Metrics: one JSON line every few steps, and the same numbers for TensorBoard.

`metrics.jsonl` holds each logged step once, in order, however often the run was stopped; so does the event file.
"""

import json
import socket
import time
from pathlib import Path
from typing import TextIO

from snap_jax.errors import requires_extra
from snap_jax.parallel.processes import is_first
from snap_jax.training.atomic_io import sync, to_json, write_atomically

with requires_extra("train", "training"):
    from tensorboardX import RecordWriter
    from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
    from tensorboardX.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]

_OURS = ".snap-jax"  # behind the name of an event file, by which it is told from those of other programs
NAME, EVENTS = "metrics.jsonl", f"events.out.tfevents.*{_OURS}"


class Metrics:
    """Writes the metrics of a run in `out`, after those of its first `step` steps.

    Args:
      out: the run directory.
      step: lines of later steps are dropped; they will be logged again.
      seconds: that the run has taken so far.
    """

    def __init__(self, out: Path, step: int, seconds: float):
        self.out = out
        kept = [line for line in lines(out / NAME) if line["step"] <= step]
        write_atomically(out / NAME, "".join(to_json(line) + "\n" for line in kept))
        for old in out.glob(EVENTS):
            old.unlink()
        self._began = time.time() - seconds
        self._file: TextIO = (out / NAME).open("a", encoding="utf-8")
        self._events = EventFile(out, self._began)
        for line in kept:
            self._tell(line)

    def __enter__(self) -> "Metrics":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._events.close()

    def write(self, line: dict) -> None:
        """Log one step; `line` has its `step` and `seconds`."""
        print(to_json(line), file=self._file, flush=True)
        self._tell(line)
        self._events.flush()

    def sync(self) -> None:
        """Return when everything logged is on the disk."""
        sync(self._file)

    def _tell(self, line: dict) -> None:
        self._events.write(line["step"], self._began + line["seconds"], scalars(line))


class EventFile:
    """Writes scalars for TensorBoard, each before `write` returns.

    `tensorboardX.SummaryWriter` is not used: it writes from a thread, and when the disk is full that thread ends, after
    which training would wait for it forever.
    """

    def __init__(self, out: Path, began: float):
        self._file = RecordWriter(str(out / f"events.out.tfevents.{began:.0f}.{socket.gethostname()}{_OURS}"))
        self._file.write(Event(wall_time=began, file_version="brain.Event:2").SerializeToString())

    def write(self, step: int, when: float, values: dict[str, float]) -> None:
        """Write the scalars of one step, by tag; `when` in seconds since 1970."""
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])
        self._file.write(Event(wall_time=when, step=step, summary=summary).SerializeToString())

    def flush(self) -> None:
        """Return when everything written is on the disk."""
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class NoMetrics:
    """Writes nothing: for all processes but the first."""

    def __init__(self, out: Path):
        self.out = out

    def __enter__(self) -> "NoMetrics":
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing."""

    def write(self, line: dict) -> None:
        """Do nothing."""

    def sync(self) -> None:
        """Do nothing."""


def metrics_writer(out: Path, step: int, seconds: float) -> Metrics | NoMetrics:
    """Return the `Metrics` of the first process; the others write nothing."""
    return Metrics(out, step, seconds) if is_first() else NoMetrics(out)


def lines(path: Path) -> list[dict]:
    """Return the lines of a metrics file, up to the first incomplete one; none if there is no file."""
    found = []
    for text in path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1] if path.is_file() else ():
        try:
            line = json.loads(text)
            scalars(line)  # each a number that fits
            found.append(line | {"step": int(line["step"]), "seconds": float(line["seconds"])})
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            break
    return found


def scalars(line: dict) -> dict[str, float]:
    """Return the numbers of a line by name; a list becomes several.

    >>> scalars({"step": 10, "seconds": 1.5, "loss_bits": 3.0, "firing_rate": None, "threshold_mean": [0.5, 0.25]})
    {'loss_bits': 3.0, 'threshold_mean/0': 0.5, 'threshold_mean/1': 0.25}
    """
    found = {}
    for name, value in line.items():
        if name in ("step", "seconds") or value is None:
            continue
        if isinstance(value, list):
            found |= {f"{name}/{i}": float(v) for i, v in enumerate(value) if v is not None}
        elif isinstance(value, int | float):
            found[name] = float(value)
    return found
