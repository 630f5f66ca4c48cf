"""Chains, rings, meshes and tori; chips are numbered row-major.

A message moves along the first dimension first, then along the second, and so on. Along a ring it takes the shorter
direction. Where both are equally long, even positions go up and odd positions go down, which splits an all-to-all
evenly. An all-to-all loads a line of dimension k with its one-dimensional load times the number of chips outside that
dimension.
"""

import collections
import dataclasses
import itertools
import math
from typing import ClassVar, final

from snap_jax.cost.link import Link
from snap_jax.cost.topologies.base import Edge, Pairs, Topology, Use, check_size
from snap_jax.cost.units import CostError

Shape = tuple[int, ...]


def coordinates(shape: Shape, chip: int) -> Shape:
    """Return the row-major coordinates of a chip.

    >>> coordinates((2, 3), 4)
    (1, 1)
    """
    found = []
    for size in reversed(shape):
        chip, rest = divmod(chip, size)
        found.append(rest)
    return tuple(reversed(found))


def chip_at(shape: Shape, at: Shape) -> int:
    """Return the row-major number of the chip at some coordinates.

    >>> chip_at((2, 3), (1, 1))
    4
    """
    chip = 0
    for size, x in zip(shape, at, strict=True):
        chip = chip * size + x
    return chip


@dataclasses.dataclass(frozen=True)
class Grid(Topology):
    """Abstract: a grid of lines, each a chain, or each a ring where `wraps`; a ring of two chips has one link.

    Attributes:
      shape: number of chips along each dimension.
      link: what joins two neighbors, unless `along` says otherwise.
      along: the link along each dimension, where they differ.
      port: link that every message crosses once between its chip and the grid; None where a chip has none.
    """

    shape: Shape
    link: Link
    along: tuple[Link, ...] | None = None
    port: Link | None = None

    wraps: ClassVar[bool]

    def __post_init__(self) -> None:
        check_size(self.kind, min(self.shape, default=0))
        if self.along is not None and len(self.along) != len(self.shape):
            raise CostError(f"{self.kind}{self.shape}: along has {len(self.along)} links; want one a dimension")

    @property
    def links(self) -> tuple[Link, ...]:
        return tuple(dict.fromkeys(self.along or (self.link,)))

    def link_of(self, edge: Edge) -> Link:
        if self.along is None:
            return self.link
        ends = zip(coordinates(self.shape, edge[0]), coordinates(self.shape, edge[1]), strict=True)
        return next(link for link, (u, v) in zip(self.along, ends, strict=True) if u != v)

    def uses(self, pairs: Pairs) -> tuple[Use, ...]:
        found = super().uses(pairs)
        moves = [(s, t) for s, t in pairs if s != t]
        if self.port is None or not moves:
            return found
        busiest = max(max(collections.Counter(ends).values()) for ends in zip(*moves, strict=True))
        return (*found, Use(self.port, 0, busiest, len(moves)))

    @property
    def all_to_all_uses(self) -> tuple[Use, ...]:
        return super().all_to_all_uses if self.port is None else self.uses(self.pairs)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def edges(self) -> tuple[Edge, ...]:
        edges: set[Edge] = set()
        for chip in range(self.size):
            at = coordinates(self.shape, chip)
            for k, length in enumerate(self.shape):
                ahead = at[k] + 1
                if length == 1 or (ahead == length and not self.wraps):
                    continue
                there = chip_at(self.shape, (*at[:k], ahead % length, *at[k + 1 :]))
                edges |= {(chip, there), (there, chip)}
        return tuple(sorted(edges))

    def route(self, source: int, target: int) -> tuple[Edge, ...]:
        self.check_chips(source, target)
        at, goal = list(coordinates(self.shape, source)), coordinates(self.shape, target)
        visited = [source]
        for k, length in enumerate(self.shape):
            for x in self._path(length, at[k], goal[k])[1:]:
                at[k] = x
                visited.append(chip_at(self.shape, tuple(at)))
        return tuple(itertools.pairwise(visited))

    def _path(self, length: int, source: int, target: int) -> list[int]:
        """Return the positions visited along one line, both ends included."""
        if not self.wraps:
            step = 1 if target >= source else -1
            return list(range(source, target + step, step))
        up, down = (target - source) % length, (source - target) % length
        goes_up = up < down or (up == down and source % 2 == 0)
        hops, step = (up, 1) if goes_up else (down, -1)
        return [(source + step * k) % length for k in range(hops + 1)]

    @property
    def bisection_links(self) -> int:
        """Links cut across the longest dimension, one per chain and two per ring; CostError if its length is odd."""
        longest = max(self.shape)
        if longest % 2 and len(self.shape) > 1:
            raise CostError(
                f"{self.kind}{self.shape}: no closed form for the bisection of an odd longest dimension; use a Graph"
            )
        return min(2 if self.wraps else 1, longest - 1) * self.size // longest

    @property
    def diameter(self) -> int:
        return sum(n // 2 if self.wraps else n - 1 for n in self.shape)

    @property
    def min_degree(self) -> int:
        return sum(min(2 if self.wraps else 1, n - 1) for n in self.shape)

    @property
    def all_to_all_load(self) -> int:
        return max(self._line_load(n) * self.size // n for n in self.shape)

    @property
    def all_to_all_crossings(self) -> int:
        return sum(self._line_crossings(n) * (self.size // n) ** 2 for n in self.shape)

    def _line_load(self, n: int) -> int:
        """Return the all-to-all messages on the busiest edge of a line of n chips.

        A chain: floor(n/2) ceil(n/2), those that cross its middle. A ring: chips at distance d < n/2 put d messages
        on each edge; at d = n/2 half of the chips go each way, which makes ceil(n/4).
        """
        if not self.wraps:
            return (n // 2) * ((n + 1) // 2)
        shorter = (n - 1) // 2
        return shorter * (shorter + 1) // 2 + (-(-n // 4) if n % 2 == 0 else 0)

    def _line_crossings(self, n: int) -> int:
        """Return the sum of all distances: n floor(n^2 / 4) on a ring, n (n^2 - 1) / 3 on a chain."""
        return n * (n * n // 4) if self.wraps else n * (n * n - 1) // 3


@final
@dataclasses.dataclass(frozen=True)
class Mesh(Grid):
    """A grid of chains.

    >>> from snap_jax.cost import links
    >>> Mesh((4, 4), links.UCIE_STANDARD).hops(0, 15)
    6
    """

    wraps = False

    @property
    def kind(self) -> str:
        return "Chain" if len(self.shape) == 1 else "Mesh"


@final
@dataclasses.dataclass(frozen=True)
class Torus(Grid):
    """A grid of rings.

    Attributes:
      bidirectional: whether collectives send in both directions at once, as TPUs do; NCCL's ring sends in one.

    >>> from snap_jax.cost import links
    >>> Torus((4, 4), links.ICI_V4P).bisection_links
    8
    """

    bidirectional: bool = True

    wraps = True

    @property
    def kind(self) -> str:
        return "Ring" if len(self.shape) == 1 else "Torus"


def Chain(chips: int, link: Link) -> Mesh:  # noqa: N802
    """Return chips in a row: a mesh of one dimension.

    >>> from snap_jax.cost import links
    >>> Chain(4, links.UCIE_STANDARD).hops(0, 3)
    3
    """
    return Mesh((chips,), link)


def Ring(chips: int, link: Link, bidirectional: bool = False) -> Torus:  # noqa: N802
    """Return chips in a ring: a torus of one dimension.

    >>> from snap_jax.cost import links
    >>> ring = Ring(4, links.UCIE_STANDARD)
    >>> ring.route(3, 0), ring.route(0, 2), ring.route(1, 3)
    (((3, 0),), ((0, 1), (1, 2)), ((1, 0), (0, 3)))
    """
    return Torus((chips,), link, bidirectional=bidirectional)
