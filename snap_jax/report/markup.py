"""Pieces of HTML that sections of the page share; all words are escaped here."""

from html import escape

from snap_jax.report import svg


def section(title: str, body: str, anchor: str) -> str:
    """Return a section with a heading that the contents link to; "" without a body."""
    return f'<section id="{anchor}"><h2>{escape(title)}</h2>{body}</section>\n' if body else ""


def folded(summary: str, body: str) -> str:
    """Return what is shown when the reader opens it; "" without a body."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>" if body else ""


def scroll(body: str, label: str) -> str:
    """Return what is scrolled sideways where the page is narrow; in the tab order, so that the keyboard can."""
    return f'<div class=scroll tabindex=0 role=region aria-label="{escape(label)}">{body}</div>'


def figure(drawn: str, caption: str) -> str:
    """Return a figure with its caption; "" if nothing is drawn."""
    return f"<figure>{drawn}<figcaption>{escape(caption)}</figcaption></figure>" if drawn else ""


def figures(*drawn: str) -> str:
    """Return figures side by side; "" without any."""
    return f"<div class=figures>{''.join(drawn)}</div>" if any(drawn) else ""


def sign(index: int) -> str:
    """Return the marker of a run, for legends and tables."""
    mark = svg.marker(index, 7.0, 7.0, 4.5)
    return f'<svg class="sign {svg.color(index)}" viewBox="0 0 14 14" aria-hidden="true">{mark}</svg>'


def legend(labels: list[str]) -> str:
    """Return the markers of runs with their names; "" for a single run, which needs none."""
    keys = "".join(f"<li>{sign(i)}{escape(label)}</li>" for i, label in enumerate(labels))
    return f"<ul class=legend>{keys}</ul>" if len(labels) > 1 else ""


def pairs(names: dict[str, str]) -> str:
    """Return names and values as a list; "" without any."""
    lines = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in names.items())
    return f"<dl class=pairs>{lines}</dl>" if lines else ""
