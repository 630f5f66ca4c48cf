"""Any topology, given as a list of links.

A message takes a shortest path; of several, the one through the lowest numbers.
"""

import collections
import dataclasses
import functools
import itertools
from typing import TYPE_CHECKING, final

from snap_jax.cost.link import Link
from snap_jax.cost.topologies.base import Edge, Topology, check_size
from snap_jax.cost.units import CostError

if TYPE_CHECKING:
    import networkx

_ENUMERABLE = 16


@final
@dataclasses.dataclass(frozen=True)
class Graph(Topology):
    """Nodes joined as listed: chips 0 to `chips - 1`; every higher number is a switch.

    Attributes:
      chips: number of chips.
      joins: (u, v) for each full-duplex link, once.
      link: what each of them is, unless `kinds` says otherwise.
      kinds: the link of each join, where they differ.

    Raises:
      CostError: a chip that cannot be reached from chip 0.

    >>> from snap_jax.cost import links
    >>> star = Graph(3, ((0, 3), (1, 3), (2, 3)), links.ETHERNET_400G)
    >>> star.route(2, 0)
    ((2, 3), (3, 0))
    """

    chips: int
    joins: tuple[tuple[int, int], ...]
    link: Link
    kinds: tuple[Link, ...] | None = None

    def __post_init__(self) -> None:
        check_size("Graph", self.chips)
        if self.kinds is not None and len(self.kinds) != len(self.joins):
            raise CostError(f"Graph: kinds has {len(self.kinds)} links for {len(self.joins)} joins; want one a join")
        reached = self._paths[0]
        alone = [chip for chip in range(self.chips) if chip not in reached]
        if alone:
            raise CostError(f"Graph: chip {alone[0]} cannot be reached from chip 0; join it")

    @classmethod
    def from_networkx(cls, graph: "networkx.Graph", link: Link, switches: frozenset[object] = frozenset()) -> "Graph":
        """Return the topology of a networkx graph; chips are numbered in the order of nodes, `switches` come last."""
        order = sorted(graph.nodes, key=lambda node: node in switches)
        numbers = {node: k for k, node in enumerate(order)}
        joins = tuple((numbers[u], numbers[v]) for u, v in graph.edges)
        return cls(len(order) - len(switches), joins, link)

    @property
    def size(self) -> int:
        return self.chips

    @property
    def links(self) -> tuple[Link, ...]:
        return tuple(dict.fromkeys(self.kinds or (self.link,)))

    def link_of(self, edge: Edge) -> Link:
        return self._kind_of.get(frozenset(edge), self.link)

    @functools.cached_property
    def _kind_of(self) -> dict[frozenset[int], Link]:
        return {frozenset(join): link for join, link in zip(self.joins, self.kinds or (), strict=False)}

    @property
    def edges(self) -> tuple[Edge, ...]:
        return tuple(sorted({e for u, v in self.joins if u != v for e in ((u, v), (v, u))}))

    def route(self, source: int, target: int) -> tuple[Edge, ...]:
        self.check_chips(source, target)
        return tuple(itertools.pairwise(self._paths[source][target]))

    @functools.cached_property
    def _paths(self) -> tuple[dict[int, tuple[int, ...]], ...]:
        """For each chip, the nodes on a shortest path to every node that it reaches."""
        neighbors: dict[int, list[int]] = collections.defaultdict(list)
        for u, v in self.edges:
            neighbors[u].append(v)
        return tuple(_shortest(neighbors, chip) for chip in range(self.chips))

    @property
    def bisection_links(self) -> int:
        """Fewest links between two halves, found by trying all; CostError with switches or above 16 chips."""
        nodes = {node for join in self.joins for node in join} | set(range(self.chips))
        if self.chips > _ENUMERABLE or len(nodes) > self.chips:
            raise CostError(
                f"Graph: bisection of {len(nodes)} nodes, {self.chips} of them chips; "
                f"want at most {_ENUMERABLE} chips and no switches"
            )
        halves = map(frozenset, itertools.combinations(range(self.chips), self.chips // 2))
        return min(sum(u in half and v not in half for u, v in self.edges) for half in halves)


def _shortest(neighbors: dict[int, list[int]], source: int) -> dict[int, tuple[int, ...]]:
    found: dict[int, tuple[int, ...]] = {source: (source,)}
    queue = collections.deque([source])
    while queue:
        here = queue.popleft()
        for there in neighbors.get(here, ()):
            if there not in found:
                found[there] = (*found[here], there)
                queue.append(there)
    return found
