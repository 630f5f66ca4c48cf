"""What was asked, first on the page: quality, bits, joules and seconds, each against the densest run."""

import dataclasses
from collections.abc import Sequence
from html import escape

from snap_jax.report import number_format
from snap_jax.report.markup import scroll, sign
from snap_jax.report.number_format import fraction, shown
from snap_jax.report.reference_run import densest, leanest
from snap_jax.report.run_data import Range, RunData
from snap_jax.report.uncertainty import measured

_STEP = "per training step"


@dataclasses.dataclass(frozen=True)
class Answer:
    """One number of one run: what it is, its value, where it holds, and how it compares with the densest run."""

    name: str
    value: str
    unit: str
    against: str = ""


def cards(runs: Sequence[RunData]) -> str:
    """Return the four answers for the run that the headline is about."""
    lean, dense = leanest(runs), densest(runs)
    shown_cards = "".join(_card(answer, dense.label) for answer in answers(lean, dense, runs) if answer.value)
    return f"<div class=cards>{shown_cards}</div>"


def table(runs: Sequence[RunData]) -> str:
    """Return the four answers for every run, a run in a line; "" for a single one."""
    if len(runs) < 2:
        return ""
    dense = densest(runs)
    lines = [answers(run, dense, runs) for run in runs]
    used = [n for n in range(len(lines[0])) if any(line[n].value for line in lines)]
    names = "".join(f"<th scope=col>{escape(_heading(lines, n))}</th>" for n in used)
    body = "".join(
        _line(i, run, [line[n] for n in used]) for i, (run, line) in enumerate(zip(runs, lines, strict=True))
    )
    head = f"<thead><tr role=row><th scope=col>sent</th>{names}</tr></thead>"
    drawn = f"<table class=answers role=table>{head}<tbody>{body}</tbody></table>"
    return scroll(drawn, "all runs")


def answers(run: RunData, dense: RunData, runs: Sequence[RunData]) -> list[Answer]:
    """Return quality, bits, energy and time of one run; a value is "" if it is unknown."""
    other = None if run is dense else dense
    bits = None if run.bits is None else number_format.short(run.bits)
    return [
        Answer(number_format.metric_words(run.metric), measured(run), "on held-out data", _quality(run, other)),
        Answer("bits per element", bits or "", "sent forward", _ratio(run.bits, other and other.bits)),
        _priced("energy", run, other, priced_system(runs, "energy_j"), "energy_j", "J"),
        _priced("time", run, other, priced_system(runs, "latency_s"), "latency_s", "s"),
    ]


def priced_system(runs: Sequence[RunData], name: str) -> str | None:
    """Return the first system on which every run that was priced has that price; None if there is none."""
    systems = dict.fromkeys(system for run in runs for system in run.costs)
    priced = [run for run in runs if run.costs]
    known = (s for s in systems if all(s in run.costs and getattr(run.costs[s].total, name) for run in priced))
    return next(known, None)


def _priced(title: str, run: RunData, other: RunData | None, system: str | None, name: str, unit: str) -> Answer:
    if system is None or system not in run.costs:
        return Answer(title, "", "")
    value: Range = getattr(run.costs[system].total, name)
    reference = getattr(other.costs[system].total, name) if other is not None and system in other.costs else None
    against = "" if reference is None else _ratio(sum(value), sum(reference))
    return Answer(f"{title} on links", number_format.span(value, unit), f"{_STEP}, {system}", against)


def _quality(run: RunData, other: RunData | None) -> str:
    if other is None or other.metric != run.metric or not other.value:
        return ""
    reference = other.value
    return shown(run.value, lambda value: number_format.against(run.metric, value, reference))


def _ratio(value: float | None, reference: float | None) -> str:
    return "" if value is None or not reference else f"{shown(value / reference, fraction)} of it"


def _card(answer: Answer, dense: str) -> str:
    against = answer.against.replace(" of it", f" of {dense}")
    if against == answer.against and against:
        against = f"{against} against {dense}"
    foot = f"<p class=against>{escape(against)}</p>" if against else ""
    return (
        f"<div class=card><p class=what>{escape(answer.name)}</p><p class=number>{escape(answer.value)}</p>"
        f"<p class=unit>{escape(answer.unit)}</p>{foot}</div>"
    )


def _heading(lines: list[list[Answer]], n: int) -> str:
    first = next(line[n] for line in lines if line[n].value)
    return f"{first.name}, {first.unit}".replace(f"{_STEP}, ", "").replace(", on held-out data", "")


def _line(index: int, run: RunData, cells: list[Answer]) -> str:
    seeds = f" <span class=seeds>{run.seeds} seeds</span>" if run.seeds > 1 else ""
    values = "".join(
        f'<td role=cell data-name="{escape(cell.name)}">{escape(cell.value or number_format.NONE)}'
        f"<span class=small>{escape(cell.against.removesuffix(' of it'))}</span></td>"
        for cell in cells
    )
    return f"<tr role=row><th scope=row role=rowheader>{sign(index)}{escape(run.label)}{seeds}</th>{values}</tr>"
