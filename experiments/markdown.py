"""Tables in Markdown, and means with their spread."""

import statistics
from collections.abc import Sequence


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return a table; the first row is its head.

    >>> print(table([("a", "b"), ("1", "2")]))
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    head, *body = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body])


def spread(values: Sequence[float], digits: int) -> str:
    """Return mean and standard deviation.

    >>> spread([1.0, 2.0], 2), spread([3.0], 1)
    ('1.50 ± 0.71', '3.0')
    """
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def percent(ratio: float, digits: int = 2) -> str:
    """Return a relative change in percent, without a sign on zero.

    >>> percent(0.0123), percent(-0.000001)
    ('+1.23 %', '0.00 %')
    """
    text = f"{100 * ratio:+.{digits}f}"
    return f"{text if float(text) else text[1:]} %"
