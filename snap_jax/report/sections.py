"""The parts of the page, each a piece of HTML made from the same runs; "" where there is nothing to show."""

from collections.abc import Sequence
from html import escape
from itertools import groupby

from snap_jax.report import number_format, svg
from snap_jax.report.bars import bars
from snap_jax.report.comparison_table import Row, rows
from snap_jax.report.config_diff import command, differing, shared
from snap_jax.report.curves import accuracy, bits, firing, thresholds, training
from snap_jax.report.image_raster import picture, rasters
from snap_jax.report.raster import raster
from snap_jax.report.run_data import Run
from snap_jax.report.summary import both_ways, densest, headline, notes
from snap_jax.report.tradeoff import tradeoff


def header(runs: Sequence[Run]) -> str:
    """Say it in one sentence, and what the runs have in common."""
    parts = [f"<em>{escape(part)}</em>" if n % 2 else escape(part) for n, part in enumerate(headline(runs))]
    alike = ", ".join(f"{number_format.words(k)} {v}" for k, v in shared(runs).items() if v not in (None, "", 0, False))
    common = f"{'All with' if len(runs) > 1 else 'With'} {alike}." if alike else ""
    lead = escape(f"{both_ways(runs)} {common}".strip())
    title = f"<p class=kicker>snap_jax report</p><h1>{''.join(parts)}</h1>"
    return f"<header>{title}<p class=lead>{lead}</p></header>\n"


def comparison(runs: Sequence[Run]) -> str:
    """Put the runs side by side in a table."""
    head = "".join(f"<th scope=col>{_sign(i)}{escape(run.label)}</th>" for i, run in enumerate(runs))
    groups = groupby(rows(runs), key=lambda row: row.group)
    lines = "".join(_group(name, list(members), len(runs) + 1) for name, members in groups)
    under = "".join(f"<li>{escape(note)}</li>" for note in notes(runs))
    table = f"<table><thead><tr><td></td>{head}</tr></thead>{lines}</table>"
    return _section("Side by side", f"{_scroll(table, 'comparison')}<ul class=notes>{under}</ul>")


def crossing(runs: Sequence[Run]) -> str:
    """Draw what crosses, and what it costs in quality."""
    rises = densest(runs).metric == number_format.ACCURACY
    within, better = ("half a point", "Up") if rises else ("3 %", "Down")
    close = f" Shaded: within {within} of {densest(runs).label}." if len(runs) > 1 else ""
    floor = f"{better} and left is better. Hollow: entropy, the floor for wires that code each element alone."
    return _figures(
        "What crosses, and what it costs in quality",
        runs,
        (tradeoff(runs), floor + close),
        (bars(runs), "In one training step, all devices together. Full: forward. Pale: backward."),
    )


def learning(runs: Sequence[Run]) -> str:
    """Draw what went on while the runs trained."""
    return _figures(
        "While they trained" if len(runs) > 1 else "While it trained",
        runs,
        (training(runs), "Strong: held-out data. Faint: training data, neighbouring steps averaged."),
        (accuracy(runs), "Share of held-out images whose class is named."),
        (bits(runs), "What a wire would send that codes each element alone, and perfectly."),
        (firing(runs), "Share of elements that cross as a spike, over all boundaries."),
        (thresholds(runs), "Learned with the model: a line for each boundary, numbered in order."),
    )


def spikes(runs: Sequence[Run]) -> str:
    """Draw the spikes of real text, for each run that kept some."""
    caption = "A column for each byte, a row for each channel. Orange spikes are positive, blue negative."
    drawn = [(run.label, raster(run)) for run in runs]
    shown = "".join(
        f"<h3>{escape(label)}</h3>{_figure(_scroll(picture, f'spikes of {label}'), caption)}"
        for label, picture in drawn
        if picture
    )
    return _section("Spikes of real text", shown) if shown else ""


def pictures(runs: Sequence[Run]) -> str:
    """Draw the spikes of a held-out picture, for each run that kept some."""
    shown = "".join(_pictured(run) for run in runs if rasters(run))
    return _section("Spikes of a picture", shown) if shown else ""


def _pictured(run: Run) -> str:
    caption = (
        "Below: a column for each place of the picture, row by row, a row for each channel; under it the picture's "
        "own greys. Orange spikes are positive, blue negative. Marks, where there are any: rows shown at boundary 1."
    )
    seen = f"<div class=seen>{_figure(picture(run), caption)}</div>"
    each = "".join(f"<figure>{one}</figure>" for one in rasters(run))
    return f"<h3>{escape(run.label)}</h3>{seen}<div class=figures>{each}</div>"


def remaking(runs: Sequence[Run]) -> str:
    """Give the commands and versions that make the runs again."""
    apart = ", ".join(number_format.words(key) for key in differing(runs))
    note = f"<p>The runs differ in {escape(apart)}.</p>" if apart else ""
    commands = escape("\n".join(command(run) for run in runs))
    keys = dict.fromkeys(key for run in runs for key in run.versions)
    versions = "".join(_version(key, runs) for key in keys)
    body = f"{note}{_scroll(f'<pre>{commands}</pre>', 'commands')}<dl class=versions>{versions}</dl>"
    return _section("Make it again", body)


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>\n"


def _scroll(body: str, label: str) -> str:
    # In the tab order, so that the keyboard too can scroll it.
    return f'<div class=scroll tabindex=0 role=region aria-label="{escape(label)}">{body}</div>'


def _group(name: str, members: list[Row], columns: int) -> str:
    head = f"<tr class=group><th scope=rowgroup colspan={columns}>{escape(name)}</th></tr>"
    return f"<tbody>{head}{''.join(_line(row) for row in members)}</tbody>"


def _line(row: Row) -> str:
    cells = "".join(f"<td>{escape(cell)}</td>" for cell in row.cells)
    return f"<tr{' class=minor' * row.minor}><th scope=row>{escape(row.name)}</th>{cells}</tr>"


def _figures(title: str, runs: Sequence[Run], *pairs: tuple[str, str]) -> str:
    shown = "".join(_figure(picture, caption) for picture, caption in pairs if picture)
    keys = "".join(f"<li>{_sign(i)}{escape(run.label)}</li>" for i, run in enumerate(runs))
    body = f"<ul class=legend>{keys}</ul><div class=figures>{shown}</div>"
    return _section(title, body) if shown else ""


def _figure(picture: str, caption: str) -> str:
    return f"<figure>{picture}<figcaption>{escape(caption)}</figcaption></figure>"


def _sign(index: int) -> str:
    mark = svg.marker(index, 7.0, 7.0, 4.5)
    return f'<svg class="sign {svg.colour(index)}" viewBox="0 0 14 14" aria-hidden="true">{mark}</svg>'


def _version(key: str, runs: Sequence[Run]) -> str:
    values = dict.fromkeys(str(run.versions.get(key, number_format.NONE)) for run in runs)
    return f"<div><dt>{escape(key)}</dt><dd>{escape(' / '.join(values))}</dd></div>"
