"""A machine to price traffic on: one topology for each mesh axis, and what a chip computes with.

Law: every axis of the traffic is an axis of the system with the same number of chips, and all figures are
of one process node; anything else raises.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import final

from snap_jax.cost.collectives import Choice
from snap_jax.cost.compute import ComputeUnit
from snap_jax.cost.errors import CostError
from snap_jax.cost.topologies.base import Topology
from snap_jax.cost.units import Range, Seconds
from snap_jax.traffic.transfer import Transfer


@final
@dataclasses.dataclass(frozen=True)
class Coding:
    """How fast a chip turns tensors into payloads and back, measured by the user or given.

    Attributes:
      encode_gbyte_per_s: payload bytes written, in 10^9 a second.
      decode_gbyte_per_s: payload bytes read, in 10^9 a second.
      source: who measured it, on what.
      dtypes: element types that count as payloads; everything else travels as it is.
    """

    encode_gbyte_per_s: Range
    decode_gbyte_per_s: Range
    source: str
    dtypes: tuple[str, ...] = ("uint8", "uint32")

    def seconds(self, transfer: Transfer) -> Seconds:
        """Time to encode an operand and to decode what arrives, all executions; zero when uncoded."""
        if transfer.dtype not in self.dtypes:
            return Seconds(0.0, 0.0)
        arrives = transfer.bytes * (transfer.group_size if transfer.op == "all_gather" else 1)
        parts = ((transfer.bytes, self.encode_gbyte_per_s), (arrives, self.decode_gbyte_per_s))
        return Seconds.total(Seconds(n / (r.high * 1e9), n / (r.low * 1e9)) for n, r in parts) * transfer.times


@final
@dataclasses.dataclass(frozen=True)
class System:
    """Topologies by mesh axis.

    Attributes:
      axes: wiring of each mesh axis; every line of chips along an axis has links of its own.
      name: what the report calls it.
      algorithm: of gathers and reductions: a fixed one, "default" for the one that suits the wiring at
        every size, "fastest" or "least_energy" for the cheapest at each size.
      compute: what a chip computes with; None prices the links alone.
      coding: how long payloads take to make and to read; None leaves that time out, and the report says so.
      mixed_nodes: allow figures of different process nodes in one report, which then says so.

    >>> from snap_jax.cost import Ring, links
    >>> System({"die": Ring(4, links.UCIE_STANDARD)}).chips
    4
    """

    axes: Mapping[str, Topology]
    name: str = ""
    algorithm: Choice = "default"
    compute: ComputeUnit | None = None
    coding: Coding | None = None
    mixed_nodes: bool = False

    def __post_init__(self) -> None:
        known = sorted(self.process_nodes)
        if len(known) > 1 and not self.mixed_nodes:
            raise CostError(
                f"System: figures of different process nodes {known} cannot stand in one sum; "
                "use figures of one node, or say mixed_nodes=True and read the ratio with care"
            )

    @property
    def chips(self) -> int:
        """Chips of the whole mesh."""
        return math.prod(topology.size for topology in self.axes.values())

    @property
    def process_nodes(self) -> frozenset[str]:
        """Nodes that the sources name; many links name none."""
        named = {topology.link.process_node for topology in self.axes.values()}
        named |= {self.compute.process_node} if self.compute else set()
        return frozenset(node for node in named if node is not None)

    def topologies(self, transfer: Transfer) -> tuple[Topology, ...]:
        """Find the wiring under each axis of a transfer; raises CostError when they do not fit."""
        where = f"price: {transfer.op} at {transfer.path!r}"
        if not transfer.axes:
            raise CostError(f"{where} names no mesh axis; trace it together with its mesh")
        absent = [axis for axis in transfer.axes if axis not in self.axes]
        if absent:
            raise CostError(f"{where} runs over axis {absent[0]!r}; the system has {tuple(self.axes)}: add it")
        found = tuple(self.axes[axis] for axis in transfer.axes)
        chips = math.prod(topology.size for topology in found)
        if chips != transfer.group_size:
            raise CostError(
                f"{where} runs on {transfer.group_size} chips over {transfer.axes}, the system has {chips}; "
                "give each axis a topology of its size"
            )
        return found
