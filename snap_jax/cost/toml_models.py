"""What a TOML file of a system must hold; `toml_systems` makes the system of it. And a line of measured times."""

from typing import Annotated, Any

from snap_jax.input_files.checked import AfterValidator, BeforeValidator, Checked, ConfigDict, Field, Text

_MOST = 2**16  # chips of an axis


def _ends(value: Any) -> Any:
    """One number stands for both ends of a range."""
    ends = value if isinstance(value, list) and len(value) == 2 else [value, value]
    if any(isinstance(end, bool) or not isinstance(end, int | float) for end in ends):
        raise ValueError("want a number, or [low, high]")
    return ends[0], ends[1]


def _ordered(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] > ends[1]:
        raise ValueError("want low <= high")
    return ends


def _known(topology: str) -> str:
    names = ("Chain", "Ring", "Mesh", "Torus", "Switch", "FullyConnected", "Graph")
    if topology not in names:
        raise ValueError(f"want one of {', '.join(names)}")
    return topology


Least = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Above = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Figure = Annotated[tuple[Least, Least], BeforeValidator(_ends), AfterValidator(_ordered)]
Speed = Annotated[tuple[Above, Above], BeforeValidator(_ends), AfterValidator(_ordered)]
Chips = Annotated[int, Field(ge=1, le=_MOST)]
Chip = Annotated[int, Field(ge=0, lt=_MOST)]
Bytes = Annotated[int, Field(ge=0, le=2**30)]


class _Table(Checked):
    """A table, in which an unknown key is an error."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class LinkTable(_Table):
    """[links.NAME]."""

    boundary: Text
    source: Text
    process_node: Text | None = None
    pj_per_bit: Figure | None = None
    gbyte_per_s: Speed | None = None
    latency_ns: Figure | None = None
    endpoint_ns: Figure | None = None
    pj_per_packet: Figure | None = None
    ns_per_packet: Figure | None = None
    static_w: Figure | None = None
    packet_bytes: Bytes | None = None
    pad_bytes: Bytes | None = None
    header_bytes: Bytes | None = None
    flit_bytes: Bytes | None = None
    least_packet_bytes: Bytes | None = None


class AxisTable(_Table):
    """[axes.NAME]; which of the last four it needs depends on the topology."""

    topology: Annotated[Text, AfterValidator(_known)]
    link: Text
    chips: Chips | None = None
    bidirectional: bool = False
    shape: Annotated[tuple[Chips, ...], Field(min_length=1, max_length=8)] | None = None
    joins: Annotated[tuple[tuple[Chip, Chip], ...], Field(max_length=_MOST)] | None = None


class ComputeTable(_Table):
    """[compute]."""

    unit: Text
    tera_ops_per_s: Speed | None = None
    pj_per_byte: Figure | None = None


class CodingTable(_Table):
    """[coding]."""

    encode_gbyte_per_s: Speed
    decode_gbyte_per_s: Speed
    source: Text
    pj_per_byte: Figure | None = None


class SystemFile(_Table):
    """All of the file."""

    name: Text = ""
    algorithm: Text = "default"
    memory: Text | None = None
    mixed_nodes: bool = False
    links: dict[Text, LinkTable] = Field(default_factory=dict)
    axes: dict[Text, AxisTable] = Field(default_factory=dict)
    compute: ComputeTable | None = None
    coding: CodingTable | None = None


class TimedLine(Checked):
    """A line of a file for `snap-jax cost calibrate`."""

    messages: Above
    bytes: Least
    seconds: Above
