"""The data of one run that a report shows; None is unknown."""

import dataclasses
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


@dataclasses.dataclass(frozen=True)
class Pruning:
    """Channels on the wire, and bytes of one evaluation, each (before, after) pruning."""

    channels: Range
    payload_bytes: Range


@dataclasses.dataclass(frozen=True)
class LogLine:
    """One line of `metrics.jsonl`; losses in bits per byte or image, entropy in bits per element."""

    step: float
    loss_bits: float | None
    heldout_bits: float | None
    accuracy: float | None
    entropy: float | None
    firing_rate: float | None
    thresholds: tuple[float, ...]


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
    """One run directory: quality in units of `metric`, bytes per step on all devices."""

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

    @property
    def folder(self) -> str:
        """Name of the directory."""
        return self.path.resolve().name
