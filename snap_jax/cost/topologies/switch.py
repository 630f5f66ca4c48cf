"""Chips that are all equally far from each other: a switch, or a link between every pair.

No message passes through another chip.
"""

import dataclasses
from typing import final

from snap_jax.cost.link import Link
from snap_jax.cost.topologies.base import Edge, Topology, check_size


@final
@dataclasses.dataclass(frozen=True)
class Switch(Topology):
    """Every chip has one link to one switch; in `edges` the switch is number `chips`.

    A message crosses two links and pays the energy of both; no preset includes the energy of the switch itself. It
    pays one latency, because `latency_ns` of a switched link is measured from port to port, through the switch. With
    `store_and_forward` the switch sends a message on when it has all of it, which takes its bytes once more.

    >>> from snap_jax.cost import links
    >>> Switch(8, links.ETHERNET_400G).route(0, 3)
    ((0, 8), (8, 3))
    """

    chips: int
    link: Link
    store_and_forward: bool = False

    def __post_init__(self) -> None:
        check_size("Switch", self.chips)

    @property
    def size(self) -> int:
        return self.chips

    @property
    def edges(self) -> tuple[Edge, ...]:
        return tuple((i, self.chips) for i in range(self.chips)) + tuple((self.chips, i) for i in range(self.chips))

    def route(self, source: int, target: int) -> tuple[Edge, ...]:
        self.check_chips(source, target)
        return () if source == target else ((source, self.chips), (self.chips, target))

    def latencies(self, source: int, target: int) -> int:
        return 0 if source == target else 1

    @property
    def bisection_links(self) -> int:
        return self.chips // 2

    @property
    def diameter(self) -> int:
        return min(1, self.chips - 1)

    @property
    def all_to_all_load(self) -> int:
        return self.chips - 1

    @property
    def all_to_all_crossings(self) -> int:
        return 2 * self.chips * (self.chips - 1)


@final
@dataclasses.dataclass(frozen=True)
class FullyConnected(Topology):
    """Every pair of chips has a link of its own, so `link` is what one pair shares, not all that one chip has.

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
        return self.chips

    @property
    def edges(self) -> tuple[Edge, ...]:
        return self.pairs

    def route(self, source: int, target: int) -> tuple[Edge, ...]:
        self.check_chips(source, target)
        return () if source == target else ((source, target),)

    @property
    def bisection_links(self) -> int:
        return (self.chips // 2) * ((self.chips + 1) // 2)

    @property
    def diameter(self) -> int:
        return min(1, self.chips - 1)

    @property
    def all_to_all_load(self) -> int:
        return min(1, self.chips - 1)

    @property
    def all_to_all_crossings(self) -> int:
        return self.chips * (self.chips - 1)
