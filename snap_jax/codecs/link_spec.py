"""Link specs: the short words of the command line, e.g. `count:3+packed`."""

import difflib
import math

from snap_jax.codecs.codec import Codec
from snap_jax.encodings import Cast, Count, Encoding, Int, Latency, Phase, Rate, Ternary, TopK
from snap_jax.errors import UsageError
from snap_jax.wires import Bitmap, Bitplanes, Events, Ladder, Packed, Rans, Wire

WIRES = "+packed, +radix, +bitmap, +bitplanes, +events, +ladder or +rans"
INTEGERS = "int8, int4, int4:absmax, int4:channel, int4:block32"
NAMES = f"fp32, bf16, {INTEGERS}, topk:0.1, ternary, count:3, rate:8, latency:8, phase:4"
EXAMPLES = f"{NAMES}, with {WIRES} behind"

_WIRES: dict[str, Wire] = {
    "packed": Packed(),
    "radix": Packed(radix=True),
    "bitmap": Bitmap(),
    "bitplanes": Bitplanes(),
    "events": Ladder((Events(0.05), Packed())),  # addresses for up to 5 % that fire, and a rung for more
    "ladder": Ladder(),
    "rans": Rans(),
}
_TICKS = {"count": 127, "rate": 127, "latency": 127, "phase": 8}  # most of each


def codec(spec: str) -> Codec | None:
    """The codec that a spec names; None for `fp32`.

    Thresholds start at the value that suits a unit normal input, `2 E|x| / sqrt(limit)` (LSQ, Esser et al. 2020), and
    are learned where the codec sits in a `Boundary`. `int4` learns its step too; `int4:absmax`, `int4:channel` and
    `int4:block32` take it from the data. `topk:0.1` keeps a tenth, 4 bits each, on the smaller of `Events(0.1)` and
    `Bitmap(0.1)`, which hold just that many.

    >>> codec("fp32") is None
    True
    >>> codec("ternary+bitplanes").wire
    Bitplanes()
    >>> codec("topk:0.1").wire
    Events(capacity=0.1)

    Raises:
      UsageError: for a spec that is not known; the message lists those that are.
    """
    name, *wires = spec.strip().lower().split("+")
    if name == "fp32":
        if wires:
            raise UsageError(f"link {spec!r}: fp32 has no wire: use plain fp32")
        return None
    encoding = _encoding(name, spec)
    return Codec(encoding, _wire(wires, encoding, spec))


def _encoding(name: str, spec: str) -> Encoding:
    kind, _, argument = name.partition(":")
    encoding = None
    if name == "bf16":
        encoding = Cast("bfloat16")
    elif name == "ternary":
        encoding = Ternary(threshold=unit_normal_threshold(1))
    elif kind.startswith("int") and kind[3:].isdigit():
        encoding = _integer(int(kind[3:]), argument)
    elif kind == "topk" and argument.replace(".", "", 1).isdigit():
        encoding = TopK(float(argument))
    elif argument.isdigit() and 1 <= int(argument) <= _TICKS.get(kind, 0):
        encoding = _ticking(kind, int(argument))
    if encoding is not None:
        return encoding
    close = difflib.get_close_matches(name, NAMES.split(", "), 1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    raise UsageError(f"link {spec!r} is not known{hint}: use {EXAMPLES}")


def _integer(bits: int, scale: str) -> Int | None:
    """Its step learned, without a word for the scale, or taken from the tensor, each channel, or each block."""
    if not scale:
        return Int(bits, threshold=unit_normal_threshold(2 ** (bits - 1) - 1 if bits > 1 else 1))
    if scale in ("absmax", "channel"):
        return Int(bits, block=None if scale == "absmax" else scale)
    block = scale.removeprefix("block")
    return Int(bits, block=int(block)) if scale.startswith("block") and block.isdigit() else None


def _ticking(kind: str, ticks: int) -> Encoding:
    step = unit_normal_threshold(ticks)
    if kind == "count":
        return Count(ticks, threshold=step)
    if kind == "rate":
        return Rate(ticks, threshold=step * ticks)
    if kind == "phase":
        return Phase(ticks, threshold=unit_normal_threshold(2**ticks - 1) * 2**ticks)
    # Within about a fifth of the least squared error that any threshold gives for a unit normal, from 1 to 16 ticks.
    return Latency(ticks, threshold=unit_normal_threshold(1) * ticks ** (1 / 3))


def _wire(names: list[str], encoding: Encoding, spec: str) -> Wire:
    bounded = {"events": Events(encoding.density), "bitmap": Bitmap(encoding.density)} if encoding.density < 1 else {}
    if not names:
        return min(bounded.values(), key=lambda wire: wire.sizes(2**20, encoding.symbols)[-1], default=Packed())
    if len(names) > 1 or names[0] not in _WIRES:
        raise UsageError(f"link {spec!r}: wire {'+'.join(names)!r} is not known: use {WIRES}")
    return (_WIRES | bounded)[names[0]]


def unit_normal_threshold(limit: int) -> float:
    """`2 E|x| / sqrt(limit)` for a unit normal x, `E|x| = sqrt(2 / pi)`.

    >>> round(unit_normal_threshold(1), 3), round(unit_normal_threshold(4), 3)
    (1.596, 0.798)
    """
    return 2 * math.sqrt(2 / math.pi) / math.sqrt(limit)


def as_codec(spec: Codec | str | None) -> Codec | None:
    """Return a codec as it is, and what words name as `codec` does."""
    return codec(spec) if isinstance(spec, str) else spec
