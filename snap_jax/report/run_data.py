"""What a report knows of one run. Units are in the docstrings; None is unknown."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Range = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Boundary:
    """What crosses one boundary in one step, in bytes over all devices; rate and entropy per element."""

    path: str
    forward_bytes: float
    backward_bytes: float
    firing_rate: float | None
    entropy_bits: float | None


@dataclasses.dataclass(frozen=True)
class Cost:
    """The price of one step on one system, each a [low, high] range; None is unknown.

    Payloads have the largest size they may take; in `sent_...`, where they have several, those taken on held-out data.
    """

    energy_j: Range | None
    energy_note: str | None
    latency_s: Range | None
    latency_note: str | None
    sent_energy_j: Range | None = None
    sent_latency_s: Range | None = None


@dataclasses.dataclass(frozen=True)
class Kept:
    """What freezing left on the wire, [before, after]: channels, and bytes of one evaluation."""

    channels: Range
    payload_bytes: Range


@dataclasses.dataclass(frozen=True)
class Log:
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
    """What crossed while a text was read: text uint8 [bytes], spikes int [boundaries, bytes, channels]."""

    text: NDArray[np.uint8]
    spikes: NDArray[np.integer]


@dataclasses.dataclass(frozen=True, eq=False)
class PictureSpikes:
    """What crossed for one picture: uint8 [height, width, colours], its class, of each boundary the spikes, int
    [ticks, rows, columns, channels]; one tick where nothing spikes inside the chips.
    """

    image: NDArray[np.uint8]
    label: int
    spikes: tuple[NDArray[np.integer], ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """One run directory: quality in units of `metric`, bytes per step over all devices."""

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
    boundaries: tuple[Boundary, ...]
    costs: dict[str, Cost]
    config: dict[str, Any]
    versions: dict[str, Any]
    seconds: float | None
    order0: float | None
    gzip: float | None
    command: str | None
    majority: float | None
    kept: Kept | None
    logs: tuple[Log, ...]
    spikes: TextSpikes | PictureSpikes | None

    @property
    def folder(self) -> str:
        """Name of the directory."""
        return self.path.resolve().name
