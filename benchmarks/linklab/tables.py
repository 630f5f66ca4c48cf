"""The tables of docs/link-lab.md, from the rows that the programs of the lab wrote."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

from benchmarks.linklab.predict import Model, Row, errors
from benchmarks.linklab.rates import UNLIMITED, bits_per_second

FRACTION = 0.03  # what protocol and chatter may add, besides a constant per message


def latest(rows: Iterable[Row]) -> list[Row]:
    """Return the last row of each measurement."""
    keys = ("program", "collective", "kind", "hosts", "elements", "parameters", "spec", "config", "rate")
    return list({tuple(str(row.get(key)) for key in keys): row for row in rows}.values())


def grid(title: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a table in Markdown.

    >>> grid(["code", "ms"], [["int8", "2"]])
    ['| code | ms |', '|---|---|', '| int8 | 2 |']
    """
    lines = [list(title), ["---"] * len(title), *map(list, rows)]
    return ["|" + "|".join(line) + "|" if line[0] == "---" else "| " + " | ".join(line) + " |" for line in lines]


def bytes_table(rows: Sequence[Row]) -> list[str]:
    """Return what the links counted over what was claimed, for each code and collective.

    A coded sum sends its second half in a size that only the run decides, so only the most is claimed.
    """
    free = [row for row in rows if row["program"] == "collective_speed" and row["rate"] == UNLIMITED]
    free = [row for row in free if row["elements"] == 2**20]
    columns = sorted({(row["hosts"], row["collective"]) for row in free})
    found = {(row["spec"], row["hosts"], row["collective"]): row for row in free}
    specs = list(dict.fromkeys(row["spec"] for row in free))
    cells = [[f"`{spec}`", *(_bytes(found.get((spec, *column))) for column in columns)] for spec in specs]
    return grid(["code", *(f"{name}, {hosts} hosts" for hosts, name in columns)], cells)


def _bytes(row: Row | None) -> str:
    if row is None:
        return ""
    if row["taken_bytes"] is None:
        return f"{row['interface_bytes'] / row['claimed_bytes']:.2f} of the most"
    return f"{row['interface_bytes'] / row['taken_bytes']:.4f}"


def constant_per_message(rows: Sequence[Row]) -> float:
    """Return the bytes per collective and host that, with 3 %, cover all that was counted beyond the claims."""
    free = [row for row in rows if row["program"] == "collective_speed" and row["rate"] == UNLIMITED]
    beyond = [
        (row["interface_bytes"] - (1 + FRACTION) * row["taken_bytes"]) / row["messages"] / row["hosts"]
        for row in free
        if row["taken_bytes"] and not is_reduce_scatter(row)
    ]
    return max(0.0, *beyond)


def is_reduce_scatter(row: Row) -> bool:
    """Return whether Gloo scatters sums of floats itself, which moves more than the best algorithm."""
    return row["collective"] == "psum_scatter" and row["spec"] == "fp32"


def times_table(rows: Sequence[Row], model: Model, label: Callable[[Row], str]) -> list[str]:
    """Return measured milliseconds with quartiles, and the prediction after the semicolon; a column per rate."""
    rates = list(dict.fromkeys(row["rate"] for row in rows))
    found = {(label(row), row["rate"]): row for row in rows}
    names = list(dict.fromkeys(label(row) for row in rows))
    cells = [[name, *(_time(found.get((name, rate)), model) for rate in rates)] for name in names]
    return grid(["", *rates], cells)


def _time(row: Row | None, model: Model) -> str:
    if row is None:
        return ""
    measured = f"{_ms(row['seconds'])} ({_ms(row['low'])}–{_ms(row['high'])})"
    predicted = model.seconds(row)
    return measured if row["rate"] == UNLIMITED or predicted is None else f"{measured}; {_ms(predicted)}"


def _ms(seconds: float) -> str:
    """Three digits.

    >>> _ms(0.0012345), _ms(0.5), _ms(2.0)
    ('1.23', '500', '2000')
    """
    ms = 1e3 * seconds
    return f"{ms:.0f}" if ms >= 100 else f"{ms:.3g}"


def speedups(rows: Sequence[Row], model: Model, against: Sequence[str], label: Callable[[Row], str]) -> list[str]:
    """Return how many times as fast each row is as those named `against` at the same rate; in links alone too."""
    found = {(label(row), row["rate"]): row for row in rows}
    lines = []
    for row in rows:
        base = [found[name, row["rate"]] for name in against if (name, row["rate"]) in found]
        times = [f"{one['seconds'] / row['seconds']:.2f}" for one in base]
        alone = [f"{model.link_seconds(one) / model.link_seconds(row):.1f}" for one in base]
        lines.append([label(row), row["rate"], *times, *alone])
    heads = [f"{what}, {name}" for what in ("faster than", "links alone") for name in against]
    return grid(["", "rate", *heads], lines)


def reached(model: Model, row: Row, base: Row, factor: float) -> str:
    """Return the highest of some rates at which a row is predicted to be `factor` times as fast as another."""
    for mbit in (10_000, 5000, 2000, 1000, 500, 200, 100, 50, 20, 10, 5, 2, 1):
        fast, slow = (model.seconds(one | {"rate": f"{mbit}mbit"}) for one in (dict(row), dict(base)))
        if fast and slow and slow >= factor * fast:
            return f"up to {mbit} Mbit/s"
    return "at no rate"


def break_even(rows: Sequence[Row], base: str) -> Iterator[tuple[str, str]]:
    """Yield each code with the rate up to which it is faster than `base`.

    Seconds are linear in seconds per bit, so the rate is interpolated between two that were measured.
    """
    limited = [row for row in rows if row["rate"] != UNLIMITED]
    by_spec = {row["spec"]: {} for row in limited}
    for row in limited:
        by_spec[row["spec"]][1 / (bits_per_second(row["rate"]) or 1.0)] = row["seconds"]
    for spec, times in by_spec.items():
        if spec != base and base in by_spec:
            yield spec, crossing([(x, by_spec[base][x] - times[x]) for x in sorted(times) if x in by_spec[base]])


def crossing(gains: Sequence[tuple[float, float]]) -> str:
    """Return the highest rate at which there is a gain, from (seconds per bit, seconds gained), fastest first.

    >>> crossing([(1e-9, -1.0), (3e-9, 1.0)]), crossing([(1e-9, 1.0)]), crossing([(1e-9, -1.0)])
    ('500 Mbit/s', 'above 1000 Mbit/s', 'below 1000 Mbit/s')
    """
    if gains[0][1] > 0:
        return f"above {1e-6 / gains[0][0]:.0f} Mbit/s"
    for (x, lost), (slower, gained) in itertools.pairwise(gains):
        if gained > 0:
            at = x + (slower - x) * lost / (lost - gained)
            return f"{1e-6 / at:.0f} Mbit/s"
    return f"below {1e-6 / gains[-1][0]:.0f} Mbit/s"


def error_line(model: Model, rows: Sequence[Row]) -> str:
    """Return the median error of the predictions of large messages."""
    found = sorted(errors(model, rows))
    if not found:
        return "No row sends 1 MiB per host."
    middle, worst = found[len(found) // 2], found[-1]
    return f"{len(found)} rows send 1 MiB or more per host: median error {middle:.1%}, largest {worst:.0%}."
