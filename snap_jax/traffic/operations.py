"""What a program computes, counted by kind and dtype. No JAX here; `snap_jax.traffic.count_operations` fills it in.

Law: counts add, and turning a layer into its spiking form changes multiply-accumulates into accumulates,
nothing else.
"""

import collections
import dataclasses
from collections.abc import Callable, Iterable
from typing import Literal, final

from snap_jax.cost.errors import CostError
from snap_jax.cost.units import Number

Kind = Literal["mac", "accumulate", "add", "multiply", "other"]
KINDS: tuple[Kind, ...] = ("mac", "accumulate", "add", "multiply", "other")


@final
@dataclasses.dataclass(frozen=True)
class Count:
    """So many operations of one kind.

    Attributes:
      kind: mac (multiply and accumulate), accumulate (a spike adds a weight), add, multiply, or other:
        what has no published energy here, such as exponentials, divisions and comparisons.
      dtype: of the operands, as numpy names it.
      times: how many in one run of the program, all chips together.
    """

    kind: Kind
    dtype: str
    times: Number

    def __post_init__(self) -> None:
        if self.kind not in KINDS or not self.times >= 0:
            raise CostError(f"Count({self.kind!r}, {self.dtype!r}, {self.times}): want a kind of {KINDS}, times >= 0")


@final
@dataclasses.dataclass(frozen=True)
class Operations:
    """All operations of one run, and the bytes they read and write.

    Attributes:
      counts: one entry for each kind and dtype.
      bytes_moved: operands read and results written by every operation, were nothing kept close: an upper
        bound.

    >>> dense = Operations((Count("mac", "float32", 100),), bytes_moved=1200)
    >>> dense.spiking(firing_rate=0.25, ticks=2).counts
    (Count(kind='accumulate', dtype='float32', times=50.0),)
    """

    counts: tuple[Count, ...] = ()
    bytes_moved: Number = 0

    @classmethod
    def total(cls, parts: Iterable["Operations"]) -> "Operations":
        """All parts together, one entry for each kind and dtype."""
        times: collections.Counter[tuple[Kind, str]] = collections.Counter()
        moved = 0.0
        for part in parts:
            moved += part.bytes_moved
            for count in part.counts:
                times[count.kind, count.dtype] += count.times  # pyright: ignore[reportArgumentType]
        return cls(tuple(Count(kind, dtype, n) for (kind, dtype), n in sorted(times.items())), moved)

    def __add__(self, other: "Operations") -> "Operations":
        return Operations.total((self, other))

    def __mul__(self, times: Number) -> "Operations":
        counts = tuple(dataclasses.replace(count, times=count.times * times) for count in self.counts)
        return Operations(counts, self.bytes_moved * times)

    def times(self, kind: Kind) -> Number:
        """Operations of one kind, every dtype."""
        return sum(count.times for count in self.counts if count.kind == kind)

    def where(self, keep: Callable[[Count], bool]) -> "Operations":
        """Keep the counts for which `keep` holds."""
        return dataclasses.replace(self, counts=tuple(filter(keep, self.counts)))

    def spiking(self, firing_rate: Number, ticks: int = 1) -> "Operations":
        """Drive all layers by spikes: a mac becomes firing_rate x ticks accumulates, the rest runs each tick.

        Raises:
          CostError: a rate outside 0 to 1, or less than one tick.
        """
        if not 0 <= firing_rate <= 1 or ticks < 1:
            raise CostError(f"spiking: firing_rate={firing_rate}, ticks={ticks}; want a rate of 0 to 1 and ticks >= 1")
        counts = [
            Count("accumulate", c.dtype, c.times * firing_rate * ticks)
            if c.kind == "mac"
            else dataclasses.replace(c, times=c.times * ticks)
            for c in self.counts
        ]
        return Operations.total((Operations(tuple(counts), self.bytes_moved * ticks),))
