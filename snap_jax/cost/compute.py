"""Energy and time of operations on a kind of silicon.

A unit has one process node. An operation for which it has no figure is an error; it is never free.
"""

import dataclasses
from collections.abc import Mapping
from typing import final

from snap_jax.cost.units import CostError, Joules, Number, Range, Seconds
from snap_jax.traffic.operations import Kind, Operations

Figures = Mapping[tuple[Kind, str], Range]


@final
@dataclasses.dataclass(frozen=True)
class ComputeUnit:
    """What an operation costs.

    Attributes:
      name: what the report calls it.
      process_node: silicon node of the energies.
      source: where the figures come from.
      pj_per_op: energy in picojoules by (kind, dtype).
      tera_ops_per_s: operations of any kind that one chip finishes in one second, in 10^12; None when unknown.
      pj_per_byte: energy of a byte read from or written to memory, in picojoules; None leaves memory out, and the
        report says so.
      whole_chip: whether `pj_per_op` is the power of a chip divided by its peak rate, memory and leakage included.

    >>> from snap_jax.cost.nodes import HOROWITZ_45NM
    >>> from snap_jax.traffic.operations import OperationCount
    >>> print(HOROWITZ_45NM.energy(Operations((OperationCount("mac", "float32", 1e6),))))
    4.6 µJ
    """

    name: str
    process_node: str
    source: str
    pj_per_op: Figures
    tera_ops_per_s: Range | None = None
    pj_per_byte: Range | None = None
    whole_chip: bool = False

    def energy(self, operations: Operations) -> Joules:
        """Return the sum of count x pJ/op, plus bytes x pJ/byte where that is given.

        Raises:
          CostError: a kind and dtype without a figure; `split` separates them if they are to be left out.
        """
        if missing := self.missing_energy(operations):
            raise CostError("; ".join(missing))
        parts = [_picojoules(self.pj_per_op[c.kind, c.dtype], c.times) for c in operations.counts if c.times]
        if self.pj_per_byte is not None:
            parts.append(_picojoules(self.pj_per_byte, operations.bytes_moved))
        return Joules.total(parts)

    def seconds(self, operations: Operations, chips: int) -> Seconds:
        """Return operations / (chips x rate). Raises CostError when tera_ops_per_s is None."""
        if self.tera_ops_per_s is None:
            raise CostError(self.missing_latency[0])
        total = sum(count.times for count in operations.counts) / chips
        return Seconds(total / (self.tera_ops_per_s.high * 1e12), total / (self.tera_ops_per_s.low * 1e12))

    def missing_energy(self, operations: Operations) -> tuple[str, ...]:
        """Return one line for each kind and dtype without a figure."""
        return tuple(
            f"no source for the energy of {c.times:,.0f} x {c.kind} {c.dtype} on {self.name!r} (known from: "
            f"{self.source}); give one in pj_per_op, or leave such operations out explicitly: "
            "known, left_out = unit.split(operations)"
            for c in self.split(operations)[1].counts
            if c.times
        )

    @property
    def missing_latency(self) -> tuple[str, ...]:
        """One line if the speed is unknown."""
        if self.tera_ops_per_s is not None:
            return ()
        fix = "dataclasses.replace(unit, tera_ops_per_s=Range(low, high))"
        return (f"no source for tera_ops_per_s of compute unit {self.name!r}; give one: {fix}",)

    def split(self, operations: Operations) -> tuple[Operations, Operations]:
        """Return (operations with figures here, the rest); the bytes stay with the first."""
        known = operations.where(lambda count: (count.kind, count.dtype) in self.pj_per_op)
        rest = operations.where(lambda count: (count.kind, count.dtype) not in self.pj_per_op)
        return known, dataclasses.replace(rest, bytes_moved=0)


@final
@dataclasses.dataclass(frozen=True)
class Compute:
    """The operations of one run, and the unit that executes them.

    Attributes:
      unit: energy and speed of an operation.
      operations: operations of one run, on all chips together.
      chips: number of chips that share them evenly.
    """

    unit: ComputeUnit
    operations: Operations
    chips: int

    @property
    def energy_j(self) -> Joules:
        """Energy of one run."""
        return self.unit.energy(self.operations)

    @property
    def latency_s(self) -> Seconds:
        """Time of one run."""
        return self.unit.seconds(self.operations, self.chips)


def _picojoules(figure: Range, times: Number) -> Joules:
    return Joules(figure.low * 1e-12 * times, figure.high * 1e-12 * times)
