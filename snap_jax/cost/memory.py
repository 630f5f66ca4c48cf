"""Memory of a chip: energy of a byte and bandwidth, and the source of each number.

A reduction reads the shards it adds and writes their sum. What a program computes reads operands and writes results.
"""

import dataclasses
from typing import final

from snap_jax.cost.units import CostError, Joules, Number, Range, Seconds


@final
@dataclasses.dataclass(frozen=True)
class Memory:
    """One level of the memory of a chip.

    Attributes:
      name: what the report calls it.
      source: where the figures come from.
      pj_per_byte: energy of a byte read or written, in picojoules; None when no source is known.
      gbyte_per_s: bytes read and written together, in 10^9 per second; None when no source is known.
      process_node: silicon node of the energy, if the source names one.
    """

    name: str
    source: str
    pj_per_byte: Range | None = None
    gbyte_per_s: Range | None = None
    process_node: str | None = None

    def energy(self, count: Number) -> Joules:
        """Return the energy of so many bytes. Raises CostError without a source.

        >>> print(Memory("cache", "given", pj_per_byte=Range(1.0, 2.0)).energy(1000))
        1 – 2 nJ
        """
        figure = self._known(self.pj_per_byte, "pj_per_byte")
        return Joules(figure.low, figure.high) * (1e-12 * count)

    def seconds(self, count: Number) -> Seconds:
        """Return the time of so many bytes. Raises CostError without a source."""
        rate = self._known(self.gbyte_per_s, "gbyte_per_s")
        return Seconds(count / (rate.high * 1e9), count / (rate.low * 1e9))

    def missing(self, field: str) -> str:
        """Return the error message for a field that has no source."""
        return (
            f"no source for {field} of memory {self.name!r} (known from: {self.source}); "
            f"give one: dataclasses.replace(memory, {field}=Range(low, high), source=...)"
        )

    def _known(self, value: Range | None, field: str) -> Range:
        if value is None:
            raise CostError(self.missing(field))
        return value
