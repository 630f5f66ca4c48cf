"""Format numbers for readers."""

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
    """Return a formatted number; a dash for None, "nan" or "inf" for numbers that are not finite.

    >>> shown(None, whole), shown(float("nan"), whole), shown(1234.0, whole)
    ('–', 'nan', '1,234')
    """
    if value is None:
        return NONE
    return form(value) if math.isfinite(value) else str(value)


def whole(value: float) -> str:
    """Return all digits, in groups of three."""
    return f"{value:,.0f}"


def quality(value: float) -> str:
    """Return three decimals, about the precision that a held-out text of 100 kB gives."""
    return f"{value:.3f}"


def against(metric: str, value: float, reference: float) -> str:
    """Return the difference between two qualities: points of accuracy, else a change in percent.

    >>> against("bits_per_byte", 2.1, 2.0), against("accuracy_percent", 98.1, 98.6)
    ('+5.0 %', '−0.5 points')
    """
    return points(value - reference) if metric == ACCURACY else change(value / reference)


def points(difference: float) -> str:
    """Return a difference between accuracies.

    >>> points(-0.5)
    '−0.5 points'
    """
    return f"{difference:+.1f} points".replace("-", "−")


def precise(metric: str, value: float, half: float | None) -> str:
    """Return a quality with as many digits as its uncertainty leaves.

    >>> precise("accuracy_percent", 68.802, 4.79), precise("bits_per_byte", 3.14159, 0.012)
    ('68.8 ± 4.8', '3.142 ± 0.012')
    >>> precise("accuracy_percent", 68.802, None), precise("bits_per_byte", 3.14159, None)
    ('68.80', '3.142')
    """
    digits = 2 if metric == ACCURACY else 3
    if half is None or not math.isfinite(half):
        return f"{value:.{digits}f}"
    if half:
        digits = min(digits, max(0, 1 - math.floor(math.log10(half))))
    return f"{value:.{digits}f} ± {half:.{digits}f}"


def short(value: float) -> str:
    """Return three significant digits.

    >>> short(16.0), short(4.0625), short(0.04)
    ('16', '4.06', '0.04')
    """
    return f"{value:.3g}"


def percent(value: float) -> str:
    """Return a share in percent.

    >>> percent(0.2314)
    '23.1 %'
    """
    return f"{100 * value:.1f} %"


def share(value: float) -> str:
    """Return a share as the label of a tick.

    >>> share(0.25), share(0.025)
    ('25 %', '2.5 %')
    """
    return f"{100 * value:g} %"


def change(ratio: float) -> str:
    """Return a change in percent.

    >>> change(1.0142), change(1.0)
    ('+1.4 %', '0.0 %')
    """
    return "0.0 %" if abs(ratio - 1) < 0.0005 else f"{100 * (ratio - 1):+.1f} %".replace("-", "−")


def fraction(ratio: float) -> str:
    """Return a ratio in percent, always in the same form.

    >>> fraction(0.125), fraction(0.9), fraction(2.0), fraction(0.00781)
    ('12.5 %', '90 %', '200 %', '0.781 %')
    """
    return f"{100 * ratio:.0f} %" if ratio >= 0.9995 else f"{100 * ratio:.3g} %"


def span(ends: tuple[float, float], unit: str, largest: float = 0.0) -> str:
    """Return a range in SI units; one number if both ends look the same; `largest` says the unit of several ranges.

    >>> span((1.2e-5, 0.000034), "J"), span((2e-3, 2e-3), "s"), span((2e-5, 9e-5), "s", 1e-3)
    ('12–34 µJ', '2 ms', '0.02–0.09 ms')
    """
    if not all(math.isfinite(end) for end in ends):
        return f"{ends[0]}–{ends[1]} {unit}"
    size = max(largest, *(abs(end) for end in ends))
    scale, prefix = next((p for p in _PREFIXES if size >= p[0]), _PREFIXES[-1] if size else (1.0, ""))
    low, high = (f"{end / scale:.3g}" for end in ends)
    return f"{low} {prefix}{unit}" if low == high else f"{low}–{high} {prefix}{unit}"


def duration(seconds: float) -> str:
    """Return a time in hours, minutes and seconds.

    >>> duration(42.4), duration(131.9), duration(7325.0)
    ('42 s', '2 min 12 s', '2 h 2 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def metric_words(metric: str) -> str:
    """Return a metric as words.

    >>> metric_words("accuracy_percent"), metric_words("bits_per_byte")
    ('accuracy, %', 'bits per byte')
    """
    return "accuracy, %" if metric == ACCURACY else words(metric)


def words(name: str) -> str:
    """Return an identifier as words.

    >>> words("bits_per_byte")
    'bits per byte'
    """
    return name.replace("_", " ")


def finite(*values: float) -> bool:
    """Return whether all values are finite."""
    return all(map(math.isfinite, values))
