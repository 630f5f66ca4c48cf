"""The base class of all topologies: a topology gives routes, and everything else follows from them.

A subclass may give a closed form for `load`, `diameter` or crossings; it must equal what the routes give.
"""

import abc
import collections
import dataclasses
from collections.abc import Iterable
from typing import final

from snap_jax.cost.link import Link
from snap_jax.cost.units import CostError, Number, Seconds

Edge = tuple[int, int]
Pairs = tuple[tuple[int, int], ...]


@final
@dataclasses.dataclass(frozen=True)
class Use:
    """What messages of one size that travel at once do to the links of one kind.

    Attributes:
      link: the kind of link.
      hops: latencies of such links on the way of the slowest message.
      load: messages that share the busiest such link.
      crossings: such links crossed by all messages together.
    """

    link: Link
    hops: int
    load: Number
    crossings: Number


class Topology(abc.ABC):
    """Abstract: chips 0 to size - 1 joined by full-duplex links; an edge (u, v) is one direction of a link.

    Attributes:
      link: the link that every edge stands for, unless `link_of` says otherwise.
      store_and_forward: whether a message is received whole before it is sent on.
    """

    link: Link
    store_and_forward: bool = False

    @property
    def kind(self) -> str:
        """Name of the topology in messages."""
        return type(self).__name__

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

    def link_of(self, edge: Edge) -> Link:
        """Return the link that an edge stands for."""
        return self.link

    @property
    def sharing(self) -> int:
        """Number of groups that share these links; 1 where each group has links of its own."""
        return 1

    @property
    def links(self) -> tuple[Link, ...]:
        """The kinds of link there are."""
        return (self.link,)

    def uses(self, pairs: Pairs) -> tuple[Use, ...]:
        """Return what the links do when every (source, target) pair sends a message at once, a `Use` a kind."""
        if len(self.links) == 1:
            hops = max((self.latencies(s, t) for s, t in pairs), default=0)
            crossings = sum(self.hops(s, t) for s, t in pairs)
            return (Use(self.link, hops, self.load(pairs) + self._forwarded(pairs), crossings),)
        return self._mixed_uses([self.route(s, t) for s, t in pairs])

    def _mixed_uses(self, routes: "list[tuple[Edge, ...]]") -> tuple[Use, ...]:
        crossed = collections.Counter(edge for route in routes for edge in route)
        ways = [collections.Counter(map(self.link_of, route)) for route in routes]
        slowest = max(ways, key=_latency, default=collections.Counter())
        found = []
        for link in self.links:
            on = [count for edge, count in crossed.items() if self.link_of(edge) == link]
            if on:
                found.append(Use(link, slowest[link], max(on), sum(on)))
        return tuple(found)

    def _forwarded(self, pairs: Pairs) -> int:
        """Return how often a message is sent again by a node that received it whole."""
        if not self.store_and_forward:
            return 0
        return max((self.hops(s, t) for s, t in pairs), default=1) - 1

    @property
    def all_to_all_uses(self) -> tuple[Use, ...]:
        """`uses` when every chip sends one message to every other chip at once."""
        if len(self.links) > 1:
            return self.uses(self.pairs)
        load = self.all_to_all_load + self._forwarded(self.pairs[:1])
        return (Use(self.link, self.diameter, load, self.all_to_all_crossings),)

    def hops(self, source: int, target: int) -> int:
        """Return the number of links between two chips."""
        return len(self.route(source, target))

    def latencies(self, source: int, target: int) -> int:
        """Return how many link latencies a message pays: one per hop, unless a topology says otherwise."""
        return self.hops(source, target)

    def latency(self, route: tuple[Edge, ...]) -> Seconds:
        """Return the latency of a route: that of each link, or one for as many as `latencies` counts."""
        if not route:
            return Seconds(0.0, 0.0)
        if len(self.links) == 1:
            return self.link.alpha() * self.latencies(route[0][0], route[-1][1])
        return Seconds.total(self.link_of(edge).alpha() for edge in route)

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
                raise CostError(f"{self.kind}: no chip {chip}; it has chips 0 to {self.size - 1}")


def _latency(way: "collections.Counter[Link]") -> Number:
    """Return the latency of a way with the worst figures, in ns; a link whose latency is unknown counts 1."""
    return sum(times * (link.latency_ns.high if link.latency_ns else 1.0) for link, times in way.items())


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
