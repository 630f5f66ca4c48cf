"""Systems from TOML. A file gives every figure or names a preset; an unknown key is an error.

name = "four chips"
memory = "HBM2"                   # what reductions read and write
algorithm = "default"             # or ring, axes, flood, direct, two_shot, halving_doubling,
# fastest, least_energy
[links.mine]                      # a link of your own; units are in the names; [low, high] or one number
boundary = "PHY and controller"
source = "our lab, 2025"
pj_per_bit = [0.4, 0.5]           # leave out what is unknown
gbyte_per_s = 64
latency_ns = 2

[axes.device]
topology = "Ring"                 # Chain, Ring, Mesh, Torus, Switch, FullyConnected, Graph
chips = 4                         # Mesh, Torus: shape = [2, 2]; Graph: also joins = [[0, 1], [1, 2]]
link = "mine"                     # or the name of a preset, such as "UCIE_STANDARD"

[compute]
unit = "HOROWITZ_45NM"
tera_ops_per_s = [80, 100]

[coding]
encode_gbyte_per_s = 25
decode_gbyte_per_s = 3
source = "measured on this machine"
"""

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from snap_jax.cost import compute, links
from snap_jax.cost.algorithms import ALGORITHMS, AlgorithmChoice
from snap_jax.cost.links import Link
from snap_jax.cost.memory import MEMORIES, Memory
from snap_jax.cost.nodes import UNITS
from snap_jax.cost.system import Coding, System
from snap_jax.cost.topologies import Chain, FullyConnected, Graph, Mesh, Ring, Switch, Topology, Torus
from snap_jax.cost.units import CostError, Range

_CHOICES = ("default", "fastest", "least_energy", *ALGORITHMS)
_SIZED = {"Chain": Chain, "Ring": Ring, "Switch": Switch, "FullyConnected": FullyConnected}
_SHAPED = {"Mesh": Mesh, "Torus": Torus}
_RANGES = ("pj_per_bit", "gbyte_per_s", "latency_ns", "endpoint_ns", "pj_per_packet", "ns_per_packet", "static_w")
_WHOLE = ("packet_bytes", "pad_bytes", "header_bytes", "flit_bytes", "least_packet_bytes")


def load(path: Path | str) -> System:
    """Return the system that a TOML file describes; the layout is at the top of this module.

    Raises:
      CostError: a key that is missing, unknown or of the wrong kind; the message names it.
    """
    try:
        return parse(tomllib.loads(Path(path).read_text(encoding="utf-8")))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise CostError(f"{path}: cannot be read as TOML: {error}") from error


def parse(values: Mapping[str, object]) -> System:
    """Return the system that a parsed file describes."""
    file = _Table("the file", values)
    file.allow("name", "algorithm", "mixed_nodes", "links", "axes", "compute", "coding", "memory")
    own = {name: _link(name, one) for name, one in file.tables("links").items()}
    axes = {name: _topology(one, own) for name, one in file.tables("axes").items()}
    if not axes:
        raise CostError("system file: no [axes.NAME]; want one table for each mesh axis")
    algorithm = file.text("algorithm", "default")
    if algorithm not in _CHOICES:
        raise CostError(f"system file: algorithm={algorithm!r}; want one of {', '.join(_CHOICES)}")
    return System(
        axes,
        file.text("name", ""),
        cast(AlgorithmChoice, algorithm),
        _compute(file.table("compute")) if "compute" in values else None,
        _coding(file.table("coding")) if "coding" in values else None,
        _memory(file.text("memory")) if "memory" in values else None,
        file.flag("mixed_nodes"),
    )


@dataclasses.dataclass(frozen=True)
class _Table:
    """One table of the file; each method returns one value, or raises CostError naming table, key and value."""

    where: str
    values: Mapping[str, object]

    def allow(self, *known: str) -> None:
        unknown = sorted(self.values.keys() - set(known))
        if unknown:
            raise CostError(f"{self.where}: unknown key {unknown[0]!r}; want some of {', '.join(known)}")

    def table(self, key: str) -> "_Table":
        if not isinstance(inner := self.values[key], dict):
            raise CostError(f"system file: {key}={inner!r}; want a table [{key}]")
        return _Table(f"[{key}]", inner)

    def tables(self, key: str) -> dict[str, "_Table"]:
        inner = self.table(key) if key in self.values else _Table("", {})
        return {name: dataclasses.replace(inner.table(name), where=f"[{key}.{name}]") for name in inner.values}

    def text(self, key: str, default: str | None = None) -> str:
        if isinstance(value := self.values.get(key, default), str):
            return value
        raise self.wrong(key, "a string")

    def flag(self, key: str) -> bool:
        if isinstance(value := self.values.get(key, False), bool):
            return value
        raise self.wrong(key, "true or false")

    def whole(self, key: str) -> int:
        value = self.values.get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        raise self.wrong(key, "a whole number")

    def list(self, key: str) -> list[object]:
        if isinstance(value := self.values.get(key), list):
            return value
        raise self.wrong(key, "a list")

    def wholes(self, key: str) -> tuple[int, ...]:
        return tuple(_Table(self.where, {key: value}).whole(key) for value in self.list(key))

    def pairs(self, key: str) -> tuple[tuple[int, int], ...]:
        found = [_Table(self.where, {key: pair}).wholes(key) for pair in self.list(key)]
        if any(len(pair) != 2 for pair in found):
            raise self.wrong(key, "a list of pairs")
        return tuple((u, v) for u, v in found)

    def range(self, key: str) -> Range:
        value = self.values.get(key)
        low, high = value if isinstance(value, list) and len(value) == 2 else (value, value)
        if type(low) in (int, float) and type(high) in (int, float):
            return Range(float(cast(float, low)), float(cast(float, high)))
        raise self.wrong(key, "a number, or [low, high]")

    def wrong(self, key: str, want: str) -> CostError:
        return CostError(f"{self.where}: {key}={self.values.get(key)!r}; want {want}")


def _link(name: str, table: _Table) -> Link:
    table.allow("boundary", "source", "process_node", *_RANGES, *_WHOLE)
    figures: dict[str, object] = {key: table.range(key) for key in _RANGES if key in table.values}
    figures |= {key: table.whole(key) for key in _WHOLE if key in table.values}
    figures |= {key: table.text(key) for key in ("process_node",) if key in table.values}
    return dataclasses.replace(Link(name, table.text("boundary"), table.text("source")), **figures)  # pyright: ignore


def _topology(table: _Table, own: Mapping[str, Link]) -> Topology:
    kind, name = table.text("topology"), table.text("link")
    link = own.get(name) or links.PRESETS.get(name)
    if link is None:
        raise CostError(f"{table.where}: link={name!r}; want one of {', '.join((*own, *links.PRESETS))}")
    if kind in _SHAPED:
        table.allow("topology", "link", "shape")
        return _SHAPED[kind](table.wholes("shape"), link)
    if kind == "Graph":
        table.allow("topology", "link", "chips", "joins")
        return Graph(table.whole("chips"), table.pairs("joins"), link)
    if kind not in _SIZED:
        raise CostError(f"{table.where}: topology={kind!r}; want one of {', '.join((*_SIZED, *_SHAPED, 'Graph'))}")
    table.allow("topology", "link", "chips", *(["bidirectional"] if kind == "Ring" else []))
    if table.flag("bidirectional"):
        return Ring(table.whole("chips"), link, bidirectional=True)
    return _SIZED[kind](table.whole("chips"), link)


def _compute(table: _Table) -> compute.ComputeUnit:
    table.allow("unit", "tera_ops_per_s", "pj_per_byte")
    name = table.text("unit")
    if name not in UNITS:
        raise CostError(f"{table.where}: unit={name!r}; want one of {', '.join(UNITS)}")
    figures = {key: table.range(key) for key in ("tera_ops_per_s", "pj_per_byte") if key in table.values}
    return dataclasses.replace(UNITS[name], **figures)


def _coding(table: _Table) -> Coding:
    table.allow("encode_gbyte_per_s", "decode_gbyte_per_s", "pj_per_byte", "source")
    energy = table.range("pj_per_byte") if "pj_per_byte" in table.values else None
    speeds = table.range("encode_gbyte_per_s"), table.range("decode_gbyte_per_s")
    return Coding(*speeds, table.text("source"), pj_per_byte=energy)


def _memory(name: str) -> Memory:
    if name not in MEMORIES:
        raise CostError(f"system file: memory={name!r}; want one of {', '.join(MEMORIES)}")
    return MEMORIES[name]
