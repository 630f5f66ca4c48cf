"""The data of one run that a report shows; None is unknown."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Range = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class BoundaryBytes:
    """Bytes that cross one boundary in one step, on all devices; firing rate and entropy per element."""

    path: str
    forward_bytes: float
    backward_bytes: float
    firing_rate: float | None
    entropy_bits: float | None


@dataclasses.dataclass(frozen=True)
class Cost:
    """Energy and time of one step on one system, each a [low, high] range.

    Payloads count with the largest compiled size; in `sent_...` with the sizes measured on held-out data.
    """

    energy_j: Range | None
    energy_note: str | None
    latency_s: Range | None
    latency_note: str | None
    sent_energy_j: Range | None = None
    sent_latency_s: Range | None = None
    parts: Mapping[str, "Price"] = dataclasses.field(default_factory=dict)

    @property
    def total(self) -> "Price":
        """Price of the sizes measured, or else of the largest."""
        return Price(self.sent_energy_j or self.energy_j, self.sent_latency_s or self.latency_s)


@dataclasses.dataclass(frozen=True)
class Price:
    """Energy and time of a part of a step, such as "forward" or "bookkeeping"; payloads have the sizes measured."""

    energy_j: Range | None
    latency_s: Range | None


@dataclasses.dataclass(frozen=True)
class StepOrder:
    """The order of a pipeline step, and seconds of the passes of one microbatch on one device, a `unit`."""

    kind: str
    devices: int
    microbatches: int
    forward_s: float
    backward_s: float
    unit: str


@dataclasses.dataclass(frozen=True)
class Pruning:
    """Channels on the wire, and bytes of one evaluation, each (before, after) pruning."""

    channels: Range
    payload_bytes: Range


@dataclasses.dataclass(frozen=True)
class LogLine:
    """One line of `metrics.jsonl`; losses in bits per byte or image, entropy in bits per element.

    `spread` is the standard deviation of the held-out loss over seeds.
    """

    step: float
    loss_bits: float | None
    heldout_bits: float | None
    accuracy: float | None
    entropy: float | None
    firing_rate: float | None
    thresholds: tuple[float, ...]
    spread: float | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class TextSpikes:
    """Spikes of a text: text uint8 [bytes], spikes int [boundaries, bytes, channels]."""

    text: NDArray[np.uint8]
    spikes: NDArray[np.integer]


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSpikes:
    """Spikes of an image: image uint8 [height, width, colors], its class, and the spikes of each boundary.

    Spikes are int [time steps, rows, columns, channels]; one time step if nothing spikes inside the devices.
    """

    image: NDArray[np.uint8]
    label: int
    spikes: tuple[NDArray[np.integer], ...]


@dataclasses.dataclass(frozen=True, eq=False)
class RunData:
    """One run, or the mean of several that differ in their seed: `spread` is then a standard deviation of `value`.

    Quality is in units of `metric`; bytes are those of one step on all devices; `made` are date, commit and devices.
    """

    path: Path
    label: str
    metric: str
    value: float
    n: float
    forward_bytes: float
    backward_bytes: float
    bits: float | None
    most_bits: float | None
    entropy: float | None
    firing_rate: float | None
    boundaries: tuple[BoundaryBytes, ...]
    costs: dict[str, Cost]
    config: dict[str, Any]
    versions: dict[str, Any]
    seconds: float | None
    order0: float | None
    gzip: float | None
    command: str | None
    majority: float | None
    pruned: Pruning | None
    logs: tuple[LogLine, ...]
    spikes: TextSpikes | ImageSpikes | None
    made: Mapping[str, str] = dataclasses.field(default_factory=dict)
    order: StepOrder | None = None
    seeds: int = 1
    spread: float | None = None
    gradient_bytes: float | None = None
    bookkeeping_bytes: float | None = None

    @property
    def folder(self) -> str:
        """Name of the directory."""
        return self.path.resolve().name
