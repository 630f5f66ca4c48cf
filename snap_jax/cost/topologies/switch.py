"""Chips that are all equally near: a switch, a fully connected group.

Law: no message crosses another chip.
"""

import dataclasses
from typing import final

from snap_jax.cost.links import Link
from snap_jax.cost.topologies.base import Edge, Topology, check_size


@final
@dataclasses.dataclass(frozen=True)
class Switch(Topology):
    """Every chip has one link to one switch, which is number `chips` in edges.

    A message crosses two links, so it pays their energy twice; the energy of the switch itself is not in
    any preset. Its latency is counted once: a switched link's `latency_ns` is port to port, the switch
    included.

    >>> from snap_jax.cost import links
    >>> Switch(8, links.ETHERNET_400G).route(0, 3)
    ((0, 8), (8, 3))
    """

    chips: int
    link: Link

    def __post_init__(self) -> None:
        check_size("Switch", self.chips)

    @property
    def size(self) -> int:
        """Number of chips."""
        return self.chips

    @property
    def edges(self) -> tuple[Edge, ...]:
        """Each chip to the switch and back."""
        return tuple((i, self.chips) for i in range(self.chips)) + tuple((self.chips, i) for i in range(self.chips))

    def route(self, source: int, target: int) -> tuple[Edge, ...]:
        """Up to the switch, down to the target."""
        self.check_chips(source, target)
        return () if source == target else ((source, self.chips), (self.chips, target))

    def latencies(self, source: int, target: int) -> int:
        """One: port to port."""
        return 0 if source == target else 1

    @property
    def bisection_links(self) -> int:
        """The links of the smaller half."""
        return self.chips // 2

    @property
    def diameter(self) -> int:
        """One latency, port to port."""
        return min(1, self.chips - 1)

    @property
    def all_to_all_load(self) -> int:
        """What one port sends."""
        return self.chips - 1

    @property
    def all_to_all_crossings(self) -> int:
        """Two links for every ordered pair."""
        return 2 * self.chips * (self.chips - 1)


@final
@dataclasses.dataclass(frozen=True)
class FullyConnected(Topology):
    """Every pair of chips has a link of its own, so `link` is what one pair shares, not what one chip has.

    >>> from snap_jax.cost import links
    >>> FullyConnected(8, links.NVLINK_4).bisection_links
    16
    """

    chips: int
    link: Link

    def __post_init__(self) -> None:
        check_size("FullyConnected", self.chips)

    @property
    def size(self) -> int:
        """Number of chips."""
        return self.chips

    @property
    def edges(self) -> tuple[Edge, ...]:
        """Every ordered pair."""
        return tuple(self.pairs)

    def route(self, source: int, target: int) -> tuple[Edge, ...]:
        """Take the link of the pair."""
        self.check_chips(source, target)
        return () if source == target else ((source, target),)

    @property
    def bisection_links(self) -> int:
        """floor(n/2) ceil(n/2): every pair that the cut parts."""
        return (self.chips // 2) * ((self.chips + 1) // 2)

    @property
    def diameter(self) -> int:
        """One link."""
        return min(1, self.chips - 1)

    @property
    def all_to_all_load(self) -> int:
        """One message on every link."""
        return min(1, self.chips - 1)

    @property
    def all_to_all_crossings(self) -> int:
        """One link for every ordered pair."""
        return self.chips * (self.chips - 1)
