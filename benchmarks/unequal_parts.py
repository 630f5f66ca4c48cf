"""Compute what an exchange of N^2 sparse parts takes per device, and what other ways to exchange them would take.

`all_to_all` and `psum_scatter` send one part to each device, all of the size of the largest. With few spikes per part,
chance makes the largest one large. Ternary spikes, addresses by `Events`, one header byte per message. Ways:

* direct: every part has the size of the largest of all N^2.
* by distance: N - 1 permutations, each with the size of the largest of its N parts; one byte each to agree.
* two stages: to the device of the right column in the own row of a sqrt(N) x sqrt(N) grid, then along the column. All
  that is for one device of a stage is one message, so sizes vary less, but everything is sent twice.
* overflow to all: parts hold `room` spikes; what is left goes to all devices, each with the number of its receiver.
* overflow in two stages: the same, but what is left goes by two stages, with the numbers of sender and receiver.

The room is the best one. Expectations: the mean of 10 spikes in 1024 elements takes 12 bytes, the largest part of a
million has about 31 and takes 32: 2.5 times as many with the header. Two stages cannot take less than twice the mean.

Run: `python -m benchmarks.unequal_parts`
"""

import math

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.results import show
from snap_jax.wires import Events

DEVICES = 64, 256, 1024
ELEMENTS = 2**20  # on each device
RATES = 0.01, 0.1
TERNARY = range(-1, 2)
HEADER = 1


def message(spikes: int, elements: int) -> int:
    """Return the bytes of a message with room for so many spikes."""
    return HEADER + (Events(min(1.0, spikes / elements)).sizes(elements, TERNARY)[0] if spikes else 0)


def stages(parts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the spikes of each message of both stages, `[sender, message]`; parts are `[sender, receiver]`."""
    side = math.isqrt(len(parts))
    grid = parts.reshape(side, side, side, side)  # row and column of the sender, row and column of the receiver
    first = grid.sum(2)  # to the column, whatever the row
    second = grid.sum(1).transpose(0, 2, 1)  # what a row sends to one column meets there, for each row
    return first.reshape(-1, side), second.reshape(-1, side)


def bytes_per_device(parts: np.ndarray, elements: int) -> dict[str, float]:
    """Return what each way sends per device, for the spikes of parts of so many elements, `[sender, receiver]`."""
    devices, side = len(parts), math.isqrt(len(parts))
    distance = (np.arange(devices) - np.arange(devices)[:, None]) % devices
    largest = [parts[distance == d].max() for d in range(1, devices)]
    staged = sum((side - 1) * message(int(each.max()), side * elements) for each in stages(parts))
    return {
        "mean": (devices - 1) * message(round(parts.mean()), elements),
        "direct": (devices - 1) * message(int(parts.max()), elements),
        "by distance": sum(message(int(k), elements) + 1 for k in largest),
        "two stages": staged,
        "overflow to all": _with_overflow(parts, elements, _to_all),
        "overflow in two stages": _with_overflow(parts, elements, _by_stages),
    }


def _with_overflow(parts: np.ndarray, elements: int, cost) -> float:
    rooms = range(int(parts.mean()), int(parts.max()) + 1)
    sent = ((len(parts) - 1) * message(room, elements) + cost(np.maximum(parts - room, 0), elements) for room in rooms)
    return min(sent)


def _to_all(left: np.ndarray, elements: int) -> int:
    bits = math.ceil(math.log2(len(left))) + math.ceil(math.log2(elements)) + 1
    return (len(left) - 1) * (HEADER + math.ceil(left.sum(1).max() * bits / 8))


def _by_stages(left: np.ndarray, elements: int) -> int:
    side = math.isqrt(len(left))
    bits = math.ceil(math.log2(side)) + math.ceil(math.log2(elements)) + 1
    named = bits, bits + math.ceil(math.log2(side))  # the receiver's row; then row or column of the sender besides
    pairs = zip(stages(left), named, strict=True)
    return sum((side - 1) * (HEADER + math.ceil(each.max() * width / 8)) for each, width in pairs)


def drawn(devices: int, rate: float, elements: int = ELEMENTS, seed: int = 0) -> np.ndarray:
    """Return how many spikes each part has, `[sender, receiver]`."""
    return np.random.default_rng(seed).binomial(elements // devices, rate, (devices, devices))


def table(rate: float) -> Table:
    """Return the bytes of each way, over those of parts that all have the mean."""
    found = Table(title=f"bytes over those of the mean, {rate:.0%} fires", box=box.MARKDOWN)
    rows = {devices: bytes_per_device(drawn(devices, rate), ELEMENTS // devices) for devices in DEVICES}
    for column in ("devices", "spikes per part", "mean, bytes", *list(rows[DEVICES[0]])[1:]):
        found.add_column(column)
    for devices, sent in rows.items():
        mean = sent.pop("mean")
        ratios = (f"{nbytes / mean:.2f}" for nbytes in sent.values())
        found.add_row(f"{devices} devices", f"{rate * ELEMENTS / devices:.0f}", f"{mean:,}", *ratios)
    return found


def main() -> None:
    for rate in RATES:
        show(Console(width=160), table(rate))


if __name__ == "__main__":
    main()
