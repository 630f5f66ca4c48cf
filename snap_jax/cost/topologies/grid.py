"""Chains, rings, meshes and tori; chips are numbered row-major.

A message moves along the first dimension first, then along the second, and so on. Along a ring it takes the shorter
direction. Where both are equally long, even positions go up and odd positions go down, which splits an all-to-all
evenly. An all-to-all loads a line of dimension k with its one-dimensional load times the number of chips outside that
dimension.
"""

import abc
import dataclasses
import itertools
import math
from typing import ClassVar, final

from snap_jax.cost.links import Link
from snap_jax.cost.topologies.base import Edge, Topology, check_size
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


class Grid(Topology):
    """Abstract: a grid of lines, each a chain, or each a ring where `wraps`; a ring of two chips has one link."""

    wraps: ClassVar[bool]

    @property
    @abc.abstractmethod
    def lengths(self) -> Shape:
        """Number of chips along each dimension."""

    def __post_init__(self) -> None:
        check_size(type(self).__name__, min(self.lengths, default=0))

    @property
    def size(self) -> int:
        return math.prod(self.lengths)

    @property
    def edges(self) -> tuple[Edge, ...]:
        edges: set[Edge] = set()
        for chip in range(self.size):
            at = coordinates(self.lengths, chip)
            for k, length in enumerate(self.lengths):
                ahead = at[k] + 1
                if length == 1 or (ahead == length and not self.wraps):
                    continue
                there = chip_at(self.lengths, (*at[:k], ahead % length, *at[k + 1 :]))
                edges |= {(chip, there), (there, chip)}
        return tuple(sorted(edges))

    def route(self, source: int, target: int) -> tuple[Edge, ...]:
        self.check_chips(source, target)
        at, goal = list(coordinates(self.lengths, source)), coordinates(self.lengths, target)
        visited = [source]
        for k, length in enumerate(self.lengths):
            for x in self._path(length, at[k], goal[k])[1:]:
                at[k] = x
                visited.append(chip_at(self.lengths, tuple(at)))
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
        longest = max(self.lengths)
        if longest % 2 and len(self.lengths) > 1:
            raise CostError(
                f"{type(self).__name__}{self.lengths}: no closed form for the bisection of an odd longest dimension; "
                "use a Graph"
            )
        return min(2 if self.wraps else 1, longest - 1) * self.size // longest

    @property
    def diameter(self) -> int:
        return sum(n // 2 if self.wraps else n - 1 for n in self.lengths)

    @property
    def min_degree(self) -> int:
        return sum(min(2 if self.wraps else 1, n - 1) for n in self.lengths)

    @property
    def all_to_all_load(self) -> int:
        return max(self._line_load(n) * self.size // n for n in self.lengths)

    @property
    def all_to_all_crossings(self) -> int:
        return sum(self._line_crossings(n) * (self.size // n) ** 2 for n in self.lengths)

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
class Chain(Grid):
    """Chips in a row; the ends are not joined.

    >>> from snap_jax.cost import links
    >>> Chain(4, links.UCIE_STANDARD).hops(0, 3)
    3
    """

    chips: int
    link: Link
    wraps = False

    @property
    def lengths(self) -> Shape:
        return (self.chips,)


@final
@dataclasses.dataclass(frozen=True)
class Ring(Grid):
    """Chips in a ring.

    Attributes:
      chips: number of chips.
      link: what joins two neighbors.
      bidirectional: whether collectives send in both directions at once, as TPUs do; NCCL's ring sends in one.

    >>> from snap_jax.cost import links
    >>> ring = Ring(4, links.UCIE_STANDARD)
    >>> ring.route(3, 0), ring.route(0, 2), ring.route(1, 3)
    (((3, 0),), ((0, 1), (1, 2)), ((1, 0), (0, 3)))
    """

    chips: int
    link: Link
    bidirectional: bool = False
    wraps = True

    @property
    def lengths(self) -> Shape:
        return (self.chips,)


@final
@dataclasses.dataclass(frozen=True)
class Mesh(Grid):
    """A grid of chains.

    >>> from snap_jax.cost import links
    >>> Mesh((4, 4), links.UCIE_STANDARD).hops(0, 15)
    6
    """

    shape: Shape
    link: Link
    wraps = False

    @property
    def lengths(self) -> Shape:
        return self.shape


@final
@dataclasses.dataclass(frozen=True)
class Torus(Grid):
    """A grid of rings.

    >>> from snap_jax.cost import links
    >>> Torus((4, 4), links.ICI_V4P).bisection_links
    8
    """

    shape: Shape
    link: Link
    wraps = True

    @property
    def lengths(self) -> Shape:
        return self.shape
