"""Export traffic as a Chakra execution trace, with the network and system files that ASTRA-sim needs.

ASTRA-sim then runs the same bytes on the same topology; what it cannot express raises. Transfers follow one another, as
in `no_overlap_s`.

Ranks are numbered row-major over the mesh axes, the last axis fastest. ASTRA-sim's first network dimension is its
fastest, so its dimensions are the axes in reverse order. It pays the latency of a switch twice, up and down, so half of
it is written. It reads GB/s as 2^30 bytes per second. Messages carry no packet overhead. What only some groups run, all
groups run there: it takes the same time.
"""

import dataclasses
import itertools
import json
import math
from pathlib import Path
from typing import Literal, final

from snap_jax.cost.algorithms import Algorithm, AlgorithmChoice, default_algorithm
from snap_jax.cost.axis_cost import pairs_of
from snap_jax.cost.protobuf import chunk, delimited, number, packed, present
from snap_jax.cost.system import System
from snap_jax.cost.topologies import FullyConnected, Switch, Topology, Torus
from snap_jax.cost.topologies.grid import chip_at, coordinates
from snap_jax.cost.units import CostError, Number
from snap_jax.traffic.transfer import Traffic, Transfer

SCHEMA_VERSION = "0.0.4"
COMM_SEND, COMM_RECV, COMM_COLL = 5, 6, 7
COLLECTIVES = {"psum": 0, "pmax": 0, "pmin": 0, "all_gather": 2, "all_to_all": 6, "psum_scatter": 7}
MOST_NODES = 100_000


@final
@dataclasses.dataclass(frozen=True)
class Dimension:
    """One dimension of the network of ASTRA-sim.

    Attributes:
      axis: the mesh axis it belongs to.
      shape: Ring, FullyConnected or Switch.
      size: number of ranks along it.
      topology: topology that its link comes from.
    """

    axis: str
    shape: str
    size: int
    topology: Topology


def export(
    traffic: Traffic,
    system: System,
    directory: Path | str,
    name: str = "traffic",
    figures: Literal["best", "worst"] = "worst",
) -> tuple[Path, ...]:
    """Write NAME.<rank>.et for every rank, network.yml, system.json, remote_memory.json; return their paths.

    Args:
      traffic: what to run.
      system: the system to run it on; every axis a Ring, Torus, Switch or FullyConnected.
      directory: where to write; created if necessary.
      name: name of the traces.
      figures: which end of each link's bandwidth and latency to use.

    Raises:
      CostError: a topology or an op that ASTRA-sim does not have, a missing figure, or too many nodes.
    """
    if not name or "/" in name or name in (".", ".."):
        raise CostError(f"chakra: name={name!r} is a path; want the name of a file in {str(directory)!r}")
    plan = dimensions(system)
    steps = _steps(traffic, system)
    here = Path(directory)
    here.mkdir(parents=True, exist_ok=True)
    files = {f"{name}.{rank}.et": _trace(rank, steps, system, plan) for rank in range(system.chips)}
    files["network.yml"] = network_yaml(plan, figures).encode()
    files["system.json"] = system_json(plan, system.algorithm).encode()
    files["remote_memory.json"] = json.dumps({"memory-type": "NO_MEMORY_EXPANSION"}).encode()
    for file, content in files.items():
        (here / file).write_bytes(content)
    return tuple(here / file for file in files)


def dimensions(system: System) -> tuple[Dimension, ...]:
    """Return the dimensions of ASTRA-sim, fastest first; axes of one chip are left out."""
    found = [one for axis, topology in system.axes.items() for one in _dimensions(axis, topology)]
    if not found:
        raise CostError("chakra: the system has one chip; there is no network to export")
    return tuple(reversed(found))


def _dimensions(axis: str, topology: Topology) -> list[Dimension]:
    match topology:
        case Torus(shape=sizes):
            lines = [("Ring", size) for size in sizes]
        case Switch(chips=size):
            lines = [("Switch", size)]
        case FullyConnected(chips=size):
            lines = [("FullyConnected", size)]
        case _:
            raise CostError(
                f"chakra: ASTRA-sim's analytical network has no {topology.kind} (axis {axis!r}); "
                "use Ring, Torus, Switch or FullyConnected"
            )
    # Two chips on a ring share one link, as two fully connected ones do; a ring of two crashes one backend.
    shapes = [("FullyConnected" if shape == "Ring" and size == 2 else shape, size) for shape, size in lines]
    return [Dimension(axis, shape, size, topology) for shape, size in shapes if size > 1]


def network_yaml(plan: tuple[Dimension, ...], figures: Literal["best", "worst"] = "worst") -> str:
    """Return the network file of ASTRA-sim.

    >>> from snap_jax.cost import Ring, links
    >>> print(network_yaml(dimensions(System({"device": Ring(4, links.ICI_V5E)}))))
    topology: [ Ring ]
    npus_count: [ 4 ]
    bandwidth: [ 41.90951585769653 ]
    latency: [ 1000.0 ]
    """
    rows = {
        "topology": [one.shape for one in plan],
        "npus_count": [one.size for one in plan],
        "bandwidth": [_bandwidth(one, figures) for one in plan],
        "latency": [_latency(one, figures) for one in plan],
    }
    return "\n".join(f"{key}: [ {', '.join(map(str, values))} ]" for key, values in rows.items())


def _bandwidth(one: Dimension, figures: str) -> Number:
    rate = one.topology.link.bandwidth()
    return (rate.high if figures == "best" else rate.low) * 1e9 / 2**30


def _latency(one: Dimension, figures: str) -> Number:
    latency = one.topology.link.latency_ns
    if latency is None:
        raise CostError(one.topology.link.missing("latency_ns"))
    picked = latency.low if figures == "best" else latency.high
    return picked / 2 if one.shape == "Switch" else picked


def system_json(plan: tuple[Dimension, ...], choice: AlgorithmChoice = "default") -> str:
    """Return the system file of ASTRA-sim: one chunk at a time, and the algorithms that the prices use."""
    names: dict[Algorithm, str] = {
        "ring": "ring",
        "axes": "ring",
        "flood": "ring",
        "direct": "direct",
        "two_shot": "direct",
        "halving_doubling": "halvingDoubling",
    }
    if choice in ("fastest", "least_energy"):
        raise CostError(f"chakra: algorithm={choice!r} differs from message to message; fix one in System(algorithm=)")
    chosen = [names[default_algorithm(one.topology) if choice == "default" else choice] for one in plan]
    settings = {
        "scheduling-policy": "LIFO",
        "endpoint-delay": 10,
        "active-chunks-per-dimension": 1,
        "preferred-dataset-splits": 1,
        "all-reduce-implementation": chosen,
        "all-gather-implementation": chosen,
        "reduce-scatter-implementation": chosen,
        "all-to-all-implementation": ["direct"] * len(plan),
        "collective-optimization": "localBWAware",
        "local-mem-bw": 1_000_000,
        "boost-mode": 0,
    }
    return json.dumps(settings, indent=1)


def _steps(traffic: Traffic, system: System) -> list[Transfer]:
    for transfer in traffic:
        system.topologies(transfer)
        if transfer.op not in (*COLLECTIVES, "ppermute"):
            raise CostError(f"chakra: ASTRA-sim runs no {transfer.op} ({transfer.path!r}); leave it out of the traffic")
    moving = [t for t in traffic if t.bytes and t.group_size > 1 and (t.op != "ppermute" or t.pairs)]
    nodes = sum(t.times for t in moving)
    if nodes > MOST_NODES:
        raise CostError(f"chakra: {nodes} executions; want at most {MOST_NODES}: export fewer steps of the program")
    return list(itertools.chain.from_iterable([t] * t.times for t in moving))


def _trace(rank: int, steps: list[Transfer], system: System, plan: tuple[Dimension, ...]) -> bytes:
    """Return the trace of one rank; a node waits for all nodes of the step before."""
    parts = [delimited(chunk(1, SCHEMA_VERSION.encode()))]
    before: list[int] = []
    following = 0
    for index, transfer in enumerate(steps):
        bodies = _bodies(rank, index, transfer, system, plan)
        ids = list(range(following, following + len(bodies)))
        label = f"{transfer.op} {transfer.path}".strip().encode()
        for node, (kind, attributes) in zip(ids, bodies, strict=True):
            head = number(1, node) + chunk(2, label) + number(3, kind) + packed(5, before)
            parts.append(delimited(head + b"".join(chunk(10, one) for one in attributes)))
        before, following = (ids or before), following + len(bodies)
    return b"".join(parts)


Body = tuple[int, list[bytes]]


def _bodies(rank: int, index: int, transfer: Transfer, system: System, plan: tuple[Dimension, ...]) -> list[Body]:
    """Return (node type, attributes) of what one rank does in one step."""
    common = [_attribute("is_cpu_op", present(27, 0))]
    if transfer.op != "ppermute":
        involved = packed(1, [int(one.axis in transfer.axes) for one in plan])
        return [
            (
                COMM_COLL,
                [
                    *common,
                    _attribute("comm_type", present(9, COLLECTIVES[transfer.op])),
                    _attribute("comm_size", present(9, transfer.bytes)),
                    _attribute("involved_dim", chunk(28, involved)),
                ],
            )
        ]
    moves = [pair for pair in _rank_pairs(transfer, system) if rank in pair]
    return [
        (
            COMM_SEND if source == rank else COMM_RECV,
            [
                *common,
                _attribute("comm_src", present(7, source)),
                _attribute("comm_dst", present(7, target)),
                _attribute("comm_tag", present(7, index)),
                _attribute("comm_size", present(9, transfer.bytes)),
            ],
        )
        for source, target in moves
    ]


def _attribute(name: str, value: bytes) -> bytes:
    return chunk(1, name.encode()) + value


def _rank_pairs(transfer: Transfer, system: System) -> list[tuple[int, int]]:
    """Return the (source, target) ranks of a permutation within every group of its axes."""
    sizes = tuple(topology.size for topology in system.axes.values())
    inside = [k for k, axis in enumerate(system.axes) if axis in transfer.axes]
    order = [list(system.axes).index(axis) for axis in transfer.axes]
    group = tuple(sizes[k] for k in order)
    outside = [range(1) if k in inside else range(size) for k, size in enumerate(sizes)]
    pairs = []
    for base in itertools.product(*outside):
        ranks = []
        for member in range(math.prod(group)):
            at = list(base)
            for k, x in zip(order, coordinates(group, member), strict=True):
                at[k] = x
            ranks.append(chip_at(sizes, tuple(at)))
        pairs += [(ranks[s], ranks[t]) for s, t in pairs_of(transfer) if s != t]
    return pairs
