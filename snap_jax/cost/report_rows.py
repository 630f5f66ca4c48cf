"""Which transfers share a row of a printed report, what the row is called, and the formulas of each."""

import itertools
from collections.abc import Iterator, Sequence

from snap_jax.cost.axis_cost import AxisCost
from snap_jax.traffic.transfer import Transfer

_SCOPES = ("gradients", "bookkeeping")


def grouped(parts: Sequence[AxisCost]) -> Iterator[tuple[str, str, tuple[AxisCost, ...]]]:
    """Yield label, pass and parts of each row; transfers that differ only in size share a row."""
    groups: dict[tuple[str, str], list[AxisCost]] = {}
    for part in parts:
        groups.setdefault((_label(part.transfer), part.transfer.direction), []).append(part)
    for (label, direction), members in groups.items():
        times = sum({part.index: part.transfer.times for part in members}.values())
        yield f"{times:,} x {label}", direction, tuple(members)


def by_part(parts: Sequence[AxisCost]) -> dict[str, tuple[AxisCost, ...]]:
    """Return the parts of each row below the transfers, in order: forward, backward, gradients, bookkeeping.

    The last two are what `jax.named_scope` of these names says: averages of gradients over replicas, and what is sent
    for the log of a step and not for the model.
    """
    found: dict[str, list[AxisCost]] = {"forward": [], "backward": [], **{scope: [] for scope in _SCOPES}}
    for part in parts:
        scopes = part.transfer.path.split("/")
        found[next((scope for scope in _SCOPES if scope in scopes), part.transfer.direction)].append(part)
    return {name: tuple(members) for name, members in found.items() if members}


def explained(parts: Sequence[AxisCost]) -> Iterator[str]:
    """Yield the formulas of every transfer with its numbers filled in."""
    for _, members in itertools.groupby(parts, key=lambda part: part.index):
        first, *rest = members
        transfer = first.transfer
        label = f"{transfer.op} {transfer.path}".strip()
        yield f"{label} over {','.join(transfer.axes)}, executed {transfer.times:,} times:"
        for part in (first, *rest):
            yield from part.explain()


def _label(transfer: Transfer) -> str:
    """Return op, axes and path, without repeated path components and without a last one that names the op again."""
    scopes = [name for name, _ in itertools.groupby(transfer.path.split("/"))]
    if scopes[-1] == f"snap.{transfer.op}":
        scopes.pop()
    return f"{transfer.op} over {','.join(transfer.axes)} {'/'.join(scopes)}".rstrip()
