"""Numbers as people read them."""

import math
from collections.abc import Callable

NONE = "–"
ACCURACY = "accuracy_percent"
_PREFIXES = (
    (1e9, "G"),
    (1e6, "M"),
    (1e3, "k"),
    (1.0, ""),
    (1e-3, "m"),
    (1e-6, "µ"),
    (1e-9, "n"),
    (1e-12, "p"),
)


def shown(value: float | None, form: Callable[[float], str]) -> str:
    """Format a number; a dash where there is none, its name where it is no finite one.

    >>> shown(None, whole), shown(float("nan"), whole), shown(1234.0, whole)
    ('–', 'nan', '1,234')
    """
    if value is None:
        return NONE
    return form(value) if math.isfinite(value) else str(value)


def whole(value: float) -> str:
    """All digits, in threes: bytes are exact."""
    return f"{value:,.0f}"


def quality(value: float) -> str:
    """Three decimals, which a held-out text of some 100 kB is just about good for."""
    return f"{value:.3f}"


def measured(metric: str, value: float) -> str:
    """Write a quality with its unit.

    >>> measured("bits_per_byte", 2.0), measured("accuracy_percent", 98.3287)
    ('2.000 bits per byte', '98.33 % accuracy')
    """
    return f"{value:.2f} % accuracy" if metric == ACCURACY else f"{quality(value)} {words(metric)}"


def against(metric: str, value: float, reference: float) -> str:
    """How far a quality is from another: points for an accuracy, else a ratio.

    >>> against("bits_per_byte", 2.1, 2.0), against("accuracy_percent", 98.1, 98.6)
    ('+5.0 %', '-0.50 points')
    """
    return f"{value - reference:+.2f} points" if metric == ACCURACY else change(value / reference)


def short(value: float) -> str:
    """Three significant digits.

    >>> short(16.0), short(4.0625), short(0.04)
    ('16', '4.06', '0.04')
    """
    return f"{value:.3g}"


def percent(value: float) -> str:
    """Write a share.

    >>> percent(0.2314)
    '23.1 %'
    """
    return f"{100 * value:.1f} %"


def share(value: float) -> str:
    """Write a share at a tick.

    >>> share(0.25), share(0.025)
    ('25 %', '2.5 %')
    """
    return f"{100 * value:g} %"


def change(ratio: float) -> str:
    """How far a ratio is from one.

    >>> change(1.0142), change(1.0)
    ('+1.4 %', '0.0 %')
    """
    return "0.0 %" if abs(ratio - 1) < 0.0005 else f"{100 * (ratio - 1):+.1f} %"


def fraction(ratio: float) -> str:
    """Write a ratio as one says it.

    >>> fraction(0.125), fraction(0.9), fraction(2.0), fraction(0.0)
    ('1/8', '0.9×', '2×', '0')
    """
    if ratio == 0:
        return "0"
    return f"1/{1 / ratio:.3g}" if ratio < 0.75 else f"{ratio:.3g}×"


def times(ratio: float) -> str:
    """Write a ratio as it goes before "the bytes".

    >>> times(0.125), times(1.5)
    ('1/8 of', '1.5 times')
    """
    said = fraction(ratio)
    return f"{said[:-1]} times" if said.endswith("×") else f"{said} of"


def span(ends: tuple[float, float], unit: str) -> str:
    """Write a range in SI units, one number where both ends look alike.

    >>> span((1.2e-5, 0.000034), "J"), span((2e-3, 2e-3), "s")
    ('12–34 µJ', '2 ms')
    """
    if not all(math.isfinite(end) for end in ends):
        return f"{ends[0]}–{ends[1]} {unit}"
    size = max(abs(end) for end in ends)
    scale, prefix = next((p for p in _PREFIXES if size >= p[0]), _PREFIXES[-1] if size else (1.0, ""))
    low, high = (f"{end / scale:.3g}" for end in ends)
    return f"{low} {prefix}{unit}" if low == high else f"{low}–{high} {prefix}{unit}"


def duration(seconds: float) -> str:
    """Time as on a clock.

    >>> duration(42.4), duration(131.9), duration(7325.0)
    ('42 s', '2 min 12 s', '2 h 2 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def words(name: str) -> str:
    """Write an identifier as words.

    >>> words("bits_per_byte")
    'bits per byte'
    """
    return name.replace("_", " ")
