"""Link specs: the short words of the command line, e.g. `count:3+packed`."""

import difflib
import math

from snap_jax.codecs import Codec
from snap_jax.encodings import Count, Encoding, Float, Integer, Rate, Ternary
from snap_jax.errors import UsageError
from snap_jax.wires import Bitmap, Events, Ladder, Packed, Ticks, Wire

WIRES = "+packed, +radix, +bitmap, +ticks, +events or +ladder"
EXAMPLES = f"dense, bf16, int8, int4, ternary, count:3, rate:8, with {WIRES} behind"

_WIRES: dict[str, Wire] = {
    "packed": Packed(),
    "radix": Packed(radix=True),
    "bitmap": Bitmap(),
    "ticks": Ticks(),
    "events": Ladder((Events(0.05), Packed())),  # addresses for up to 5 % that fire, and a rung for more
    "ladder": Ladder(),
}
_NAMES = ("dense", "bf16", "int8", "int4", "ternary", "count:3", "rate:8")


def parse_link(spec: str) -> Codec | None:
    """The codec that a spec names; `None` for `dense`.

    Thresholds start at the value that suits a unit normal input, `2 E|x| / sqrt(limit)` (LSQ, Esser et al. 2020), and
    are learned where the codec sits in a `Boundary`.

    >>> parse_link("dense") is None
    True
    >>> parse_link("ternary+ticks").wire
    Ticks()

    Raises:
      UsageError: for a spec that is not known; the message lists those that are.
    """
    name, *wires = spec.strip().lower().split("+")
    if name == "dense":
        if wires:
            raise UsageError(f"link {spec!r}: dense has no wire: use plain dense")
        return None
    return Codec(_encoding(name, spec), _wire(wires, spec))


def _encoding(name: str, spec: str) -> Encoding:
    kind, _, argument = name.partition(":")
    if name == "bf16":
        return Float("bfloat16")
    if kind.startswith("int") and kind[3:].isdigit() and not argument:
        bits = int(kind[3:])
        return Integer(bits, threshold=unit_normal_threshold(2 ** (bits - 1) - 1 if bits > 1 else 1))
    if name == "ternary":
        return Ternary(threshold=unit_normal_threshold(1))
    if kind in ("count", "rate") and argument.isdigit() and 1 <= int(argument) <= 127:
        limit = int(argument)
        step = unit_normal_threshold(limit)
        return Count(limit, threshold=step) if kind == "count" else Rate(limit, threshold=step * limit)
    close = difflib.get_close_matches(name, _NAMES, 1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    raise UsageError(f"link {spec!r} is not known{hint}: use {EXAMPLES}")


def _wire(names: list[str], spec: str) -> Wire:
    if not names:
        return Packed()
    if len(names) > 1 or names[0] not in _WIRES:
        raise UsageError(f"link {spec!r}: wire {'+'.join(names)!r} is not known: use {WIRES}")
    return _WIRES[names[0]]


def unit_normal_threshold(limit: int) -> float:
    """`2 E|x| / sqrt(limit)` for a unit normal x, `E|x| = sqrt(2 / pi)`.

    >>> round(unit_normal_threshold(1), 3), round(unit_normal_threshold(4), 3)
    (1.596, 0.798)
    """
    return 2 * math.sqrt(2 / math.pi) / math.sqrt(limit)
