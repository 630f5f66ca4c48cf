"""Systems from TOML.

Law: a file says everything or names a preset; an unknown key is an error, never ignored.

    name = "four dies"
    algorithm = "default"             # or ring, axes, flood, direct, two_shot, halving_doubling,
                                      # fastest, least_energy
    [links.mine]                      # a link of your own; units are in the names, [low, high] or one number
    boundary = "PHY and controller"
    source = "our lab, 2025"
    pj_per_bit = [0.4, 0.5]           # leave out what is unknown
    gbyte_per_s = 64
    latency_ns = 2

    [axes.die]
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
from snap_jax.cost.collectives import ALGORITHMS, Choice
from snap_jax.cost.errors import CostError
from snap_jax.cost.links import Link
from snap_jax.cost.system import Coding, System
from snap_jax.cost.topologies.base import Topology
from snap_jax.cost.topologies.chain_ring import Chain, Ring
from snap_jax.cost.topologies.graph import Graph
from snap_jax.cost.topologies.mesh_torus import Mesh, Torus
from snap_jax.cost.topologies.switch import FullyConnected, Switch
from snap_jax.cost.units import Range

Table = Mapping[str, object]

_CHOICES = ("default", "fastest", "least_energy", *ALGORITHMS)
_SIZED = {"Chain": Chain, "Ring": Ring, "Switch": Switch, "FullyConnected": FullyConnected}
_SHAPED = {"Mesh": Mesh, "Torus": Torus}
_UNITS = {"HOROWITZ_45NM": compute.HOROWITZ_45NM}
_RANGES = ("pj_per_bit", "gbyte_per_s", "latency_ns")
_WHOLE = ("packet_bytes", "header_bytes", "flit_bytes")


def load(path: Path | str) -> System:
    """Return the system that a TOML file describes; the layout is at the top of this module.

    Raises:
      CostError: a key that is missing, unknown or of the wrong kind; the message names it.
    """
    try:
        return parse(tomllib.loads(Path(path).read_text(encoding="utf-8")))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise CostError(f"{path}: cannot be read as TOML: {error}") from error


def parse(table: Table) -> System:
    """Return the system that a parsed file describes."""
    _only(table, ("name", "algorithm", "mixed_nodes", "links", "axes", "compute", "coding"), "the file")
    own = {name: _link(name, inner) for name, inner in _tables(table, "links").items()}
    axes = {name: _topology(f"axes.{name}", inner, own) for name, inner in _tables(table, "axes").items()}
    if not axes:
        raise CostError("system file: no [axes.NAME]; want one table for each mesh axis")
    algorithm = _text(table, "algorithm", "the file", "default")
    if algorithm not in _CHOICES:
        raise CostError(f"system file: algorithm={algorithm!r}; want one of {', '.join(_CHOICES)}")
    return System(
        axes,
        _text(table, "name", "the file", ""),
        cast(Choice, algorithm),
        _compute(_table(table, "compute")) if "compute" in table else None,
        _coding(_table(table, "coding")) if "coding" in table else None,
        mixed_nodes=_flag(table, "mixed_nodes", "the file"),
    )


def _link(name: str, table: Table) -> Link:
    where = f"[links.{name}]"
    _only(table, ("boundary", "source", "process_node", *_RANGES, *_WHOLE), where)
    ranges = {key: _range(table, key, where) for key in _RANGES if key in table}
    whole = {key: _whole(table, key, where) for key in _WHOLE if key in table}
    bare = Link(name, _text(table, "boundary", where), _text(table, "source", where))
    named = {"process_node": _text(table, "process_node", where)} if "process_node" in table else {}
    return dataclasses.replace(bare, **ranges, **whole, **named)


def _topology(where: str, table: Table, own: Mapping[str, Link]) -> Topology:
    kind, name = _text(table, "topology", where), _text(table, "link", where)
    link = own.get(name) or links.PRESETS.get(name)
    if link is None:
        raise CostError(f"{where}: link={name!r}; want one of {', '.join((*own, *links.PRESETS))}")
    if kind in _SHAPED:
        _only(table, ("topology", "link", "shape"), where)
        return _SHAPED[kind](_wholes(table, "shape", where), link)
    if kind == "Graph":
        _only(table, ("topology", "link", "chips", "joins"), where)
        joins = tuple((_wholes({"join": j}, "join", where)) for j in _list(table, "joins", where))
        return Graph(_whole(table, "chips", where), cast(tuple[tuple[int, int], ...], joins), link)
    if kind not in _SIZED:
        raise CostError(f"{where}: topology={kind!r}; want one of {', '.join((*_SIZED, *_SHAPED, 'Graph'))}")
    _only(table, ("topology", "link", "chips", *(["bidirectional"] if kind == "Ring" else [])), where)
    if _flag(table, "bidirectional", where):
        return Ring(_whole(table, "chips", where), link, bidirectional=True)
    return _SIZED[kind](_whole(table, "chips", where), link)


def _compute(table: Table) -> compute.ComputeUnit:
    _only(table, ("unit", "tera_ops_per_s", "pj_per_byte"), "[compute]")
    name = _text(table, "unit", "[compute]")
    if name not in _UNITS:
        raise CostError(f"[compute]: unit={name!r}; want one of {', '.join(_UNITS)}")
    figures = {k: _range(table, k, "[compute]") for k in ("tera_ops_per_s", "pj_per_byte") if k in table}
    return dataclasses.replace(_UNITS[name], **figures)


def _coding(table: Table) -> Coding:
    keys = ("encode_gbyte_per_s", "decode_gbyte_per_s")
    _only(table, (*keys, "source"), "[coding]")
    encode, decode = (_range(table, key, "[coding]") for key in keys)
    return Coding(encode, decode, _text(table, "source", "[coding]"))


def _only(table: Table, known: tuple[str, ...], where: str) -> None:
    unknown = sorted(table.keys() - set(known))
    if unknown:
        raise CostError(f"{where}: unknown key {unknown[0]!r}; want some of {', '.join(known)}")


def _tables(table: Table, key: str) -> dict[str, Table]:
    inner = _table(table, key) if key in table else {}
    return {name: _table(inner, name) for name in inner}


def _table(table: Table, key: str) -> Table:
    value = table[key]
    if not isinstance(value, dict):
        raise CostError(f"system file: {key}={value!r}; want a table [{key}]")
    return cast(Table, value)


def _text(table: Table, key: str, where: str, default: str | None = None) -> str:
    value = table.get(key, default)
    if not isinstance(value, str):
        raise CostError(f"{where}: {key}={value!r}; want a string")
    return value


def _flag(table: Table, key: str, where: str) -> bool:
    value = table.get(key, False)
    if not isinstance(value, bool):
        raise CostError(f"{where}: {key}={value!r}; want true or false")
    return value


def _whole(table: Table, key: str, where: str) -> int:
    value = table.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise CostError(f"{where}: {key}={value!r}; want a whole number")
    return value


def _list(table: Table, key: str, where: str) -> list[object]:
    value = table.get(key)
    if not isinstance(value, list):
        raise CostError(f"{where}: {key}={value!r}; want a list")
    return cast(list[object], value)


def _wholes(table: Table, key: str, where: str) -> tuple[int, ...]:
    return tuple(_whole({key: value}, key, where) for value in _list(table, key, where))


def _range(table: Table, key: str, where: str) -> Range:
    value = table.get(key)
    ends = cast(list[object], value) if isinstance(value, list) else [value, value]
    low, high = ends if len(ends) == 2 else (None, None)
    if not isinstance(low, int | float) or not isinstance(high, int | float):
        raise CostError(f"{where}: {key}={value!r}; want a number, or [low, high]")
    return Range(float(low), float(high))
