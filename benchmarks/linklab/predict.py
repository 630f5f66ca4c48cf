"""What the cost model says beforehand about the times of the lab.

Bandwidth follows from the rate: TCP puts 1448 bytes into each frame of 1514. The rest is calibrated, by other runs than
those that are predicted:

* The latency of a message, and what a byte takes even where no link limits it: from floats over links without a limit.
* How well the backend fills a link, for each collective: from floats at one rate. Gloo sends in both directions of a
  pair of hosts one after the other if they start at the same time.
* What a program takes besides its links, for coding and computing: from its time over links without a limit.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.linklab.rates import UNLIMITED, bits_per_second
from snap_jax.cost import Switch, System, price
from snap_jax.cost.link_fit import Fitted, Timed, fit
from snap_jax.cost.links import Link
from snap_jax.cost.units import Range
from snap_jax.traffic.measured_sizes import with_measured_sizes
from snap_jax.traffic.transfer import Traffic

Row = Mapping[str, Any]
DATA_BYTES, HEADER_BYTES = 1448, 66  # of a frame: TCP with time stamps 32, IP 20, Ethernet 14
FILLED_AT = "1gbit"
LARGE = 2**20


@dataclasses.dataclass(frozen=True)
class Model:
    """What was calibrated.

    Attributes:
      machine: latency of a message, and what a byte takes even where no link limits it.
      slowdown: for each collective, its time with floats at `FILLED_AT`, over what `price` says.
      rest_s: for each program, the seconds that are not those of links.
    """

    machine: Fitted
    slowdown: Mapping[str, float]
    rest_s: Mapping[tuple, float]

    def seconds(self, row: Row) -> float | None:
        """Return the predicted time of a row; None for the program that was not calibrated."""
        rest = self.rest_s.get(_program(row))
        return None if rest is None else rest + self.link_seconds(row)

    def link_seconds(self, row: Row) -> float:
        """Return the part of it that is spent in links."""
        link, factor = _link(row["rate"], self.machine), self.slowdown if row["rate"] != UNLIMITED else {}
        return sum(_price(row, Traffic((t,)), link) * factor.get(t.op, 1.0) for t in traffic_of(row))


def calibrated(rows: Sequence[Row]) -> Model:
    """Return the model that floats at `FILLED_AT` and all rows without a limit give; others are not looked at.

    Nor are rows of programs whose traffic is not known.
    """
    free = [row for row in rows if row["rate"] == UNLIMITED and "traffic" in row]
    floats = [row for row in rows if row["program"] == "collective_speed" and row["spec"] == "fp32"]
    start = Model(fit([_sample(row) for row in floats if row["rate"] == UNLIMITED]), {}, {})
    filled = [row for row in floats if row["rate"] == FILLED_AT]
    slowdown = {row["collective"]: row["seconds"] / start.link_seconds(row) for row in filled}
    rest = {_program(row): max(0.0, row["seconds"] - start.link_seconds(row)) for row in free}
    return Model(start.machine, slowdown, rest)


def traffic_of(row: Row) -> Traffic:
    """Return what a program moves; where it chooses sizes as it runs, as much as crossed in the counted run."""
    traffic = Traffic.from_json(json.dumps(row["traffic"]))
    kept = sum(t.sent_bytes for t in traffic if t.dtype != "uint8")
    coded = max(0.0, row["interface_bytes"] - kept)
    return with_measured_sizes(traffic, lambda transfer: transfer.dtype == "uint8", coded) or traffic


def sent_bytes_per_host(row: Row) -> float:
    """Return the bytes that a host sends; decides whether a message counts as large."""
    return traffic_of(row).sent_bytes / row["hosts"]


def errors(model: Model, rows: Sequence[Row]) -> list[float]:
    """Return `|predicted / measured - 1|` of each row at a limited rate whose hosts send 1 MiB each or more."""
    found = [(model.seconds(row), row["seconds"]) for row in rows if _is_large(row) and not _is_calibration(row)]
    return [abs(predicted / measured - 1) for predicted, measured in found if predicted is not None]


def _is_large(row: Row) -> bool:
    return row["rate"] != UNLIMITED and "traffic" in row and sent_bytes_per_host(row) >= LARGE


def _is_calibration(row: Row) -> bool:
    return row["program"] == "collective_speed" and row["spec"] == "fp32" and row["rate"] == FILLED_AT


def _program(row: Row) -> tuple:
    keys = ("program", "collective", "kind", "hosts", "elements", "parameters", "spec", "config")
    return tuple(row.get(key) for key in keys)


def _sample(row: Row) -> Timed:
    """Return messages and bytes of a row: what a link of one second per message, or per byte, would take."""
    messages, nbytes = (_price(row, traffic_of(row), _simple(*one)) for one in ((1.0, 1e-15), (1e-15, 1.0)))
    return Timed(messages, nbytes, row["seconds"])


def _simple(latency_s: float, byte_s: float) -> Link:
    return Fitted(latency_s, byte_s).link("one", "for counting")


def _price(row: Row, traffic: Traffic, link: Link) -> float:
    axes = {axis: Switch(row["hosts"], link) for transfer in traffic for axis in transfer.axes}
    return float(price(traffic, System(axes)).latency_s.high)


def _link(rate: str, machine: Fitted) -> Link:
    """Return a link that is as slow as its rate or as the machine, whichever is slower."""
    bits = bits_per_second(rate)
    if bits is None or 8 / bits < machine.byte_s:
        return machine.link("machine", "fitted")
    speed, latency = Range.exactly(bits / 8e9), Range.exactly(1e9 * machine.latency_s)
    what = ("shaped link", "token bucket", "rate of the lab")
    return Link(*what, None, speed, latency, packet_bytes=DATA_BYTES, header_bytes=HEADER_BYTES)
