"""The latency and the bandwidth of a link, from times that were measured on it.

A transfer of `r` messages, one after the other, that carry `b` bytes together takes `s = a r + b / B` seconds. Given
several, least squares of the relative errors `(a r + b / B) / s - 1` finds the latency `a` and the bandwidth `B`.
"""

import dataclasses
import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from snap_jax.cost.links import Link
from snap_jax.cost.units import CostError, Number, Range
from snap_jax.errors import UsageError

_ADVICE = 'write lines such as {"messages": 3, "bytes": 3000000, "seconds": 0.02}'


@dataclasses.dataclass(frozen=True)
class Timed:
    """A transfer and its time.

    Attributes:
      messages: that followed one another on the busiest link.
      bytes: that they carried together.
      seconds: that it took.
    """

    messages: Number
    bytes: Number
    seconds: Number


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What a link was found to do.

    Attributes:
      latency_s: seconds that a message takes besides its bytes.
      byte_s: seconds per byte.
    """

    latency_s: Number
    byte_s: Number

    def seconds(self, messages: Number, nbytes: Number) -> Number:
        """Return the time of a transfer, `a messages + b / B`.

        >>> Fitted(latency_s=1e-3, byte_s=1e-9).seconds(2, 1e6)
        0.003
        """
        return self.latency_s * messages + self.byte_s * nbytes

    def link(self, name: str, source: str) -> Link:
        """Return a link with this latency and bandwidth, whose energy is unknown."""
        rate, latency = Range.exactly(1e-9 / self.byte_s), Range.exactly(1e9 * self.latency_s)
        return Link(name, "measured times; energy unknown", source, gbyte_per_s=rate, latency_ns=latency)


def fit(samples: Sequence[Timed]) -> Fitted:
    """Return the latency and bandwidth that miss the samples least; a latency below zero is taken as zero.

    >>> link = Fitted(latency_s=0.25, byte_s=0.5)
    >>> found = fit([Timed(m, b, link.seconds(m, b)) for m, b in ((1, 1), (1, 4), (3, 4))])
    >>> round(found.latency_s, 9), round(found.byte_s, 9)
    (0.25, 0.5)

    Raises:
      CostError: for fewer than two samples, or samples that cannot tell latency from bandwidth.
    """
    rows = [(s.messages / s.seconds, s.bytes / s.seconds) for s in samples if s.seconds > 0]
    mm, mb, bb = (sum(a[i] * a[j] for a in rows) for i, j in ((0, 0), (0, 1), (1, 1)))
    m, b = sum(a[0] for a in rows), sum(a[1] for a in rows)
    determinant = mm * bb - mb * mb
    if len(rows) < 2 or determinant <= 1e-9 * mm * bb:
        raise CostError(
            f"calibrate: {len(rows)} samples do not tell latency from bandwidth: measure at least two sizes of message"
        )
    latency, per_byte = (m * bb - b * mb) / determinant, (b * mm - m * mb) / determinant
    if latency < 0:
        latency, per_byte = 0.0, b / bb
    if per_byte <= 0:
        raise CostError("calibrate: more bytes took less time: measure longer messages, on an idle machine")
    return Fitted(latency, per_byte)


def median_error(predicted: Iterable[Number], measured: Iterable[Number]) -> Number:
    """Return the median of `|predicted / measured - 1|`.

    >>> median_error([1.0, 2.0, 3.0], [1.0, 4.0, 4.0])
    0.25
    """
    return statistics.median(abs(p / m - 1) for p, m in zip(predicted, measured, strict=True))


def read(path: Path) -> list[Timed]:
    """Return the samples of a file of JSON lines that have `messages`, `bytes` and `seconds`; other keys are ignored.

    Raises:
      CostError: if it cannot be read; names the line.
    """
    from snap_jax.cost.toml_models import TimedLine
    from snap_jax.input_files.checked import check, parse_json, read_text

    try:
        lines = enumerate(read_text(path, _ADVICE).splitlines(), 1)
        found = [
            check(TimedLine, parse_json(line, f"{path}, line {number},", _ADVICE), str(path), _ADVICE, f"line {number}")
            for number, line in lines
        ]
    except UsageError as error:
        raise CostError(f"calibrate: {error}") from error
    return [Timed(one.messages, one.bytes, one.seconds) for one in found]


def show(path: Path) -> str:
    """Return what was found, as a table of a system file for `--system`, and how well it fits.

    Raises:
      CostError: as `read` and `fit`.
    """
    samples = read(path)
    found = fit(samples)
    error = median_error((found.seconds(s.messages, s.bytes) for s in samples), (s.seconds for s in samples))
    lines = (
        f"# {len(samples)} samples, median error {error:.1%}",
        "[links.mine]",
        'boundary = "measured times; energy unknown"',
        f"source = {json.dumps(str(path))}",
        f"gbyte_per_s = {1e-9 / found.byte_s:.4g}",
        f"latency_ns = {1e9 * found.latency_s:.4g}",
    )
    return "\n".join(lines)
