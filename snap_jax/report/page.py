"""One HTML page that contains everything it shows: no script, no font and no image from elsewhere.

Opening the page asks nothing of the network; its content security policy makes the browser enforce that. Each section
is a function of the runs that returns HTML, "" if there is nothing to show.
"""

from collections.abc import Sequence
from html import escape
from importlib import resources
from itertools import groupby
from pathlib import Path

from snap_jax.errors import UsageError
from snap_jax.report import number_format, svg
from snap_jax.report.figures import accuracy, bars, bits, firing, thresholds, training
from snap_jax.report.load_run import read_runs
from snap_jax.report.rasters import image, image_rasters, text_raster
from snap_jax.report.reference_run import densest
from snap_jax.report.rows import Row, rows
from snap_jax.report.run_data import RunData
from snap_jax.report.summary import both_ways, command, differing, headline, notes, shared
from snap_jax.report.tradeoff import tradeoff

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_report(runs: Sequence[Path], out: Path) -> None:
    """Write one self-contained HTML page that compares run directories; write it completely or not at all.

    Args:
      runs: directories with a `result.json` and, optionally, `metrics.jsonl` and `spikes.npz`.
      out: the page; its directory is created if necessary.

    Raises:
      UsageError: no directories, one with a missing or malformed file, or an `out` that cannot be written.

    >>> write_report([], Path("report.html"))
    Traceback (most recent call last):
    snap_jax.errors.UsageError: report of no runs: give at least one run directory
    """
    _write(Path(out), page(read_runs(runs)))


def page(runs: Sequence[RunData]) -> str:
    """Return the HTML of the page."""
    title = escape(", ".join(run.label for run in runs))
    style = resources.files("snap_jax.report").joinpath("style.css").read_text(encoding="utf-8")
    sections = (_header, _comparison, _traffic, _training, _text_spikes, _image_spikes, _commands)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
        f"<title>{title} · snap_jax</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n<main>\n{''.join(section(runs) for section in sections)}</main>\n</body>\n</html>\n"
    )


def _write(out: Path, text: str) -> None:
    if out.is_dir():
        raise UsageError(f"out={str(out)!r} is a directory: name a file in it, such as {out / 'report.html'}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        part = out.with_name(f".{out.name}.part")
        part.write_text(text, encoding="utf-8", errors="replace")
        part.replace(out)
    except OSError as error:
        raise UsageError(f"cannot write out={str(out)!r} ({error.strerror}): give a writable path") from error


def _header(runs: Sequence[RunData]) -> str:
    """Return the headline, and the settings that the runs share."""
    parts = [f"<em>{escape(part)}</em>" if n % 2 else escape(part) for n, part in enumerate(headline(runs))]
    alike = ", ".join(f"{number_format.words(k)} {v}" for k, v in shared(runs).items() if v not in (None, "", 0, False))
    common = f"{'All with' if len(runs) > 1 else 'With'} {alike}." if alike else ""
    lead = escape(f"{both_ways(runs)} {common}".strip())
    title = f"<p class=kicker>snap_jax report</p><h1>{''.join(parts)}</h1>"
    return f"<header>{title}<p class=lead>{lead}</p></header>\n"


def _comparison(runs: Sequence[RunData]) -> str:
    """Return the table of all runs."""
    head = "".join(f"<th scope=col>{_sign(i)}{escape(run.label)}</th>" for i, run in enumerate(runs))
    groups = groupby(rows(runs), key=lambda row: row.group)
    lines = "".join(_group(name, list(members), len(runs) + 1) for name, members in groups)
    under = "".join(f"<li>{escape(note)}</li>" for note in notes(runs))
    table = f"<table><thead><tr><td></td>{head}</tr></thead>{lines}</table>"
    return _section("Side by side", f"{_scroll(table, 'comparison')}<ul class=notes>{under}</ul>")


def _traffic(runs: Sequence[RunData]) -> str:
    """Return figures of what crosses, and what it costs in quality."""
    rises = densest(runs).metric == number_format.ACCURACY
    within, better = ("half a point", "Up") if rises else ("3 %", "Down")
    close = f" Shaded: within {within} of {densest(runs).label}." if len(runs) > 1 else ""
    floor = f"{better} and left is better. Hollow: entropy, the lower bound for wires that code each element alone."
    return _figures(
        "What crosses, and what it costs in quality",
        runs,
        (tradeoff(runs), floor + close),
        (bars(runs), "In one training step, on all devices together. Full: forward. Pale: backward."),
    )


def _training(runs: Sequence[RunData]) -> str:
    """Return figures of the training."""
    return _figures(
        "While they trained" if len(runs) > 1 else "While it trained",
        runs,
        (training(runs), "Strong: held-out data. Faint: training data, averaged over neighboring steps."),
        (accuracy(runs), "Share of held-out images that are classified correctly."),
        (bits(runs), "Bits of an ideal wire that codes each element alone."),
        (firing(runs), "Share of elements that are not zero, over all boundaries."),
        (thresholds(runs), "Learned with the model; one line for each boundary, numbered in order."),
    )


def _text_spikes(runs: Sequence[RunData]) -> str:
    """Return the spikes of a held-out text, for each run that kept some."""
    caption = "A column for each byte, a row for each channel. Orange spikes are positive, blue negative."
    drawn = [(run.label, text_raster(run)) for run in runs]
    shown = "".join(
        f"<h3>{escape(label)}</h3>{_figure(_scroll(figure, f'spikes of {label}'), caption)}"
        for label, figure in drawn
        if figure
    )
    return _section("Spikes of real text", shown) if shown else ""


def _image_spikes(runs: Sequence[RunData]) -> str:
    """Return the spikes of a held-out image, for each run that kept some."""
    shown = "".join(_one_image(run) for run in runs if image_rasters(run))
    return _section("Spikes of an image", shown) if shown else ""


def _one_image(run: RunData) -> str:
    caption = (
        "Below: a column for each position of the image, row by row, and a row for each channel; under it the gray "
        "levels of the image. Orange spikes are positive, blue negative. Marks, if any: rows shown at boundary 1."
    )
    seen = f"<div class=seen>{_figure(image(run), caption)}</div>"
    each = "".join(f"<figure>{one}</figure>" for one in image_rasters(run))
    return f"<h3>{escape(run.label)}</h3>{seen}<div class=figures>{each}</div>"


def _commands(runs: Sequence[RunData]) -> str:
    """Return the commands and versions that repeat the runs."""
    apart = ", ".join(number_format.words(key) for key in differing(runs))
    note = f"<p>The runs differ in {escape(apart)}.</p>" if apart else ""
    commands = escape("\n".join(command(run) for run in runs))
    keys = dict.fromkeys(key for run in runs for key in run.versions)
    versions = "".join(_version(key, runs) for key in keys)
    body = f"{note}{_scroll(f'<pre>{commands}</pre>', 'commands')}<dl class=versions>{versions}</dl>"
    return _section("How to repeat these runs", body)


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>\n"


def _scroll(body: str, label: str) -> str:
    # In the tab order, so that the keyboard can scroll it, too.
    return f'<div class=scroll tabindex=0 role=region aria-label="{escape(label)}">{body}</div>'


def _group(name: str, members: list[Row], columns: int) -> str:
    head = f"<tr class=group><th scope=rowgroup colspan={columns}>{escape(name)}</th></tr>"
    return f"<tbody>{head}{''.join(_line(row) for row in members)}</tbody>"


def _line(row: Row) -> str:
    cells = "".join(f"<td>{escape(cell)}</td>" for cell in row.cells)
    return f"<tr{' class=minor' * row.minor}><th scope=row>{escape(row.name)}</th>{cells}</tr>"


def _figures(title: str, runs: Sequence[RunData], *pairs: tuple[str, str]) -> str:
    shown = "".join(_figure(figure, caption) for figure, caption in pairs if figure)
    keys = "".join(f"<li>{_sign(i)}{escape(run.label)}</li>" for i, run in enumerate(runs))
    body = f"<ul class=legend>{keys}</ul><div class=figures>{shown}</div>"
    return _section(title, body) if shown else ""


def _figure(figure: str, caption: str) -> str:
    return f"<figure>{figure}<figcaption>{escape(caption)}</figcaption></figure>"


def _sign(index: int) -> str:
    mark = svg.marker(index, 7.0, 7.0, 4.5)
    return f'<svg class="sign {svg.color(index)}" viewBox="0 0 14 14" aria-hidden="true">{mark}</svg>'


def _version(key: str, runs: Sequence[RunData]) -> str:
    values = dict.fromkeys(str(run.versions.get(key, number_format.NONE)) for run in runs)
    return f"<div><dt>{escape(key)}</dt><dd>{escape(' / '.join(values))}</dd></div>"
