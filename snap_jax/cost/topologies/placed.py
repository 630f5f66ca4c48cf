"""A mesh axis of a program, placed on the chips of a physical network whose links its groups share."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import final

from snap_jax.cost.link import Link
from snap_jax.cost.topologies.base import Edge, Pairs, Topology, Use
from snap_jax.cost.topologies.grid import coordinates
from snap_jax.cost.units import CostError


@final
@dataclasses.dataclass(frozen=True)
class Placed(Topology):
    """One axis: groups of chips of a physical network that all communicate at the same time.

    Attributes:
      physical: the network.
      groups: chips of each group, in the order of the axis.

    >>> from snap_jax.cost import Ring, links
    >>> axes = place({"data": 2, "stage": 2}, Ring(4, links.UCIE_STANDARD))
    >>> axes["data"].groups
    ((0, 2), (1, 3))
    """

    physical: Topology
    groups: tuple[tuple[int, ...], ...]

    @property
    def link(self) -> Link:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.physical.link

    @property
    def size(self) -> int:
        return len(self.groups[0])

    @property
    def sharing(self) -> int:
        return len(self.groups)

    @property
    def edges(self) -> tuple[Edge, ...]:
        return self.physical.edges

    @property
    def links(self) -> tuple[Link, ...]:
        return self.physical.links

    def link_of(self, edge: Edge) -> Link:
        return self.physical.link_of(edge)

    def route(self, source: int, target: int) -> tuple[Edge, ...]:
        self.check_chips(source, target)
        return self.physical.route(self.groups[0][source], self.groups[0][target])

    def latencies(self, source: int, target: int) -> int:
        return max(self.physical.latencies(group[source], group[target]) for group in self.groups)

    def uses(self, pairs: Pairs) -> tuple[Use, ...]:
        every = tuple((group[s], group[t]) for group in self.groups for s, t in pairs)
        shared = self.physical.uses(every)
        return tuple(dataclasses.replace(use, crossings=use.crossings / len(self.groups)) for use in shared)

    @property
    def all_to_all_uses(self) -> tuple[Use, ...]:
        return self.uses(self.pairs)

    @property
    def bisection_links(self) -> int:
        return self.physical.bisection_links


def place(mesh: Mapping[str, int], physical: Topology, order: Sequence[int] | None = None) -> dict[str, Placed]:
    """Return the topology of each axis of a mesh on a physical network.

    Args:
      mesh: sizes by axis, the last axis the fastest, as in `jax.make_mesh`.
      physical: the network.
      order: chip of each device of the mesh; by default device k is chip k.

    Raises:
      CostError: another number of devices than of places, or a chip that is used twice.
    """
    sizes, devices = tuple(mesh.values()), math.prod(mesh.values())
    chips = tuple(order) if order is not None else tuple(range(devices))
    if len(chips) != devices or len(set(chips)) != devices or devices > physical.size:
        raise CostError(
            f"place: {devices} devices of {dict(mesh)} on chips {chips} of {physical.size}; "
            "want a chip of its own for each"
        )
    physical.check_chips(*chips)
    at = [coordinates(sizes, device) for device in range(devices)]
    found = {}
    for k, axis in enumerate(mesh):
        ordered = sorted(range(devices), key=lambda d, k=k: (*at[d][:k], *at[d][k + 1 :], at[d][k]))
        groups = _split(ordered, sizes[k])
        found[axis] = Placed(physical, tuple(tuple(chips[d] for d in group) for group in groups))
    return found


def _split(devices: Sequence[int], size: int) -> list[Sequence[int]]:
    return [devices[k : k + size] for k in range(0, len(devices), size)]
