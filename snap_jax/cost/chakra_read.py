"""Read what `chakra.export` writes back: the traffic of a Chakra trace, on the network of ASTRA-sim.

Only what the export writes is read: collectives, sends and receives of traces with one file per rank, and a network
file of lists in brackets. The axes are called "dimension K ... 0", as the dimensions of ASTRA-sim, whose first one is
the last axis; names of mesh axes, dtypes and topologies of several dimensions do not survive.
"""

import collections
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from snap_jax.cost.algorithms import Algorithm
from snap_jax.cost.chakra import COLLECTIVES, COMM_COLL, COMM_SEND
from snap_jax.cost.link import Link
from snap_jax.cost.system import System
from snap_jax.cost.topologies import FullyConnected, Ring, Switch, Topology
from snap_jax.cost.units import CostError, Range
from snap_jax.traffic.transfer import Traffic, Transfer

_ALGORITHMS: dict[str, Algorithm] = {"ring": "ring", "direct": "direct", "halvingDoubling": "halving_doubling"}
Fields = dict[int, list[int | bytes]]


def read(directory: Path | str, name: str = "traffic") -> tuple[Traffic, System]:
    """Return the traffic and the system of an exported directory.

    Raises:
      CostError: a file that is missing, or holds something else.
    """
    here = Path(directory)
    try:
        system = _system((here / "network.yml").read_text(), json.loads((here / "system.json").read_text()))
        ranks = [list(_nodes((here / f"{name}.{rank}.et").read_bytes())) for rank in range(system.chips)]
        return Traffic(tuple(_transfers(ranks, system))), system
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise CostError(f"chakra: {here} does not hold what export writes ({error!r}): export it again") from error


def _system(network: str, settings: dict[str, Any]) -> System:
    rows = {key: value.strip(" []").split(", ") for key, value in (line.split(":") for line in network.splitlines())}
    chosen = settings["all-reduce-implementation"]
    if len(set(chosen)) > 1:
        raise CostError(f"chakra: algorithms {chosen} differ by dimension; System has one for all")
    columns = zip(*(rows[key] for key in ("topology", "npus_count", "bandwidth", "latency")), strict=True)
    axes = {f"dimension {k}": _topology(*one) for k, one in enumerate(columns)}
    return System(dict(reversed(axes.items())), algorithm=_ALGORITHMS[chosen[0]])


def _topology(shape: str, count: str, bandwidth: str, latency: str) -> Topology:
    rate, wait = float(bandwidth) * 2**30 / 1e9, float(latency) * (2 if shape == "Switch" else 1)
    link = Link("exported", "latency and bandwidth only", "network.yml", None, Range.exactly(rate), Range.exactly(wait))
    kinds = {"Ring": Ring, "FullyConnected": FullyConnected, "Switch": Switch}
    return kinds[shape](int(count), link)


def _transfers(ranks: list[list[dict[str, object]]], system: System) -> Iterator[Transfer]:
    """Yield the collectives of rank 0 and, in place of its sends, the messages of all ranks with one tag."""
    seen: set[object] = set()
    for steps in ranks:
        for node in steps:
            tag = node.get("comm_tag")
            if node["type"] == COMM_COLL and steps is ranks[0]:
                yield _collective(node, system)
            elif node["type"] != COMM_COLL and tag not in seen:
                seen.add(tag)
                yield _permute([one for other in ranks for one in other if one.get("comm_tag") == tag], system)


def _collective(node: dict[str, object], system: System) -> Transfer:
    ops = {number: op for op, number in reversed(COLLECTIVES.items())}
    involved = list(node["involved_dim"])  # pyright: ignore[reportArgumentType]
    axes = tuple(axis for axis, used in zip(system.axes, reversed(involved), strict=True) if used)
    size = 1
    for axis in axes:
        size *= system.axes[axis].size
    return Transfer(ops[node["comm_type"]], axes, size, "uint8", node["comm_size"], groups=system.chips // size)  # pyright: ignore


def _permute(nodes: list[dict[str, object]], system: System) -> Transfer:
    """Return the ppermute over all axes that its sends make."""
    sends = [node for node in nodes if node["type"] == COMM_SEND]
    perm = tuple((node["comm_src"], node["comm_dst"]) for node in sends)
    axes = tuple(system.axes)
    return Transfer("ppermute", axes, system.chips, "uint8", sends[0]["comm_size"], pairs=len(perm), perm=perm)  # pyright: ignore


def _nodes(data: bytes) -> Iterator[dict[str, object]]:
    """Yield the attributes of every node of a trace, with its type."""
    at, first = 0, True
    while at < len(data):
        size, at = _varint(data, at)
        if at + size > len(data):
            raise ValueError(f"a message of {size} bytes is cut short at byte {at}")
        fields = _fields(data[at : at + size])
        at += size
        if not first:
            yield {"type": fields[3][0], **dict(map(_attribute, fields[10]))}
        first = False


def _attribute(message: int | bytes) -> tuple[str, object]:
    fields = _fields(message)  # pyright: ignore[reportArgumentType]
    ((_, name), (kind, value)) = fields.items()
    if kind == 28:  # a list of bools: field 1, packed
        return _text(name[0]), list(_fields(value[0])[1][0])  # pyright: ignore
    return _text(name[0]), value[0]


def _text(value: int | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _fields(message: bytes) -> Fields:
    """Return the values of a protobuf message by field number: integers, or bytes of strings, messages and lists."""
    found: Fields = collections.defaultdict(list)
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        value, at = _varint(message, at)
        if key & 7 == 2:
            at += value
            found[key >> 3].append(message[at - value : at])
        else:
            found[key >> 3].append(value)
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value, shift, at = value | (byte & 0x7F) << shift, shift + 7, at + 1
        if byte < 0x80:
            return value, at
