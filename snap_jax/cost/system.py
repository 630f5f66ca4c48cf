"""A machine to price traffic on: one topology for each mesh axis, and what a chip computes with.

Every axis of the traffic must be an axis of the system with the same number of chips, and all figures must be of one
process node; anything else raises. A named system takes its sizes from the traffic and everything else from its name.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import final

from snap_jax.cost import links
from snap_jax.cost.algorithms import AlgorithmChoice
from snap_jax.cost.compute import ComputeUnit
from snap_jax.cost.memory import Memory
from snap_jax.cost.topologies import Chain, Ring, Switch, Topology
from snap_jax.cost.units import CostError, Joules, Number, Range, Seconds
from snap_jax.traffic.transfer import Traffic, Transfer


@final
@dataclasses.dataclass(frozen=True)
class Coding:
    """How fast a chip encodes tensors and decodes payloads.

    Attributes:
      encode_gbyte_per_s: payload bytes written, in 10^9 per second.
      decode_gbyte_per_s: payload bytes read, in 10^9 per second.
      source: who measured it, on what.
      dtypes: dtypes that count as payloads; tensors of other dtypes are sent as they are.
      pj_per_byte: energy of a payload byte written or read, in picojoules; None leaves it out, and the report says so.

    >>> Coding.of_elements(2.0, 1.0, bits_per_element=0.5, source="measured").decode_gbyte_per_s
    Range(low=0.0625, high=0.0625)
    """

    encode_gbyte_per_s: Range
    decode_gbyte_per_s: Range
    source: str
    dtypes: tuple[str, ...] = ("uint8", "uint32")
    pj_per_byte: Range | None = None

    @classmethod
    def of_elements(cls, encode_ns: Number, decode_ns: Number, bits_per_element: Number, source: str) -> "Coding":
        """Return the speeds of coding that takes so many nanoseconds per coded element."""
        encode, decode = (bits_per_element / 8 / ns for ns in (encode_ns, decode_ns))
        return cls(Range.exactly(encode), Range.exactly(decode), source)

    def bytes(self, transfer: Transfer) -> tuple[int, int]:
        """Return the payload bytes that one chip (writes, reads) in one execution; zero when uncoded."""
        if transfer.dtype not in self.dtypes:
            return 0, 0
        return transfer.bytes, transfer.bytes * (transfer.group_size if transfer.op == "all_gather" else 1)

    def energy(self, transfer: Transfer) -> Joules:
        """Return the energy of encoding and decoding on all chips, all executions; zero where it is left out."""
        figure = self.pj_per_byte or Range(0.0, 0.0)
        chips = transfer.group_size * transfer.groups
        return Joules(figure.low, figure.high) * (1e-12 * sum(self.bytes(transfer)) * chips * transfer.times)

    def seconds(self, transfer: Transfer) -> Seconds:
        """Return the time to encode an operand and decode what arrives, all executions; zero when uncoded."""
        parts = zip(self.bytes(transfer), (self.encode_gbyte_per_s, self.decode_gbyte_per_s), strict=True)
        return Seconds.total(Seconds(n / (r.high * 1e9), n / (r.low * 1e9)) for n, r in parts) * transfer.times


@final
@dataclasses.dataclass(frozen=True)
class System:
    """Topologies by mesh axis.

    Attributes:
      axes: topology of each mesh axis; every line of chips along an axis has links of its own.
      name: what the report calls it.
      algorithm: algorithm of gathers and reductions: a fixed one, "default" for the one that suits the topology at
        every size, "fastest" or "least_energy" for the cheapest at each size.
      compute: what a chip computes with; None prices the links alone.
      coding: speed of encoding and decoding; None leaves that time out, and the report says so.
      memory: what a reduction reads and writes; None leaves that out, and the report says so.
      mixed_nodes: whether figures of different process nodes may stand in one report, which then says so.

    Raises:
      CostError: figures of different process nodes without `mixed_nodes`.

    >>> System({"device": Ring(4, links.UCIE_STANDARD)}).chips
    4
    """

    axes: Mapping[str, Topology]
    name: str = ""
    algorithm: AlgorithmChoice = "default"
    compute: ComputeUnit | None = None
    coding: Coding | None = None
    memory: Memory | None = None
    mixed_nodes: bool = False

    def __post_init__(self) -> None:
        nodes = self._nodes
        if len(self.process_nodes) > 1 and not self.mixed_nodes:
            raise CostError(
                f"System: figures of different process nodes {nodes} cannot stand in one sum; "
                "use figures of one node, or say mixed_nodes=True and read the ratio with care"
            )

    @property
    def chips(self) -> int:
        """Number of chips in the whole mesh."""
        return math.prod(topology.size for topology in self.axes.values())

    @property
    def process_nodes(self) -> frozenset[str]:
        """Process nodes that the sources name; many links name none."""
        return frozenset(self._nodes.values())

    @property
    def _nodes(self) -> dict[str, str]:
        """Process node by the name of the link, unit or memory whose source names one."""
        links = [link for topology in self.axes.values() for link in topology.links]
        parts = [*links, *(part for part in (self.compute, self.memory) if part is not None)]
        return {part.name: part.process_node for part in parts if part.process_node is not None}

    def topologies(self, transfer: Transfer) -> tuple[Topology, ...]:
        """Return the topology of each axis of a transfer. Raises CostError when they do not fit."""
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


# The topology of every mesh axis, given the number of chips along it.
NAMED: dict[str, Callable[[int], Topology]] = {
    "ucie-ring": lambda n: Ring(n, links.UCIE_STANDARD),
    "ucie-chain": lambda n: Chain(n, links.UCIE_STANDARD),
    "ucie-advanced-ring": lambda n: Ring(n, links.UCIE_ADVANCED),
    "nvlink4-switch": lambda n: Switch(n, links.NVLINK_4),
    "tpu-v5e-ring": lambda n: Ring(n, links.ICI_V5E, bidirectional=True),
    "tpu-v5p-ring": lambda n: Ring(n, links.ICI_V5P, bidirectional=True),
    "pcie5-ring": lambda n: Ring(n, links.PCIE5),
    "infiniband-400g": lambda n: Switch(n, links.INFINIBAND_400G),
    "ethernet-400g": lambda n: Switch(n, links.ETHERNET_400G),
    "optics-400g": lambda n: Switch(n, links.OPTICS_400G),
    "ethernet-10g": lambda n: Switch(n, links.ETHERNET_10G),
    "internet-200m": lambda n: Switch(n, links.INTERNET_200M),
}


def named(name: str, traffic: Traffic) -> System:
    """Return the system of that name, sized for the traffic.

    Raises:
      CostError: an unknown name, or traffic that does not determine the sizes of its axes.

    >>> named("ucie-ring", Traffic((Transfer("psum", ("device",), 4, "uint8", 8),))).axes["device"].size
    4
    """
    if name not in NAMED:
        raise CostError(f"system {name!r} is not known; want one of {', '.join(NAMED)}, or a path ending in .toml")
    return System({axis: NAMED[name](n) for axis, n in axis_sizes(traffic).items()}, name=name)


def axis_sizes(traffic: Traffic) -> dict[str, int]:
    """Return the number of chips along each mesh axis, as far as the transfers tell.

    Raises:
      CostError: an axis that only occurs together with another unknown one, or with two sizes.
    """
    sizes: dict[str, int] = {}
    for transfer in sorted(traffic, key=lambda t: len(t.axes)):
        unknown = [axis for axis in transfer.axes if axis not in sizes]
        known = math.prod(sizes[axis] for axis in transfer.axes if axis in sizes)
        if len(unknown) > 1 or not transfer.axes:
            raise CostError(
                f"sizes of axes {unknown} cannot be told from {transfer.op} over {transfer.axes}; "
                "write a system file that gives them"
            )
        if unknown:
            sizes[unknown[0]] = transfer.group_size // known
        if math.prod(sizes[axis] for axis in transfer.axes) != transfer.group_size:
            raise CostError(f"{transfer.op} over {transfer.axes} has {transfer.group_size} chips, others say {sizes}")
    return sizes
