"""Replica groups of HLO in their five spellings, and the mesh axes they stand for.

- nothing, or `{}`: all devices in one group
- `{{0,1},{2,3}}`: listed
- `[2,4]<=[8]`: 0..7 reshaped to 2 groups of 4
- `[4,2]<=[2,4]T(1,0)`: 0..7 reshaped, transposed, reshaped
- `mesh['y'=2,'x'=4] {'x'}`: along axes of a mesh, whose devices `device_ids=(...)` may permute;
  `'x':(1)2` is the part of an axis that has size 2 and 1 position before it
"""

import itertools
import math
from collections.abc import Iterable, Mapping

import numpy as np

from snap_jax.errors import UsageError
from snap_jax.traffic.text import split

Groups = tuple[tuple[int, ...], ...]


def replica_groups(attributes: Mapping[str, str], devices: int) -> Groups:
    """Return the groups of devices that an instruction runs in.

    >>> replica_groups({"replica_groups": "[2,2]<=[2,2]T(1,0)"}, devices=4)
    ((0, 2), (1, 3))

    Raises:
      UsageError: a spelling not listed above.
    """
    text = attributes.get("replica_groups", "{}")
    try:
        if text == "{}":
            return (tuple(range(devices)),)
        if text.startswith("{"):
            return id_lists(text)
        if text.startswith("mesh["):
            return _of_mesh(text, attributes.get("device_ids", ""))
        shape, _, source = text.partition("<=")
        return _rows(_iota(source).reshape(_ints(shape)))
    except (ValueError, KeyError) as error:
        raise UsageError(
            f"compiled_traffic: replica_groups={text} is in a spelling unknown here: "
            "use collective_traffic, and report the text with the versions of jax and jaxlib"
        ) from error


def id_lists(text: str) -> Groups:
    """Return the lists of numbers in `{{0,1},{2,3}}`.

    >>> id_lists("{{0,1},{2,3}}")
    ((0, 1), (2, 3))
    """
    return tuple(_ints(part) for part in split(text[1:-1], ",") if part)


def axes_of(groups: Iterable[Iterable[int]], mesh: Mapping[str, int]) -> tuple[str, ...]:
    """Return the axes along which the members of some group differ, in the order of the mesh.

    Devices of a compiled module are numbered along the mesh, its last axis fastest.

    >>> axes_of([(0, 4), (1, 5)], {"y": 2, "x": 4})
    ('y',)
    """
    places = [np.unravel_index(list(group), tuple(mesh.values())) for group in groups]
    return tuple(name for i, name in enumerate(mesh) if any(np.ptp(place[i]) for place in places))


def place_along(axes: tuple[str, ...], mesh: Mapping[str, int], device: int) -> int:
    """Return the position of a device in its group along `axes`, the last of them fastest.

    >>> place_along(("y",), {"y": 2, "x": 4}, 5), place_along(("x",), {"y": 2, "x": 4}, 5)
    (1, 1)
    """
    place = 0
    for name, index in zip(mesh, np.unravel_index(device, tuple(mesh.values())), strict=True):
        place = place * mesh[name] + int(index) if name in axes else place
    return place


def _of_mesh(text: str, device_ids: str) -> Groups:
    """Return groups along axes; `, device_ids=(...)` is an attribute of its own and then holds the axes."""
    sizes, _, axes = text.removeprefix("mesh[").partition("]")
    mesh = {name: int(size) for name, _, size in (item.rpartition("=") for item in sizes.split(","))}
    ids = np.arange(math.prod(mesh.values()))
    if device_ids:
        order, _, axes = device_ids.removeprefix("(").rpartition(") ")
        ids = _iota(order) if order.startswith("[") else np.array(_ints(order))
    named = [item for item in axes.strip().removeprefix("{").removesuffix("}").split(",") if item]
    wanted = [_part(item, mesh) for item in named]
    return _rows(_gathered(ids, mesh, wanted))


def _part(item: str, mesh: Mapping[str, int]) -> tuple[str, int, int]:
    """Return (axis, positions before, size) of `'x'` or `'x':(before)size`."""
    name, colon, part = item.partition(":")
    if not colon:
        return name, 1, mesh[name]
    before, _, size = part.removeprefix("(").partition(")")
    return name, int(before), int(size)


def _gathered(ids: np.ndarray, mesh: Mapping[str, int], wanted: list[tuple[str, int, int]]) -> np.ndarray:
    """Return one row per group: split every axis at the borders of its parts, move the requested parts to the end."""
    borders = {
        name: sorted({1, size, *(b for n, before, s in wanted if n == name for b in (before, before * s))})
        for name, size in mesh.items()
    }
    pieces = [(name, low, high // low) for name, cuts in borders.items() for low, high in itertools.pairwise(cuts)]
    last = [pieces.index(part) for part in wanted if part[2] > 1]
    first = [i for i in range(len(pieces)) if i not in last]
    cut = ids.reshape([size for _, _, size in pieces]).transpose(first + last)
    return cut.reshape(-1, math.prod(pieces[i][2] for i in last))


def _iota(text: str) -> np.ndarray:
    """Return 0..7 reshaped to (2, 4) and transposed for `[2,4]T(1,0)`."""
    shape, _, order = text.partition("T")
    sizes = _ints(shape)
    ids = np.arange(math.prod(sizes)).reshape(sizes)
    return ids.transpose(_ints(order)) if order else ids


def _ints(text: str) -> tuple[int, ...]:
    return tuple(int(n) for n in text.strip("{}[]()").split(",") if n)


def _rows(groups: np.ndarray) -> Groups:
    return tuple(tuple(int(i) for i in row) for row in groups)
