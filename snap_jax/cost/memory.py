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


_JOUPPI = "N. Jouppi et al., Ten lessons from three generations shaped Google's TPUv4i, ISCA 2021, table 2, as quoted"
_HOROWITZ = "M. Horowitz, Computing's energy problem, ISSCC 2014"

SRAM_45NM = Memory(
    "SRAM of 8 KB to 1 MB, 45 nm", f"{_HOROWITZ}: 10 to 100 pJ for 64 bits", Range(1.25, 12.5), process_node="45 nm"
)
SRAM_7NM = Memory(
    "SRAM of 8 KB to 1 MB, 7 nm", f"{_JOUPPI}: 7.5 to 14 pJ for 64 bits", Range(0.9375, 1.75), process_node="7 nm"
)
DRAM_DDR = Memory("DDR3 DRAM", f"{_HOROWITZ}: 1.3 to 2.6 nJ for 64 bits", Range(162.5, 325.0))
HBM2 = Memory("HBM2", f"{_JOUPPI}: 250 to 450 pJ for 64 bits, input and output only", Range(31.25, 56.25))
HBM2_TPU_V4 = dataclasses.replace(
    HBM2,
    name="HBM2 of a TPU v4",
    source=f"{HBM2.source}; 1200 GB/s: docs.cloud.google.com/tpu/docs/v4",
    gbyte_per_s=Range.exactly(1200.0),
)

MEMORIES: dict[str, Memory] = {
    "SRAM_45NM": SRAM_45NM,
    "SRAM_7NM": SRAM_7NM,
    "DRAM_DDR": DRAM_DDR,
    "HBM2": HBM2,
    "HBM2_TPU_V4": HBM2_TPU_V4,
}
