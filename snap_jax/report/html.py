"""One HTML page that carries all it shows: no script, no font, no picture from elsewhere.

Law: opening the page asks nothing of the network; a content security policy in it holds the browser to that.
"""

from collections.abc import Sequence
from html import escape
from importlib import resources
from pathlib import Path

from snap_jax.errors import UsageError
from snap_jax.report import sections
from snap_jax.report.load_run import read_runs
from snap_jax.report.run_data import Run

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_report(runs: Sequence[Path], out: Path) -> None:
    """Compare run directories on one self-contained HTML page, written whole or not at all.

    Args:
      runs: directories with a `result.json` and, where they have them, `metrics.jsonl` and `spikes.npz`.
      out: the page; its directory is made if need be.

    Raises:
      UsageError: no directories, one with a missing or malformed file, or an `out` that cannot be written.

    >>> write_report([], Path("report.html"))
    Traceback (most recent call last):
    snap_jax.errors.UsageError: report of no runs: give at least one run directory
    """
    _write(Path(out), page(read_runs(runs)))


def page(runs: Sequence[Run]) -> str:
    """Compose the page."""
    title = escape(", ".join(run.label for run in runs))
    style = resources.files("snap_jax.report").joinpath("style.css").read_text(encoding="utf-8")
    make = (
        sections.header,
        sections.comparison,
        sections.crossing,
        sections.learning,
        sections.spikes,
        sections.pictures,
        sections.remaking,
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
        f"<title>{title} · snap_jax</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n<main>\n{''.join(section(runs) for section in make)}</main>\n</body>\n</html>\n"
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
