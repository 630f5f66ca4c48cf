"""What `result.json` and `metrics.jsonl` must hold, checked by pydantic, and the data of a run that they make.

Paths of the user are left out, since a report is shared: of an absolute one the last part stays.
"""

import shlex
from pathlib import Path
from typing import Annotated, Any

from snap_jax.input_files.checked import (
    Checked,
    Count,
    Field,
    Number,
    Text,
    check,
    field_validator,
    parse_json,
    read_text,
)
from snap_jax.report.run_data import BoundaryBytes, Cost, LogLine, Price, Pruning, RunData, StepOrder

_ADVICE = "run the training again"
_MOST_ROWS = 2**16

Pair = tuple[Number, Number]
Few = Annotated[int, Field(ge=0, le=2**16)]


class _Section(Checked):
    """A section that may be absent or null; null stands for no value."""


class _Quality(_Section):
    metric: Text
    value: Number
    n: Count


class _Boundary(_Section):
    path: Text
    forward_bytes: Count
    backward_bytes: Count
    firing_rate: Number | None = None
    entropy_bits: Number | None = None


class _Wire(_Section):
    forward_bytes_per_step: Count
    backward_bytes_per_step: Count
    gradient_bytes_per_step: Count | None = None
    bookkeeping_bytes_per_step: Count | None = None
    bits_per_element: Number | None = None
    max_bits_per_element: Number | None = None
    budget_bits_per_element: Number | None = None
    entropy_bits_per_element: Number | None = None
    firing_rate: Number | None = None
    by_boundary: Annotated[list[_Boundary], Field(max_length=_MOST_ROWS)] | None = None

    @property
    def most(self) -> float | None:
        """Bits per element that were compiled."""
        return self.bits_per_element if self.max_bits_per_element is None else self.max_bits_per_element

    @property
    def bits(self) -> float | None:
        """Measured bits, with context tokens; the compiled number if payloads have one size (it has headers)."""
        sent = self.bits_per_element if self.budget_bits_per_element is None else self.budget_bits_per_element
        return self.most if sent is None or self.most is None or sent > 0.95 * self.most else sent


class _Price(_Section):
    energy_j_per_step: Pair | None = None
    latency_s_per_step: Pair | None = None


class _Cost(_Price):
    energy_note: Text | None = None
    latency_note: Text | None = None
    sent_energy_j_per_step: Pair | None = None
    sent_latency_s_per_step: Pair | None = None
    parts: Annotated[dict[Text, _Price], Field(max_length=64)] | None = None


class _Baselines(_Section):
    order0_bits_per_byte: Number | None = None
    gzip_bits_per_byte: Number | None = None
    majority_class_percent: Number | None = None


class _Pruned(_Section):
    channels: Pair | None = None
    payload_bytes: Pair | None = None


class _Made(_Section):
    date: Text | None = None
    commit: Text | None = None
    devices: Text | None = None


class _Timeline(_Section):
    kind: Text
    devices: Few
    microbatches: Few
    forward_s: Count
    backward_s: Count
    unit: Text


class ResultFile(_Section):
    """`result.json`."""

    quality: _Quality
    wire: _Wire
    cost: Annotated[dict[Text, _Cost], Field(max_length=_MOST_ROWS)] | None = None
    config: Annotated[dict[Text, Any], Field(max_length=_MOST_ROWS)] | None = None
    versions: Annotated[dict[Text, Any], Field(max_length=_MOST_ROWS)] | None = None
    baselines: _Baselines | None = None
    pruned: _Pruned | None = None
    made: _Made | None = None
    timeline: _Timeline | None = None
    seconds: Number | None = None
    command: Text | None = None

    @field_validator("timeline", mode="before")
    @classmethod
    def _none_if_empty(cls, value: Any) -> Any:
        return None if value == {} else value


class _Line(_Section):
    """A line of `metrics.jsonl`."""

    step: Count
    loss_bits: Number | None = None
    heldout_bits: Number | None = None
    heldout_accuracy_percent: Number | None = None
    entropy_bits_per_element: Number | None = None
    firing_rate: Number | None = None
    threshold_mean: Annotated[list[Number | None], Field(max_length=_MOST_ROWS)] | None = None


def read_result(path: Path) -> RunData:
    """Return the data of a run without its label and its spikes.

    Raises:
      UsageError: names the file, the path of the first field that is wrong, and what it holds.
    """
    file = path / "result.json"
    found = check(ResultFile, parse_json(read_text(file, _ADVICE), str(file), _ADVICE), str(file), _ADVICE)
    baselines, wire = found.baselines or _Baselines(), found.wire
    return RunData(
        path=path,
        label="",
        metric=found.quality.metric,
        value=found.quality.value,
        n=found.quality.n,
        forward_bytes=wire.forward_bytes_per_step,
        backward_bytes=wire.backward_bytes_per_step,
        gradient_bytes=wire.gradient_bytes_per_step,
        bookkeeping_bytes=wire.bookkeeping_bytes_per_step,
        bits=wire.bits,
        most_bits=wire.most,
        entropy=wire.entropy_bits_per_element,
        firing_rate=wire.firing_rate,
        boundaries=tuple(BoundaryBytes(**dict(row)) for row in wire.by_boundary or ()),
        costs={system: _cost(one) for system, one in (found.cost or {}).items()},
        config={name: _shared(value) for name, value in (found.config or {}).items()},
        versions=found.versions or {},
        seconds=found.seconds,
        order0=baselines.order0_bits_per_byte,
        gzip=baselines.gzip_bits_per_byte,
        command=None if found.command is None else _shared_command(found.command),
        majority=baselines.majority_class_percent,
        pruned=_pruned(found.pruned),
        logs=_logs(path / "metrics.jsonl"),
        spikes=None,
        made={} if found.made is None else found.made.model_dump(exclude_none=True),
        order=None if found.timeline is None else StepOrder(**dict(found.timeline)),
    )


def _shared(value: Any) -> Any:
    """Return a value without the folders of an absolute path.

    >>> _shared("/home/me/text.txt"), _shared("runs/a"), _shared(3)
    ('text.txt', 'runs/a', 3)
    """
    return Path(value).name if isinstance(value, str) and value[:1] in ("/", "~") else value


def _shared_command(command: str) -> str:
    r"""Return a command without the folders of absolute paths.

    >>> _shared_command("snap-jax train language --data /home/me/a --out '/tmp/b c'")
    "snap-jax train language --data a --out 'b c'"
    """
    try:
        return shlex.join(_shared(word) for word in shlex.split(command))
    except ValueError:  # an open quotation mark: the file was edited
        return command if not any(sign in command for sign in "/~") else ""


def _cost(one: _Cost) -> Cost:
    return Cost(
        one.energy_j_per_step,
        one.energy_note,
        one.latency_s_per_step,
        one.latency_note,
        one.sent_energy_j_per_step,
        one.sent_latency_s_per_step,
        {name: Price(part.energy_j_per_step, part.latency_s_per_step) for name, part in (one.parts or {}).items()},
    )


def _pruned(one: _Pruned | None) -> Pruning | None:
    if one is None or one.channels is None or one.payload_bytes is None:
        return None
    return Pruning(one.channels, one.payload_bytes)


def _logs(file: Path) -> tuple[LogLine, ...]:
    if not file.exists():
        return ()
    latest = {}  # a resumed run logs some steps again
    for number, text in enumerate(read_text(file, _ADVICE).split("\n"), start=1):
        if text.strip():
            data = parse_json(text, f"{file}, line {number},", _ADVICE)
            line = check(_Line, data, str(file), _ADVICE, within=f"line {number}")
            latest[line.step] = _log(line)
    return tuple(latest[step] for step in sorted(latest))


def _log(line: _Line) -> LogLine:
    return LogLine(
        line.step,
        line.loss_bits,
        line.heldout_bits,
        line.heldout_accuracy_percent,
        line.entropy_bits_per_element,
        line.firing_rate,
        tuple(each for each in line.threshold_mean or () if each is not None),
    )
