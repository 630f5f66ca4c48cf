"""Which messages are coded: a codec or floats for each, decided from shapes before anything runs, with the reason.

Invariant: bytes are those of `collective_traffic`, times those of `snap_jax.cost`; nothing is measured, and the same
shapes always give the same choice.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from snap_jax import collectives, cost
from snap_jax.codecs.codec import Codec
from snap_jax.codecs.link_spec import as_codec
from snap_jax.cost.system import NAMED
from snap_jax.errors import UsageError
from snap_jax.traffic import Traffic
from snap_jax.traffic.jaxpr import collective_traffic
from snap_jax.traffic.text import table

_AXIS = "axis"


@dataclasses.dataclass(frozen=True)
class LinkChoice:
    """How a message is sent, and why.

    Attributes:
      codec: what codes it; None sends floats.
      op: the collective.
      dense_bytes: bytes that leave all devices when floats are sent.
      coded_bytes: the same when it is coded, with the largest payload of a wire of several sizes.
      reason: why.
      message: which message it is.
    """

    codec: Codec | None
    op: str
    dense_bytes: int
    coded_bytes: int
    reason: str
    message: str = ""


def choose(
    codec: Codec | str | None,
    shape: Sequence[int],
    axis_size: int,
    op: str = "psum",
    *,
    policy: str = "auto",
    link: cost.Link | str | None = None,
    dtype: str = "float32",
) -> LinkChoice:
    """Return whether to code a message: its codec, or None for floats, and the reason. Pass `.codec` to the collective.

    * `exact`: always the codec.
    * `native`: floats where the payload would not be smaller.
    * `auto`: floats where the coded message is not faster on `link`, by the best or by the worst figures of the cost
      model: short messages, whose latency decides.

    Args:
      codec: how it would be sent.
      shape: of the operand on one device.
      axis_size: number of devices along the mesh axis.
      op: `psum`, `all_gather`, `ppermute`, `psum_scatter` or `all_to_all`. A `psum` whose spikes do not add up counts
        as the `all_gather` that `error_feedback` makes of it.
      policy: one of these.
      link: for `auto`: a link, the name of a system such as "ethernet-400g", or a file: JSON with `latency_s`,
        `bytes_per_s` and perhaps `coding_bytes_per_s`, the payload bytes encoded or decoded per second; or TOML with a
        `[links.mine]` as `snap-jax cost calibrate` prints it.
      dtype: of the floats.

    Raises:
      UsageError: for another policy or op, `auto` without a link, or a link without latency or bandwidth.

    >>> choose("count:3+rans", (1024,), 4, "ppermute", link="ethernet-400g").codec is None  # it agrees on a size first
    True
    >>> choose("count:3", (1024,), 4, "ppermute", link="ethernet-400g").codec == as_codec("count:3")
    True
    """
    coder, shape = as_codec(codec), tuple(shape)
    dense, coded = (_traffic(one, shape, axis_size, op, dtype) for one in (None, coder))
    found = LinkChoice(coder, op, dense.sent_bytes, coded.sent_bytes, "no codec")
    if coder is None:
        return found
    if policy == "exact":
        return dataclasses.replace(found, reason="exact: always coded")
    if policy == "native":
        return _native(found)
    if policy != "auto":
        raise UsageError(f"choose: policy={policy!r}: use exact, native or auto")
    times = [_seconds(traffic, axis_size, link) for traffic in (dense, coded)]
    return _faster(found, *times)


def _native(found: LinkChoice) -> LinkChoice:
    if found.coded_bytes < found.dense_bytes:
        return dataclasses.replace(found, reason=f"coded: {found.dense_bytes / found.coded_bytes:.1f}x fewer bytes")
    return dataclasses.replace(found, codec=None, reason="floats: the payload is not smaller")


def _faster(found: LinkChoice, dense: cost.Seconds, coded: cost.Seconds) -> LinkChoice:
    times = f"{coded} coded, {dense} as floats"
    if coded.low < dense.low and coded.high < dense.high:
        return dataclasses.replace(found, reason=f"coded: {times}")
    return dataclasses.replace(found, codec=None, reason=f"floats: {times}")


def _traffic(codec: Codec | None, shape: tuple[int, ...], axis_size: int, op: str, dtype: str) -> Traffic:
    mesh = AbstractMesh((axis_size,), (_AXIS,), axis_types=(AxisType.Auto,))
    if codec is not None and op == "psum" and not codec.encoding.summable:
        op = "all_gather"
    if op in ("psum_scatter", "all_to_all"):  # of the flattened array, padded so that it can be cut
        shape = (axis_size * math.ceil(math.prod(shape) / axis_size),)
    operation, apart = _operation(op, axis_size, codec), PartitionSpec(_AXIS)
    sent = jax.shard_map(lambda x: operation(x[0])[None], mesh=mesh, in_specs=apart, out_specs=apart)
    return collective_traffic(sent)(jax.ShapeDtypeStruct((axis_size, *shape), dtype))


def _operation(op: str, axis_size: int, codec: Codec | None) -> Callable[[jax.Array], Any]:
    ring = [(i, (i + 1) % axis_size) for i in range(axis_size)]
    known: dict[str, Callable[[jax.Array], Any]] = {
        "psum": lambda x: collectives.psum(x, _AXIS, codec=codec),
        "all_gather": lambda x: collectives.all_gather(x, _AXIS, codec=codec),
        "ppermute": lambda x: collectives.ppermute(x, _AXIS, ring, codec=codec),
        "psum_scatter": lambda x: collectives.psum_scatter(x, _AXIS, tiled=True, codec=codec),
        "all_to_all": lambda x: collectives.all_to_all(x, _AXIS, 0, 0, tiled=True, codec=codec),
    }
    if op not in known:
        raise UsageError(f"choose: op={op!r}: use {', '.join(known)}")
    return known[op]


def _seconds(traffic: Traffic, axis_size: int, link: cost.Link | str | None) -> cost.Seconds:
    report = cost.price(traffic, system_of(link, axis_size))
    if not report.has_latency:
        raise UsageError(
            f"choose: link={link!r} has no latency or bandwidth with a source: use another, or a JSON file with "
            "latency_s and bytes_per_s"
        )
    return report.latency_s


def system_of(link: cost.Link | str | None, axis_size: int) -> cost.System:
    """Return so many devices on one switch with this link, or the system of that name.

    Raises:
      UsageError: for None, a name that is not known, or a file that cannot be read.
    """
    if link is None:
        raise UsageError("choose: policy='auto' needs link=: give a name such as 'ethernet-400g', or a JSON file")
    if isinstance(link, cost.Link):
        return cost.System({_AXIS: cost.Switch(axis_size, link)})
    if link in NAMED:
        return cost.System({_AXIS: NAMED[link](axis_size)}, name=link)
    return _calibrated(Path(link), axis_size)


def _calibrated(path: Path, axis_size: int) -> cost.System:
    from snap_jax.policy.link_file import read_link  # imports pydantic, which only files need

    return cost.parse(read_link(path, _AXIS, axis_size), str(path))


def choices_section(choices: Sequence[LinkChoice]) -> list[dict]:
    """Return the choices as JSON holds them."""
    names = ("message", "op", "dense_bytes", "coded_bytes", "reason")
    return [{name: getattr(choice, name) for name in names} | {"coded": choice.codec is not None} for choice in choices]


def choices_table(choices: Sequence[LinkChoice]) -> str:
    """Return a table of messages: bytes as floats, bytes coded, what was chosen and why.

    >>> print(choices_table([dataclasses.replace(choose("ternary", (1000,), 4, policy="native"), message="averages")]))
    message   op    bytes as floats  bytes coded  sent
    averages  psum           24,000        2,280  coded: 10.5x fewer bytes
    """
    head = ("message", "op", "bytes as floats", "bytes coded", "sent")
    rows = [(c.message, c.op, f"{c.dense_bytes:,}", f"{c.coded_bytes:,}", c.reason) for c in choices]
    return table([head, *rows], right=(2, 3))
