"""When devices and links are busy during one step of a pipeline, as the cost model's timeline says."""

from collections.abc import Sequence

from snap_jax.cost.schedules import KINDS, PipelineOrder
from snap_jax.cost.system import NAMED, System
from snap_jax.cost.timeline import Event, Timeline, timeline
from snap_jax.cost.units import CostError
from snap_jax.report import number_format, svg
from snap_jax.report.run_data import RunData
from snap_jax.report.svg import Scale
from snap_jax.traffic.transfer import Direction, Traffic, Transfer

SYSTEMS = {"UCIe standard package": "ucie-chain", "400G Ethernet": "ethernet-400g"}
_LEFT, _RIGHT, _LANE, _LINK, _HEAD = 62.0, 880.0, 16.0, 6.0, 22.0
_MOST_EVENTS = 2500  # boxes of a figure: a page stays below some hundred kilobytes


def step_timelines(runs: Sequence[RunData], chosen: Sequence[RunData], system: str) -> str:
    """Return one figure with the step of each chosen run on one system, all on one scale of time; "" if none has one.

    Args:
      runs: all runs, which say the colors.
      chosen: those to draw.
      system: a key of `SYSTEMS`.
    """
    drawn = ((list(runs).index(run), run, _timeline(run, SYSTEMS[system])) for run in chosen)
    found = [(i, run, made) for i, run, made in drawn if made is not None]
    if not found:
        return ""
    scale = Scale(0.0, max(made.makespan for _, _, made in found), _LEFT, _RIGHT)
    parts, top, said = [], 0.0, []
    for i, run, made in found:
        spent = number_format.span((made.makespan, made.makespan), "s")
        words = f"{run.label}: {spent}, devices wait {number_format.percent(made.waiting)} of it"
        parts += [svg.text(0.0, top + 14, words, "name"), svg.group(i, *_lanes(made, scale, top + _HEAD))]
        top += _HEAD + made.devices * (_LANE + 2 * _LINK + 4) + 10
        said.append(words)
    label = f"One step of a pipeline on {system}. {'; '.join(said)}"
    return svg.figure(_RIGHT + 10, top, label, parts, least=680.0)


def _timeline(run: RunData, name: str) -> Timeline | None:
    order, hops = run.order, [b for b in run.boundaries if b.path.startswith("stage ")]
    if order is None or not hops or order.kind not in KINDS or order.devices > 64:
        return None
    if order.devices * order.microbatches * 4 > _MOST_EVENTS or order.forward_s <= 0:
        return None
    shrunk = 1.0 if not run.bits or not run.most_bits else min(run.bits / run.most_bits, 1.0)
    forward = max(hop.forward_bytes for hop in hops) * shrunk / order.microbatches
    backward = max(hop.backward_bytes for hop in hops) / order.microbatches
    moved = Traffic((_message("forward", forward, order.devices), _message("backward", backward, order.devices)))
    try:
        schedule = PipelineOrder("1f1b" if order.kind == "1f1b" else "gpipe", order.devices, order.microbatches,
                                 order.forward_s, order.backward_s)  # fmt: skip
        return timeline(moved, schedule, System({"stage": NAMED[name](order.devices)}))
    except CostError:  # a link without a figure
        return None


def _message(direction: Direction, nbytes: float, devices: int) -> Transfer:
    return Transfer("ppermute", ("stage",), devices, "uint8", round(nbytes), direction=direction)


def _lanes(made: Timeline, scale: Scale, top: float) -> list[str]:
    """Return a lane for each device, with thin lanes of its links to the next and to the previous below it."""
    height = _LANE + 2 * _LINK + 4
    rows = {f"device {k}": (top + k * height, _LANE) for k in range(made.devices)}
    for k in range(made.devices - 1):
        below = top + k * height + _LANE + 1
        rows |= {f"{k} to {k + 1}": (below, _LINK), f"{k + 1} to {k}": (below + _LINK + 1, _LINK)}
    names = [svg.text(0.0, y + 12, lane, "tick") for lane, (y, high) in rows.items() if high == _LANE]
    wells = [svg.box(_LEFT, y, _RIGHT - _LEFT, high, "panel") for y, high in rows.values() if high == _LANE]
    placed = ((event, _lane(event)) for event in made.events)
    return [*wells, *names, *(_box(event, scale, *rows[lane]) for event, lane in placed if lane in rows)]


def _lane(event: Event) -> str:
    """Return the lane of an event; what a device sends to a switch has that of its link to the next or previous one."""
    sender = event.lane.partition(" to ")[0]
    if event.doing != "link" or not sender.isdecimal():
        return event.lane
    return f"{sender} to {int(sender) + (1 if event.name.startswith('F') else -1)}"


def _box(event: Event, scale: Scale, y: float, height: float) -> str:
    begin, end = scale.at(event.begin), scale.at(event.end)
    way = "forward" if event.name.startswith("F") else "backward"
    kind = f"link-{way}" if event.doing == "link" else f"part-{way}"
    return svg.box(begin, y, max(end - begin, 0.7), height, kind)
