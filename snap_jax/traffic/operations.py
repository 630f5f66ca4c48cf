"""What a program computes, counted by kind and dtype.

This module does not import JAX: `snap_jax.traffic.count_operations` makes `Operations`, `snap_jax.cost` prices them.
"""

import collections
import dataclasses
from collections.abc import Callable, Iterable
from typing import Literal, final

from snap_jax.errors import UsageError

# Not just `float`: the run-time type checks of the tests do not take an int for a float.
Number = int | float

Kind = Literal["mac", "accumulate", "add", "multiply", "other"]
KINDS: tuple[Kind, ...] = ("mac", "accumulate", "add", "multiply", "other")


@final
@dataclasses.dataclass(frozen=True)
class OperationCount:
    """The number of operations of one kind and dtype.

    Attributes:
      kind: "mac" (multiply and accumulate), "accumulate" (a spike adds a weight), "add", "multiply", or "other"
        (exponentials, divisions, comparisons and whatever else has no published energy here).
      dtype: dtype of the operands, as numpy names it.
      times: how many in one run of the program, on all devices together.

    Raises:
      UsageError: an unknown kind, or a negative number.
    """

    kind: Kind
    dtype: str
    times: Number

    def __post_init__(self) -> None:
        if self.kind not in KINDS or not self.times >= 0:
            raise UsageError(
                f"OperationCount({self.kind!r}, {self.dtype!r}, {self.times}): want a kind of {KINDS}, times >= 0"
            )


@final
@dataclasses.dataclass(frozen=True)
class Operations:
    """All operations of one run, and the bytes they read and write.

    Attributes:
      counts: one entry for each kind and dtype.
      bytes_moved: bytes of all operands and results, as if nothing stayed in a cache: an upper bound.

    >>> dense = Operations((OperationCount("mac", "float32", 100),), bytes_moved=1200)
    >>> dense.spiking(firing_rate=0.25, time_steps=2).counts
    (OperationCount(kind='accumulate', dtype='float32', times=50.0),)
    """

    counts: tuple[OperationCount, ...] = ()
    bytes_moved: Number = 0

    @classmethod
    def total(cls, parts: Iterable["Operations"]) -> "Operations":
        """Add all parts; the sum has one entry for each kind and dtype."""
        times: collections.Counter[tuple[Kind, str]] = collections.Counter()
        moved = 0.0
        for part in parts:
            moved += part.bytes_moved
            for count in part.counts:
                times[count.kind, count.dtype] += count.times  # pyright: ignore[reportArgumentType]
        return cls(tuple(OperationCount(kind, dtype, n) for (kind, dtype), n in sorted(times.items())), moved)

    def __add__(self, other: "Operations") -> "Operations":
        return Operations.total((self, other))

    def __mul__(self, times: Number) -> "Operations":
        counts = tuple(dataclasses.replace(count, times=count.times * times) for count in self.counts)
        return Operations(counts, self.bytes_moved * times)

    def times(self, kind: Kind) -> Number:
        """Return the number of operations of one kind, of every dtype."""
        return sum(count.times for count in self.counts if count.kind == kind)

    def where(self, keep: Callable[[OperationCount], bool]) -> "Operations":
        """Return the counts for which `keep` holds."""
        return dataclasses.replace(self, counts=tuple(filter(keep, self.counts)))

    def spiking(self, firing_rate: Number, time_steps: int = 1) -> "Operations":
        """Return the counts of the same program when spikes drive all of its layers.

        A mac becomes `firing_rate * time_steps` accumulates; every other operation runs once per time step.

        Raises:
          UsageError: a firing rate outside 0 to 1, or less than one time step.
        """
        if not 0 <= firing_rate <= 1 or time_steps < 1:
            raise UsageError(
                f"spiking: firing_rate={firing_rate}, time_steps={time_steps}; want a rate of 0 to 1, time_steps >= 1"
            )
        counts = [
            OperationCount("accumulate", c.dtype, c.times * firing_rate * time_steps)
            if c.kind == "mac"
            else dataclasses.replace(c, times=c.times * time_steps)
            for c in self.counts
        ]
        return Operations.total((Operations(tuple(counts), self.bytes_moved * time_steps),))
