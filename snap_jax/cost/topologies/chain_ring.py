"""Chips in a row: chain and ring.

Law: a ring sends the short way round; of two equal ways, even chips go up and odd chips go down, which
splits an all-to-all evenly. The closed forms equal what the routes give.
"""

import dataclasses
import itertools
from typing import final

from snap_jax.cost.links import Link
from snap_jax.cost.topologies.base import Edge, Topology, check_size


def chain_path(source: int, target: int) -> list[int]:
    """Chips visited along a chain, both ends included.

    >>> chain_path(3, 1)
    [3, 2, 1]
    """
    step = 1 if target >= source else -1
    return list(range(source, target + step, step))


def ring_path(size: int, source: int, target: int) -> list[int]:
    """Chips visited along a ring, the short way; both ends included.

    >>> ring_path(4, 3, 0), ring_path(4, 0, 2), ring_path(4, 1, 3)
    ([3, 0], [0, 1, 2], [1, 0, 3])
    """
    up = (target - source) % size
    down = (source - target) % size
    goes_up = up < down or (up == down and source % 2 == 0)
    length, step = (up, 1) if goes_up else (down, -1)
    return [(source + step * k) % size for k in range(length + 1)]


def chain_load(size: int) -> int:
    """All-to-all messages on a chain's busiest edge: floor(n/2) ceil(n/2), those that cross its middle."""
    return (size // 2) * ((size + 1) // 2)


def ring_load(size: int) -> int:
    """All-to-all messages on a ring's busiest edge.

    Chips at distance d < n/2 put d messages on each edge: sum of d. At d = n/2 half of the chips go each
    way: ceil(n/4).
    """
    shorter = (size - 1) // 2
    return shorter * (shorter + 1) // 2 + (-(-size // 4) if size % 2 == 0 else 0)


def chain_crossings(size: int) -> int:
    """Sum of |i - j| over all ordered pairs: n (n^2 - 1) / 3."""
    return size * (size * size - 1) // 3


def ring_crossings(size: int) -> int:
    """Sum of the short way round over all ordered pairs: n floor(n^2 / 4)."""
    return size * (size * size // 4)


@final
@dataclasses.dataclass(frozen=True)
class Chain(Topology):
    """Chip i is joined to i - 1 and i + 1; the ends are not joined.

    >>> from snap_jax.cost import links
    >>> Chain(4, links.UCIE_STANDARD).hops(0, 3)
    3
    """

    chips: int
    link: Link

    def __post_init__(self) -> None:
        check_size("Chain", self.chips)

    @property
    def size(self) -> int:
        """Number of chips."""
        return self.chips

    @property
    def edges(self) -> tuple[Edge, ...]:
        """Each neighbour pair, both ways."""
        ups = [(i, i + 1) for i in range(self.chips - 1)]
        return tuple(ups + [(v, u) for u, v in ups])

    def route(self, source: int, target: int) -> tuple[Edge, ...]:
        """Straight along the row."""
        self.check_chips(source, target)
        path = chain_path(source, target)
        return tuple(itertools.pairwise(path))

    @property
    def bisection_links(self) -> int:
        """One link joins the halves."""
        return min(1, self.chips - 1)

    @property
    def diameter(self) -> int:
        """From end to end."""
        return self.chips - 1

    @property
    def all_to_all_load(self) -> int:
        """See `chain_load`."""
        return chain_load(self.chips)

    @property
    def all_to_all_crossings(self) -> int:
        """See `chain_crossings`."""
        return chain_crossings(self.chips)


@final
@dataclasses.dataclass(frozen=True)
class Ring(Topology):
    """Chip i is joined to i - 1 and i + 1 modulo `chips`.

    Attributes:
      chips: how many.
      link: what joins two neighbours.
      bidirectional: collectives send both ways round at once, as TPUs do; otherwise one way, as NCCL's
        ring does.

    >>> from snap_jax.cost import links
    >>> Ring(8, links.UCIE_STANDARD).hops(0, 6)
    2
    """

    chips: int
    link: Link
    bidirectional: bool = False

    def __post_init__(self) -> None:
        check_size("Ring", self.chips)

    @property
    def size(self) -> int:
        """Number of chips."""
        return self.chips

    @property
    def edges(self) -> tuple[Edge, ...]:
        """Each neighbour pair, both ways."""
        return ring_edges(self.chips)

    def route(self, source: int, target: int) -> tuple[Edge, ...]:
        """Go the short way round."""
        self.check_chips(source, target)
        path = ring_path(self.chips, source, target)
        return tuple(itertools.pairwise(path))

    @property
    def bisection_links(self) -> int:
        """Two links join the halves; two chips share one link."""
        return min(2, self.chips - 1)

    @property
    def diameter(self) -> int:
        """Half way round."""
        return self.chips // 2

    @property
    def all_to_all_load(self) -> int:
        """See `ring_load`."""
        return ring_load(self.chips)

    @property
    def all_to_all_crossings(self) -> int:
        """See `ring_crossings`."""
        return ring_crossings(self.chips)


def ring_edges(size: int) -> tuple[Edge, ...]:
    """Directed neighbour pairs of a ring; a ring of two is one link."""
    ups = {(i, (i + 1) % size) for i in range(size) if size > 1}
    return tuple(sorted(ups | {(v, u) for u, v in ups}))
