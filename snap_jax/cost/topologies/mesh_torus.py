"""Meshes and tori of any number of dimensions; chips are numbered row-major.

Law: messages go dimension by dimension, first dimension first, each along a chain (mesh) or a ring
(torus). An all-to-all loads a line of dimension k with its one-dimensional load times the chips outside
that dimension.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import final

from snap_jax.cost.errors import CostError
from snap_jax.cost.links import Link
from snap_jax.cost.topologies.base import Edge, Topology, check_size
from snap_jax.cost.topologies.chain_ring import (
    chain_crossings,
    chain_load,
    chain_path,
    ring_crossings,
    ring_load,
    ring_path,
)

Shape = tuple[int, ...]


def coordinates(shape: Shape, chip: int) -> Shape:
    """Row-major coordinates of a chip.

    >>> coordinates((2, 3), 4)
    (1, 1)
    """
    found = []
    for size in reversed(shape):
        chip, rest = divmod(chip, size)
        found.append(rest)
    return tuple(reversed(found))


def number(shape: Shape, at: Shape) -> int:
    """Row-major number of the chip at some coordinates.

    >>> number((2, 3), (1, 1))
    4
    """
    chip = 0
    for size, x in zip(shape, at, strict=True):
        chip = chip * size + x
    return chip


def _walk(shape: Shape, source: int, target: int, path: Callable[[int, int, int], list[int]]) -> tuple[Edge, ...]:
    at, goal = list(coordinates(shape, source)), coordinates(shape, target)
    visited = [source]
    for k, size in enumerate(shape):
        for x in path(size, at[k], goal[k])[1:]:
            at[k] = x
            visited.append(number(shape, tuple(at)))
    return tuple(itertools.pairwise(visited))


def _neighbours(shape: Shape, wraps: bool) -> tuple[Edge, ...]:
    edges: set[Edge] = set()
    for chip in range(math.prod(shape)):
        at = coordinates(shape, chip)
        for k, size in enumerate(shape):
            ahead = at[k] + 1
            if size == 1 or (ahead == size and not wraps):
                continue
            there = number(shape, (*at[:k], ahead % size, *at[k + 1 :]))
            edges |= {(chip, there), (there, chip)}
    return tuple(sorted(edges))


def _cut(name: str, shape: Shape, line: Callable[[int], int]) -> int:
    longest = max(shape)
    if longest % 2 and len(shape) > 1:
        raise CostError(f"{name}{shape}: no closed form for the bisection of an odd longest dimension; use a Graph")
    return line(longest) * math.prod(shape) // longest


@final
@dataclasses.dataclass(frozen=True)
class Mesh(Topology):
    """A grid of chains.

    >>> from snap_jax.cost import links
    >>> Mesh((4, 4), links.UCIE_STANDARD).hops(0, 15)
    6
    """

    shape: Shape
    link: Link

    def __post_init__(self) -> None:
        check_size("Mesh", min(self.shape, default=0))

    @property
    def size(self) -> int:
        """Number of chips."""
        return math.prod(self.shape)

    @property
    def edges(self) -> tuple[Edge, ...]:
        """Each neighbour pair, both ways."""
        return _neighbours(self.shape, wraps=False)

    def route(self, source: int, target: int) -> tuple[Edge, ...]:
        """Dimension by dimension."""
        self.check_chips(source, target)
        return _walk(self.shape, source, target, lambda size, a, b: chain_path(a, b))

    @property
    def bisection_links(self) -> int:
        """Chips in a cross-section of the longest dimension; CostError when that one is odd."""
        return _cut("Mesh", self.shape, lambda size: min(1, size - 1))

    @property
    def diameter(self) -> int:
        """Corner to corner."""
        return sum(size - 1 for size in self.shape)

    @property
    def min_degree(self) -> int:
        """Links of a corner."""
        return sum(size > 1 for size in self.shape)

    @property
    def all_to_all_load(self) -> int:
        """The worst dimension: see `chain_load`."""
        return max(chain_load(size) * self.size // size for size in self.shape)

    @property
    def all_to_all_crossings(self) -> int:
        """Sum over dimensions: see `chain_crossings`."""
        return sum(chain_crossings(size) * (self.size // size) ** 2 for size in self.shape)


@final
@dataclasses.dataclass(frozen=True)
class Torus(Topology):
    """A grid of rings; a dimension of two has one link, not two.

    >>> from snap_jax.cost import links
    >>> Torus((4, 4), links.ICI_V4P).bisection_links
    8
    """

    shape: Shape
    link: Link

    def __post_init__(self) -> None:
        check_size("Torus", min(self.shape, default=0))

    @property
    def size(self) -> int:
        """Number of chips."""
        return math.prod(self.shape)

    @property
    def edges(self) -> tuple[Edge, ...]:
        """Each neighbour pair, both ways."""
        return _neighbours(self.shape, wraps=True)

    def route(self, source: int, target: int) -> tuple[Edge, ...]:
        """Dimension by dimension, each the short way round."""
        self.check_chips(source, target)
        return _walk(self.shape, source, target, ring_path)

    @property
    def bisection_links(self) -> int:
        """Two links for each ring along the longest dimension; CostError when that one is odd."""
        return _cut("Torus", self.shape, lambda size: min(2, size - 1))

    @property
    def diameter(self) -> int:
        """Half way round in every dimension."""
        return sum(size // 2 for size in self.shape)

    @property
    def min_degree(self) -> int:
        """Two links a dimension; one where the dimension has two chips."""
        return sum(min(2, size - 1) for size in self.shape)

    @property
    def all_to_all_load(self) -> int:
        """The worst dimension: see `ring_load`."""
        return max(ring_load(size) * self.size // size for size in self.shape)

    @property
    def all_to_all_crossings(self) -> int:
        """Sum over dimensions: see `ring_crossings`."""
        return sum(ring_crossings(size) * (self.size // size) ** 2 for size in self.shape)
