"""The base class of all topologies: a topology gives routes, and everything else follows from them.

A subclass may give a closed form for `load`, `diameter` or crossings; it must equal what the routes give.
"""

import abc
import collections
from collections.abc import Iterable

from snap_jax.cost.links import Link
from snap_jax.cost.units import CostError

Edge = tuple[int, int]
Pairs = tuple[tuple[int, int], ...]


class Topology(abc.ABC):
    """Abstract: chips 0 to size - 1 joined by equal full-duplex links; an edge (u, v) is one direction of a link.

    Attributes:
      link: the link that every edge stands for.
    """

    link: Link

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """Number of chips."""

    @property
    @abc.abstractmethod
    def edges(self) -> tuple[Edge, ...]:
        """Every link, once in each direction. A number of `size` or more stands for a switch."""

    @abc.abstractmethod
    def route(self, source: int, target: int) -> tuple[Edge, ...]:
        """Return the edges that a message crosses from one chip to another, in order."""

    @property
    @abc.abstractmethod
    def bisection_links(self) -> int:
        """Links (one direction) in the narrowest cut into two halves whose sizes differ by at most one."""

    def hops(self, source: int, target: int) -> int:
        """Return the number of links between two chips."""
        return len(self.route(source, target))

    def latencies(self, source: int, target: int) -> int:
        """Return how many link latencies a message pays: one per hop, unless a topology says otherwise."""
        return self.hops(source, target)

    def load(self, pairs: Iterable[tuple[int, int]]) -> int:
        """Return the number of messages on the busiest edge when every (source, target) pair sends one at once."""
        crossed = collections.Counter(edge for source, target in pairs for edge in self.route(source, target))
        return max(crossed.values(), default=0)

    @property
    def diameter(self) -> int:
        """Largest number of link latencies between any two chips."""
        return max((self.latencies(s, t) for s, t in self.pairs), default=0)

    @property
    def all_to_all_load(self) -> int:
        """`load` when every chip sends one message to every other chip at once."""
        return self.load(self.pairs)

    @property
    def all_to_all_crossings(self) -> int:
        """Sum of hops over one message from every chip to every other chip."""
        return sum(self.hops(s, t) for s, t in self.pairs)

    @property
    def min_degree(self) -> int:
        """Number of links of the chip that has the fewest."""
        leaving = collections.Counter(source for source, _ in self.edges)
        return min(leaving[chip] for chip in range(self.size))

    @property
    def pairs(self) -> Pairs:
        """All ordered pairs of two different chips."""
        return tuple((s, t) for s in range(self.size) for t in range(self.size) if s != t)

    def check_chips(self, *chips: int) -> None:
        """Raise CostError for a chip that does not exist."""
        for chip in chips:
            if not 0 <= chip < self.size:
                raise CostError(f"{type(self).__name__}: no chip {chip}; it has chips 0 to {self.size - 1}")


def check_size(name: str, size: int) -> None:
    """Raise CostError unless there is at least one chip."""
    if size < 1:
        raise CostError(f"{name}: size={size}; want at least 1 chip")


def shift(size: int, count: int | None = None) -> Pairs:
    """Return the (source, target) pairs of a shift by one chip around `size` chips; the first `count` of them.

    >>> shift(3)
    ((0, 1), (1, 2), (2, 0))
    """
    return tuple((i, (i + 1) % size) for i in range(size if count is None else count))
