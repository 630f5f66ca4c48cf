"""A ppermute over several mesh axes, as a compiler writes one to divide an array in another way.

A message moves along the first axis to the place of its target there, then along the second, and so on. Messages of one
line of chips that move along an axis share its links; lines have links of their own.
"""

import collections
import dataclasses
import math
from collections.abc import Sequence

from snap_jax.cost.algorithms import Plan, Rounds
from snap_jax.cost.topologies import Topology
from snap_jax.cost.topologies.base import Pairs, Use
from snap_jax.cost.topologies.grid import coordinates
from snap_jax.cost.units import Number


def permute_stages(operand_bytes: Number, topologies: Sequence[Topology], pairs: Pairs) -> list[tuple[int, Plan]]:
    """Return (axis number, rounds) for each axis along which messages move.

    A round takes as long as on the busiest line, and its crossings are the mean of all lines.

    Args:
      operand_bytes: of a message.
      topologies: of the axes.
      pairs: (source, target) chips, numbered along the axes, the last of them fastest.

    >>> from snap_jax.cost import Ring, links
    >>> ring = Ring(2, links.UCIE_STANDARD)
    >>> [(axis, [use.crossings for use in rounds.uses]) for axis, (rounds,) in permute_stages(8, [ring] * 2, ((1, 2),))]
    [(0, [0.5]), (1, [0.5])]
    """
    shape = tuple(topology.size for topology in topologies)
    ways = [(coordinates(shape, source), coordinates(shape, target)) for source, target in pairs]
    stages = []
    for axis, topology in enumerate(topologies):
        lines: dict[tuple, list[tuple[int, int]]] = collections.defaultdict(list)
        for source, target in ways:
            if source[axis] != target[axis]:
                lines[target[:axis], source[axis + 1 :]].append((source[axis], target[axis]))
        count = math.prod(shape) // shape[axis]
        if uses := _together([topology.uses(tuple(line)) for line in lines.values()], count):
            stages.append((axis, (Rounds("permute", 1, operand_bytes, uses),)))
    return stages


def _together(lines: list[tuple[Use, ...]], count: int) -> tuple[Use, ...]:
    """Return what a line of `count` lines does to each kind of link: the most hops and load, the mean of crossings."""
    found: dict[object, Use] = {}
    for use in (use for uses in lines for use in uses):
        known = found.get(use.link, Use(use.link, 0, 0, 0))
        hops, load = max(known.hops, use.hops), max(known.load, use.load)
        found[use.link] = dataclasses.replace(known, hops=hops, load=load, crossings=known.crossings + use.crossings)
    return tuple(dataclasses.replace(use, crossings=use.crossings / count) for use in found.values())
