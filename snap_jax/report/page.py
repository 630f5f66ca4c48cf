"""One HTML page that contains everything it shows: no script, no font and no image from elsewhere.

Opening the page asks nothing of the network; its content security policy makes the browser enforce that. Each section
is a function of the runs that returns HTML, "" if there is nothing to show.
"""

import re
from collections.abc import Sequence
from html import escape
from importlib import resources
from itertools import groupby
from pathlib import Path

from snap_jax.errors import UsageError
from snap_jax.report import answers, number_format, prices
from snap_jax.report.figures import accuracy, bars, bits, firing, thresholds, training
from snap_jax.report.load_run import read_runs
from snap_jax.report.markup import figure, figures, folded, legend, pairs, scroll, section, sign
from snap_jax.report.rasters import explained, histograms, image, image_rasters, text_raster
from snap_jax.report.reference_run import densest, leanest
from snap_jax.report.rows import Row, rows
from snap_jax.report.run_data import RunData
from snap_jax.report.step_timeline import SYSTEMS, step_timelines
from snap_jax.report.summary import both_ways, changed, command, differing, headline, notes, setup, short_path
from snap_jax.report.tradeoff import tradeoff
from snap_jax.report.uncertainty import explained as uncertainty_explained

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
    made = (_costs, _timelines, _quality, _training, _crossing, _numbers, _settings)
    sections = "".join(one(runs) for one in made)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
        f"<title>{title} · snap_jax</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n<main>\n{_header(runs)}{_contents(sections)}{sections}</main>\n</body>\n</html>\n"
    )


_HEAD = 2**16  # bytes of a page in which its title ends


def _write(out: Path, text: str) -> None:
    if out.is_dir():
        raise UsageError(f"--out {out} is a directory: name a file in it, such as {out / 'report.html'}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.exists() and not out.is_file():  # a device or a pipe, such as /dev/stdout
            out.write_text(text, encoding="utf-8", errors="replace")
            return
        out = out.resolve()  # a link stays one
        if out.exists() and out.stat().st_size and b"snap_jax" not in out.read_bytes()[:_HEAD]:
            raise UsageError(f"--out {out} is a file of something else and is not overwritten: name another file")
        part = out.with_name(f".{out.name}.part")
        part.write_text(text, encoding="utf-8", errors="replace")
        part.replace(out)
    except OSError as error:
        raise UsageError(f"cannot write --out {out} ({error.strerror}): give a writable path") from error


def _header(runs: Sequence[RunData]) -> str:
    """Return the headline, and what was asked: quality, bits, joules and seconds."""
    parts = [f"<em>{escape(part)}</em>" if n % 2 else _together(part) for n, part in enumerate(headline(runs))]
    dates = sorted({run.made["date"][:10] for run in runs if "date" in run.made})
    when = " to ".join(dict.fromkeys([*dates[:1], *dates[-1:]]))
    kicker = " · ".join(filter(None, ["snap_jax report", when]))
    lead = escape(" ".join(filter(None, [both_ways(runs), setup(runs)])))
    plus_minus = escape(uncertainty_explained(runs))
    return (
        f"<header><p class=kicker>{escape(kicker)}</p><h1>{''.join(parts)}</h1><p class=lead>{lead}</p></header>\n"
        f"{answers.cards(runs)}{answers.table(runs)}<p class=fine>{plus_minus}</p>\n"
    )


def _together(words: str) -> str:
    """Return words whose numbers are not divided at the end of a line."""
    return escape(words).replace(" ± ", "&nbsp;±&nbsp;").replace(" %", "&nbsp;%")


def _contents(sections: str) -> str:
    """Return links to the sections."""
    found = re.findall(r'<section id="([a-z]+)"><h2>(.*?)</h2>', sections)
    links = "".join(f'<a href="#{anchor}">{title}</a>' for anchor, title in found)
    return f"<nav aria-label=Contents>{links}</nav>\n"


def _costs(runs: Sequence[RunData]) -> str:
    """Return charts of energy and time of the links."""
    parts = prices.used_parts(runs)
    keys = "".join(f"<li><i class=swatch-{part}></i>{part}</li>" for part in parts)
    what = f"<ul class=legend>{keys}</ul>" if len(parts) > 1 else ""
    ranges = "A thin line spans from the best to the worst published figure of the link; parts are drawn at the worst."
    drawn = figures(
        figure(prices.energies(runs), ranges),
        figure(prices.latencies(runs), f"Links only, one transfer after another. {ranges}"),
    )
    hidden = folded("Prices that are missing, and why", _listed(_missing(runs)))
    return section("Energy and time of the links", drawn and f"{legend(_labels(runs))}{what}{drawn}{hidden}", "cost")


def _missing(runs: Sequence[RunData]) -> list[str]:
    return [note for note in notes(runs) if any(note.startswith(f"{s}, ") for run in runs for s in run.costs)]


def _timelines(runs: Sequence[RunData]) -> str:
    """Return one pipeline step of the leanest and of the densest run, on fast and on slow links."""
    chosen = list(dict.fromkeys([leanest(runs), densest(runs)]))
    drawn = [(system, step_timelines(runs, chosen, system)) for system in SYSTEMS]
    units = {run.order.unit for run in chosen if run.order is not None}
    said = (
        "Lanes are devices, thin lanes between them what their links carry. Full: forward. Pale: backward. Devices "
        f"compute at the peak rate of {' or '.join(sorted(units))}, so real steps take longer. Coding and bookkeeping "
        "are left out."
    )
    body = "".join(f"<h3>{escape(system)}</h3>{scroll(one, f'timeline on {system}')}" for system, one in drawn if one)
    return section("One step of the pipeline", body and f"{body}<p class=fine>{escape(said)}</p>", "timeline")


def _quality(runs: Sequence[RunData]) -> str:
    """Return quality against bits, if there are several runs, and bytes by boundary."""
    rises = densest(runs).metric == number_format.ACCURACY
    within, better = ("half a point", "Up") if rises else ("3 %", "Down")
    said = (
        f"{better} and left is better. Hollow: entropy, the lower bound for wires that code each value alone. "
        f"Shaded: within {within} of {densest(runs).label}. {uncertainty_explained(runs)}"
    )
    drawn = figures(
        figure(tradeoff(runs), said),
        figure(bars(runs), "Bytes at each boundary, on all devices together. Full: forward. Pale: backward."),
    )
    title = "Quality, bits and bytes" if len(runs) > 1 else "Bytes"
    return section(title, drawn and f"{legend(_labels(runs))}{drawn}", "quality")


def _training(runs: Sequence[RunData]) -> str:
    """Return figures of the training, and what simple compressors reach."""
    over = " Shaded: standard deviation over seeds." if any(run.seeds > 1 for run in runs) else ""
    drawn = figures(
        figure(training(runs), f"Strong: held-out data. Faint: training data, averaged over neighboring steps.{over}"),
        figure(accuracy(runs), "Share of held-out images that are classified correctly."),
        figure(bits(runs), "Bits of an ideal wire that codes each value alone."),
        figure(firing(runs), "Share of values that are not zero, over all boundaries."),
        figure(thresholds(runs), "Learned with the model; one line for each boundary, numbered in order."),
    )
    missing = set(_missing(runs))
    others = _listed([note for note in notes(runs) if note not in missing and not note.startswith("±")])
    shown = f"{legend(_labels(runs))}{drawn}" if drawn else ""
    return section("While it trained", shown + others, "training")


def _crossing(runs: Sequence[RunData]) -> str:
    """Return what crossed for a held-out text or image, for each run that kept it."""
    shown = "".join(_one_text(run) or _one_image(run) for run in runs)
    return section("What crosses each boundary", shown, "crossing")


def _one_text(run: RunData) -> str:
    raster = text_raster(run)
    if not raster:
        return ""
    said = (
        f"A column for each byte of a held-out text, a row for each channel. {explained(run)} "
        "Gray: how often a channel is not zero."
    )
    counts = figure(histograms(run), "How often each value occurs, from the smallest to the largest.")
    shown = f"{figure(scroll(raster, f'values that {run.label} sends'), said)}{figures(counts)}"
    return f"<h3>{escape(run.label)}</h3>{shown}"


def _one_image(run: RunData) -> str:
    drawn = image_rasters(run)
    if not drawn:
        return ""
    said = (
        "For a held-out image: a column for each of its positions, row by row, and a row for each channel; under it "
        f"the gray levels of the image. {explained(run)} Marks, if any: rows shown at boundary 1."
    )
    seen = f"<div class=seen>{figure(image(run), said)}</div>"
    counts = figure(histograms(run), "How often each value occurs, from the smallest to the largest.")
    return f"<h3>{escape(run.label)}</h3>{seen}{figures(*(f'<figure>{one}</figure>' for one in drawn), counts)}"


def _numbers(runs: Sequence[RunData]) -> str:
    """Return the table of all numbers."""
    head = "".join(f"<th scope=col>{sign(i)}{escape(run.label)}</th>" for i, run in enumerate(runs))
    groups = groupby(rows(runs), key=lambda row: row.group)
    lines = "".join(_group(name, list(members), len(runs) + 1) for name, members in groups)
    narrow = " class=single" if len(runs) == 1 else ""
    table = f"<table{narrow}><thead><tr><td></td>{head}</tr></thead>{lines}</table>"
    return section("All numbers", scroll(table, "comparison"), "numbers")


def _settings(runs: Sequence[RunData]) -> str:
    """Return what was set, the commands that repeat the runs, and when and on what they were made."""
    keys = changed(runs)
    rest = dict.fromkeys(key for run in runs for key in run.config if key not in keys)
    apart = ", ".join(number_format.words(key) for key in differing(runs))
    note = f"<p>The runs differ in {escape(apart)}.</p>" if apart else ""
    commands = escape("\n".join(command(run) for run in runs))
    copied = f"{scroll(f'<pre>{commands}</pre>', 'commands')}<p class=fine>A click selects all commands.</p>"
    where = {name: _values([run.made.get(name) for run in runs]) for name in ("commit", "devices")}
    where = {"date": _values([run.made["date"][:16].replace("T", " ") for run in runs if "date" in run.made])} | where
    versions = {
        k: _values([r.versions.get(k) for r in runs]) for k in dict.fromkeys(k for r in runs for k in r.versions)
    }
    known = {name: value for name, value in where.items() if value not in ("", number_format.NONE)}
    return section(
        "Settings, and how to repeat this",
        f"{pairs(_set(runs, keys))}{note}{folded('All other settings', pairs(_set(runs, rest)))}"
        f"{copied}{pairs(known | versions)}",
        "settings",
    )


def _set(runs: Sequence[RunData], keys: Sequence[str] | dict[str, None]) -> dict[str, str]:
    return {number_format.words(key): _values([run.config.get(key) for run in runs]) for key in keys}


def _values(values: Sequence[object]) -> str:
    """Return the different values; a dash if there are none."""
    return " / ".join(dict.fromkeys(number_format.NONE if v is None else short_path(v) for v in values))


def _labels(runs: Sequence[RunData]) -> list[str]:
    return [run.label for run in runs]


def _listed(lines: Sequence[str]) -> str:
    return f"<ul class=notes>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>" if lines else ""


def _group(name: str, members: list[Row], columns: int) -> str:
    head = f"<tr class=group><th scope=rowgroup colspan={columns}>{escape(name)}</th></tr>"
    return f"<tbody>{head}{''.join(_line(row) for row in members)}</tbody>"


def _line(row: Row) -> str:
    cells = "".join(f"<td>{escape(cell)}</td>" for cell in row.cells)
    return f"<tr{' class=minor' * row.minor}><th scope=row>{escape(row.name)}</th>{cells}</tr>"
