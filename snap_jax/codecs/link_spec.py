"""The words that name codecs, on the command line and wherever a codec is taken: `count:3+rans`.

An encoding or wire of one's own needs no word here: pass the object, `codec(Sign(), "rans")`, or name where it is
defined, `my_package.codes.SIGN+rans`.
"""

import difflib
import functools
import math
import pkgutil
from collections.abc import Callable
from typing import Any

from snap_jax.codecs.codec import Codec, check_parts
from snap_jax.encodings import Cast, Count, Encoding, Int, Latency, Phase, Rate, Scaled, Ternary, TopK, scale_groups
from snap_jax.encodings.scaled import MEDIAN_OF_NORMAL
from snap_jax.errors import UsageError
from snap_jax.wires import Bitmap, Bitplanes, Events, Ladder, Packed, Rans, Wire

WIRES = "+packed, +radix, +bitmap, +bitplanes, +events, +ladder or +rans"
INTEGERS = "int8, int4, int4:absmax, int4:channel, int4:token, int4:block32"
NAMES = f"fp32, bf16, {INTEGERS}, topk:0.1, ternary, count:3, count:3:token, rate:8, latency:8, phase:4"
EXAMPLES = f"{NAMES}, followed by {WIRES}"

_WIRES: dict[str, Wire] = {
    "packed": Packed(),
    "radix": Packed(radix=True),
    "bitmap": Bitmap(),
    "bitplanes": Bitplanes(),
    "events": Ladder((Events(0.05), Packed())),  # addresses for up to 5 % that fire, and a size for more
    "ladder": Ladder(),
    "rans": Rans(),
}


def codec(encoding: str | Encoding, wire: str | Wire | None = None) -> Codec | None:
    """Return the codec that words name; `None` for `fp32`, which sends floats.

    Thresholds start at the value that suits a unit normal input, `2 E|x| / sqrt(limit)` (LSQ, Esser et al. 2020), and
    are learned where the codec sits in a `Boundary`. `int4` learns its step too; `int4:absmax`, `int4:channel`,
    `int4:token` and `int4:block32` take it from the data. `topk:0.1` keeps a tenth, 4 bits each (`topk:0.1:2`: 2 bits),
    on the smaller of `Events(0.1)` and `Bitmap(0.1)`, which hold just that many. `count:3:dead0.6` has its first spike
    at 0.6 thresholds. `count:3:token` has thresholds in units of each token's own scale; so have the other spikes, with
    `:tensor`, `:channel`, `:token` or `:block32` at the end.

    Args:
      encoding: words, e.g. "count:3" or "count:3+rans", where an object is defined, e.g. "my_package.codes.SIGN", or an
        encoding itself.
      wire: the same for the wire, if `encoding` does not name it.

    Raises:
      UsageError: for words that are not known; the message lists those that are. For what is no encoding or no wire.

    >>> codec("fp32") is None
    True
    >>> codec("ternary+bitplanes").wire, codec(Ternary(), "bitplanes").wire
    (Bitplanes(), Bitplanes())
    >>> codec("topk:0.1").wire
    Events(capacity=0.1)
    >>> codec("count:3:dead0.6").encoding.dead_zone
    0.6
    >>> codec("ternary:block32").encoding.per
    32
    """
    if not isinstance(encoding, str):
        check_parts(encoding, Packed())
        return Codec(encoding, _wire(wire, encoding))
    name, plus, behind = encoding.strip().partition("+")
    wire = behind if plus else wire
    if name.lower() == "fp32":
        if wire is not None:
            raise UsageError(f"link {encoding!r}: fp32 has no wire: use plain fp32")
        return None
    found = _encoding(name, encoding)
    return Codec(found, _wire(wire, found))


def as_codec(spec: Any) -> Codec | None:
    """Return a codec (or `None`) as it is, and what words name as `codec` does.

    Raises:
      UsageError: for words that are not known, and for what is no codec.
    """
    if isinstance(spec, str):
        return codec(spec)
    if isinstance(spec, Encoding):
        raise UsageError(f"{spec!r} is an encoding, not a codec: wrap it: snap.Codec(encoding)")
    if isinstance(spec, (int, float, type, Wire)):
        raise UsageError(f'{spec!r} is no codec: give a snap.Codec, words such as "count:3+rans", or None')
    return spec


def _encoding(name: str, spec: str) -> Encoding:
    kind, _, argument = name.lower().partition(":")
    if "." in kind:
        return _defined(name, Encoding)
    make = _ENCODINGS.get(kind, _integer if kind.startswith("int") and kind[3:].isdecimal() else None)
    found = make and (_scaled(make, kind, argument) if kind in _SPIKES else make(kind, argument))
    if found is not None:
        return found
    scales = [f"{kind}:{scale}" for scale in ("absmax", "channel", "token", "block32")] if kind[:3] == "int" else []
    hint = _hint(name.lower(), [*scales, *NAMES.split(", ")])
    raise UsageError(f"link {spec!r} is not known{hint}: use {EXAMPLES}")


def _hint(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, 1)
    return f" (did you mean {close[0]}?)" if close else ""


def _defined(path: str, kind: type) -> Any:
    """The object of a module, e.g. `my_package.codes.SIGN`; a class is called."""
    try:
        found = pkgutil.resolve_name(path)
    except Exception as error:  # importing a module runs it
        what = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"link {path!r}: {what}: use MODULE.NAME of an importable module") from error
    if isinstance(found, type) and issubclass(found, kind):
        try:
            found = found()
        except TypeError as error:  # abstract, or has fields without a default
            raise UsageError(f"link {path!r}: {error}: use an instance, SIGN = {found.__name__}(...)") from error
    if not isinstance(found, kind):
        what = "class" if isinstance(found, type) else type(found).__name__
        raise UsageError(f"link {path!r} is a {what}: use an instance of {kind.__name__}")
    return found


def _wire(wire: str | Wire | None, encoding: Encoding) -> Wire:
    density = encoding.density
    bounded: dict[str, Wire] = {"events": Events(density), "bitmap": Bitmap(density)} if density < 1 else {}
    if wire is None:
        return min(bounded.values(), key=lambda w: w.sizes(2**20, encoding.symbols)[-1], default=Packed())
    if not isinstance(wire, str):
        return wire
    if "." in wire:
        return _defined(wire, Wire)
    if wire.lower() not in _WIRES:
        raise UsageError(f"link: wire {wire!r} is not known{_hint(wire.lower(), list(_WIRES))}: use {WIRES}")
    return (_WIRES | bounded)[wire.lower()]


def _integer(kind: str, scale: str) -> Int | None:
    """Its step is learned, without a word for the scale, or taken from the tensor, each channel, or each block."""
    bits = int(kind[3:])
    if not scale:
        return Int(bits, threshold=unit_normal_threshold(2 ** (bits - 1) - 1 if bits > 1 else 1))
    if scale == "absmax":
        return Int(bits, block=None)
    block = _groups(scale)
    return Int(bits, block=block) if block not in (None, "tensor") else None


def _groups(word: str) -> str | int | None:
    """What shares a scale, as its word says it."""
    size = word.removeprefix("block")
    if word.startswith("block") and size.isdecimal() and int(size):
        return int(size)
    return word if word in scale_groups.NAMES else None


def _scaled(make: Callable, kind: str, argument: str) -> Encoding | None:
    """Spikes, in units of a scale that is taken from the data if the last word names one."""
    rest, _, last = argument.rpartition(":")
    per = _groups(last)
    found = make(kind, argument if per is None else rest)
    if per is None or found is None:
        return found
    return Scaled(found.with_threshold(found.threshold / MEDIAN_OF_NORMAL), per)


def _topk(kind: str, argument: str) -> TopK | None:
    """The share that is kept, and the bits of a value if they are given."""
    fraction, colon, bits = argument.partition(":")
    if not fraction.replace(".", "", 1).isdecimal() or (colon and not bits.isdecimal()):
        return None
    return TopK(float(fraction), int(bits)) if colon else TopK(float(fraction))


def _counted(make: Callable[[int], Encoding], most: int, kind: str, number: str) -> Encoding | None:
    """An encoding with a number from 1 to `most`: spikes or time steps."""
    return make(int(number)) if number.isdecimal() and 1 <= int(number) <= most else None


def unit_normal_threshold(limit: int) -> float:
    """Return `2 E|x| / sqrt(limit)` for a unit normal x, `E|x| = sqrt(2 / pi)`.

    >>> round(unit_normal_threshold(1), 3), round(unit_normal_threshold(4), 3)
    (1.596, 0.798)
    """
    return 2 * math.sqrt(2 / math.pi) / math.sqrt(limit)


def _count(kind: str, argument: str) -> Count | None:
    """Spike counts, with or without a dead zone after their limit."""
    limit, dead, zone = argument.partition(":dead")
    dead_zone = zone if dead else "0.5"
    if not (limit.isdecimal() and 1 <= int(limit) <= 127 and dead_zone.replace(".", "", 1).isdecimal()):
        return None
    return Count(int(limit), threshold=unit_normal_threshold(int(limit)), dead_zone=float(dead_zone))


def _rate(steps: int) -> Rate:
    return Rate(steps, threshold=unit_normal_threshold(steps) * steps)


def _latency(steps: int) -> Latency:
    # Within about a fifth of the least squared error that any threshold gives for a unit normal, from 1 to 16 steps.
    return Latency(steps, threshold=unit_normal_threshold(1) * steps ** (1 / 3))


def _phase(steps: int) -> Phase:
    return Phase(steps, threshold=unit_normal_threshold(2**steps - 1) * 2**steps)


_ENCODINGS: dict[str, Callable[[str, str], Encoding | None]] = {
    "bf16": lambda kind, argument: None if argument else Cast("bfloat16"),
    "ternary": lambda kind, argument: None if argument else Ternary(threshold=unit_normal_threshold(1)),
    "topk": _topk,
    "count": _count,
    "rate": functools.partial(_counted, _rate, 127),
    "latency": functools.partial(_counted, _latency, 127),
    "phase": functools.partial(_counted, _phase, 8),
}
_SPIKES = ("ternary", "count", "rate", "latency", "phase")
