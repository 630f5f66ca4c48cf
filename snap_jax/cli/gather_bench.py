"""`snap-jax bench`: how long coded all-gathers take, as ratios to a plain one within one run."""

import dataclasses
import json
import statistics
import time
from collections.abc import Sequence

import jax
from jax.sharding import PartitionSpec
from rich import box
from rich.table import Table
from rich.text import Text

from snap_jax.codecs.link_spec import as_codec
from snap_jax.collectives import all_gather
from snap_jax.errors import UsageError, printable
from snap_jax.parallel.mesh import auto_mesh, emulate_devices
from snap_jax.traffic.jaxpr import collective_traffic


@dataclasses.dataclass(frozen=True)
class GatherTimes:
    """What one link took.

    Attributes:
      link: what was sent.
      nbytes: that leave all devices in one all-gather.
      seconds: median of the rounds.
      ratios: seconds over those of float32 in the same round, as first quartile, median and third quartile.
    """

    link: str
    nbytes: int
    seconds: float
    ratios: tuple[float, float, float]


def measure(links: Sequence[str], numbers: int, devices: int, rounds: int) -> list[GatherTimes]:
    """Time an all-gather of so many float32 numbers from each device: of fp32, and of each link.

    Candidates take turns in each round, so that drift affects all alike.

    Raises:
      UsageError: for a link that is not known, or sizes below 1.
    """
    for name, value, least in (("numbers", numbers, 1), ("devices", devices, 2), ("rounds", rounds, 3)):
        if value < least:
            raise UsageError(f"bench: --{name} {value}: use {least} or more")
    emulate_devices(devices)
    names = list(dict.fromkeys(("fp32", *links)))
    x = jax.random.normal(jax.random.key(0), (devices, numbers))
    programs = {name: _gather(name, devices) for name in names}
    nbytes = {name: collective_traffic(program)(x).sent_bytes for name, program in programs.items()}
    compiled = {name: program.lower(x).compile() for name, program in programs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds + 1):
        for name, program in compiled.items():
            began = time.perf_counter()
            jax.block_until_ready(program(x))
            if turn:  # the first warms up
                seconds[name].append(time.perf_counter() - began)
    return [_timed(name, nbytes[name], seconds[name], seconds["fp32"]) for name in names]


def _gather(link: str, devices: int) -> jax.stages.Wrapped:
    mesh, codec = auto_mesh({"device": devices}), as_codec(link)
    spec = PartitionSpec("device")

    def gather(x: jax.Array) -> jax.Array:
        return all_gather(x, "device", codec=codec, tiled=True)

    return jax.jit(jax.shard_map(gather, mesh=mesh, in_specs=spec, out_specs=spec))


def _timed(link: str, nbytes: int, own: list[float], plain: list[float]) -> GatherTimes:
    ratios = statistics.quantiles([a / b for a, b in zip(own, plain, strict=True)], n=4)
    return GatherTimes(link, nbytes, statistics.median(own), (ratios[0], ratios[1], ratios[2]))


def table(found: Sequence[GatherTimes]) -> Table:
    """Return one row per link."""
    made = Table(title=f"All-gather on {jax.default_backend()}", box=box.SIMPLE, pad_edge=False)
    for heading in ("link", "bytes", "ms", "time / fp32 (quartiles)"):
        made.add_column(heading, justify="left" if heading == "link" else "right", overflow="fold")
    for one in found:
        low, middle, high = one.ratios
        ratio = f"{middle:.2f} ({low:.2f}–{high:.2f})"
        made.add_row(Text(printable(one.link)), f"{one.nbytes:,}", f"{1e3 * one.seconds:.2f}", ratio)
    return made


def as_json(found: Sequence[GatherTimes]) -> str:
    """Return the same as one JSON object."""
    return json.dumps({"backend": jax.default_backend(), "links": [dataclasses.asdict(one) for one in found]}, indent=1)
