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
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from snap_jax.cost import compute, links
from snap_jax.cost.algorithms import ALGORITHMS, AlgorithmChoice
from snap_jax.cost.links import Link
from snap_jax.cost.memory import MEMORIES
from snap_jax.cost.nodes import UNITS
from snap_jax.cost.system import Coding, System
from snap_jax.cost.topologies import Chain, FullyConnected, Graph, Mesh, Ring, Switch, Topology, Torus
from snap_jax.cost.units import CostError, Range
from snap_jax.errors import UsageError

if TYPE_CHECKING:
    from snap_jax.cost.toml_models import AxisTable, CodingTable, ComputeTable

_CHOICES = ("default", "fastest", "least_energy", *ALGORITHMS)
_SIZED = {"Chain": Chain, "Ring": Ring, "Switch": Switch, "FullyConnected": FullyConnected}
_SHAPED = {"Mesh": Mesh, "Torus": Torus}
_NEEDED = {**dict.fromkeys(_SIZED, ("chips",)), **dict.fromkeys(_SHAPED, ("shape",)), "Graph": ("chips", "joins")}
_MOST_CHIPS = 2**16
_ADVICE = "docs/cost.md shows a file"


def load(path: Path | str) -> System:
    """Return the system that a TOML file describes; the layout is at the top of this module.

    Raises:
      CostError: a key that is missing, unknown, of the wrong kind or out of range; the message names file and key.
    """
    from snap_jax.input_files.checked import parse_toml, read_text  # imports pydantic, which only files need

    try:
        return parse(parse_toml(read_text(Path(path), _ADVICE), str(path), _ADVICE), str(path))
    except CostError:
        raise
    except UsageError as error:
        raise CostError(str(error)) from error


def parse(values: Mapping[str, object], where: str = "system file") -> System:
    """Return the system that a parsed file describes.

    Args:
      values: the tables.
      where: the file, for messages.

    Raises:
      CostError: as `load`.
    """
    from snap_jax.cost.toml_models import SystemFile
    from snap_jax.input_files.checked import check

    try:
        file = check(SystemFile, dict(values), where, _ADVICE)
    except UsageError as error:
        raise CostError(str(error)) from error
    if not file.axes:
        raise CostError(f"{where}: no [axes.NAME]; want one table for each mesh axis")
    own = {name: _link(name, one.model_dump(exclude_none=True)) for name, one in file.links.items()}
    try:
        return System(
            {name: _topology(f"{where}: axes.{name}", one, own) for name, one in file.axes.items()},
            file.name,
            cast(AlgorithmChoice, _one_of(file.algorithm, _CHOICES, f"{where}: algorithm")),
            None if file.compute is None else _compute(file.compute, where),
            None if file.coding is None else _coding(file.coding),
            None if file.memory is None else MEMORIES[_one_of(file.memory, MEMORIES, f"{where}: memory")],
            file.mixed_nodes,
        )
    except CostError as error:
        raise error if str(error).startswith(where) else CostError(f"{where}: {error}") from error


def _one_of(value: str, names: Iterable[str], place: str) -> str:
    if value not in (known := list(names)):
        raise CostError(f"{place} is {value!r}, not one of {', '.join(known)}")
    return value


def _link(name: str, fields: dict[str, Any]) -> Link:
    figures: dict[str, Any] = {k: Range(*value) if isinstance(value, tuple) else value for k, value in fields.items()}
    return Link(name, **figures)


def _topology(place: str, table: "AxisTable", own: Mapping[str, Link]) -> Topology:
    needed, given = _NEEDED[table.topology], table.model_dump(exclude_defaults=True)
    allowed = (*needed, "bidirectional") if table.topology == "Ring" else needed
    for key in ("chips", "shape", "joins", "bidirectional"):
        if key in needed and key not in given:
            raise CostError(f"{place}.{key} is missing: a {table.topology} has it")
        if key in given and key not in allowed:
            raise CostError(f"{place}.{key} is not known: a {table.topology} has {', '.join(allowed)}")
    link = {**links.PRESETS, **own}[_one_of(table.link, (*own, *links.PRESETS), f"{place}.link")]
    chips, shape = table.chips or 0, table.shape or ()
    if math.prod(shape) > _MOST_CHIPS:
        raise CostError(f"{place}.shape has {math.prod(shape):,} chips, more than {_MOST_CHIPS:,}")
    if table.topology in _SHAPED:
        return _SHAPED[table.topology](shape, link)
    if table.topology == "Graph":
        return Graph(chips, table.joins or (), link)
    return Ring(chips, link, bidirectional=True) if table.bidirectional else _SIZED[table.topology](chips, link)


def _compute(table: "ComputeTable", where: str) -> compute.ComputeUnit:
    figures = {key: Range(*value) for key, value in table.model_dump(exclude_none=True, exclude={"unit"}).items()}
    return dataclasses.replace(UNITS[_one_of(table.unit, UNITS, f"{where}: compute.unit")], **figures)


def _coding(table: "CodingTable") -> Coding:
    energy = None if table.pj_per_byte is None else Range(*table.pj_per_byte)
    return Coding(Range(*table.encode_gbyte_per_s), Range(*table.decode_gbyte_per_s), table.source, pj_per_byte=energy)
