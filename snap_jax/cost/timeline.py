"""When each device of a pipeline computes, encodes, sends and waits, and when its links are busy.

A device does its tasks in the order of its schedule. A task starts when its input is there; then the device encodes
what it made, the links of the way carry it (first come, first served; the bytes take each link once, the latencies
follow), and the receiver decodes it before it goes on. Figures are the worst of each link.
"""

import dataclasses
import json
from collections.abc import Iterator
from typing import Literal, final

from snap_jax.cost.schedules import PipelineOrder, StageTask
from snap_jax.cost.system import System
from snap_jax.cost.topologies import Topology
from snap_jax.cost.topologies.base import Edge
from snap_jax.cost.units import CostError, Number
from snap_jax.traffic.transfer import Direction, Traffic, Transfer

Doing = Literal["compute", "encode", "decode", "send", "link"]


@final
@dataclasses.dataclass(frozen=True)
class Event:
    """Something that takes time.

    Attributes:
      lane: the device, or the link as "0 to 1".
      doing: what it does.
      name: of which microbatch and stage.
      begin: seconds from the start.
      end: seconds from the start.
    """

    lane: str
    doing: Doing
    name: str
    begin: Number
    end: Number


@final
@dataclasses.dataclass(frozen=True)
class Timeline:
    """The events of one step, in order of their begin."""

    events: tuple[Event, ...]
    devices: int

    @property
    def makespan(self) -> Number:
        """Seconds until the last event ends."""
        return max((event.end for event in self.events), default=0.0)

    def busy(self, lane: str, doing: Doing | None = None) -> Number:
        """Return the seconds in which a device or link does something, or one thing."""
        return sum(e.end - e.begin for e in self.events if e.lane == lane and doing in (None, e.doing))

    @property
    def waiting(self) -> Number:
        """Share of the time in which devices do nothing, averaged over them."""
        if not self.makespan:
            return 0.0
        return 1 - sum(self.busy(f"device {k}") for k in range(self.devices)) / (self.devices * self.makespan)

    def to_chrome(self) -> str:
        """Return the JSON of a Chrome trace, which ui.perfetto.dev and chrome://tracing show; times in microseconds."""
        lanes = list(
            dict.fromkeys(event.lane for event in sorted(self.events, key=lambda e: (e.doing == "link", e.lane)))
        )
        rows: list[dict[str, object]] = [
            {"name": "thread_name", "ph": "M", "pid": 0, "tid": k, "args": {"name": lane}}
            for k, lane in enumerate(lanes)
        ]
        rows += [
            {"name": e.name, "cat": e.doing, "ph": "X", "pid": 0, "tid": lanes.index(e.lane), "ts": e.begin * 1e6,
             "dur": (e.end - e.begin) * 1e6}
            for e in self.events
        ]  # fmt: skip
        return json.dumps({"traceEvents": rows, "displayTimeUnit": "ns"})


def timeline(traffic: Traffic, schedule: PipelineOrder, system: System) -> Timeline:
    """Return the events of one step of a pipeline.

    Args:
      traffic: of which the ppermutes over `schedule.axis` are taken: a message of a microbatch has the bytes of the
        longest one in its direction; without any in a direction it has none.
      schedule: the order of tasks and how long they take.
      system: its axis `schedule.axis` carries the messages, and its coding encodes them.

    Raises:
      CostError: no such axis, fewer chips than devices, or a figure without a source.

    >>> from snap_jax.cost import Chain, links
    >>> pipeline = System({"stage": Chain(4, links.UCIE_STANDARD)})
    >>> timeline(Traffic(), PipelineOrder("1f1b", 4, 8, 1.0, 2.0), pipeline).makespan
    33.0
    """
    if schedule.axis not in system.axes:
        raise CostError(
            f"timeline: axis {schedule.axis!r}; the system has {tuple(system.axes)}: give PipelineOrder(axis=)"
        )
    topology = system.axes[schedule.axis]
    if topology.size < schedule.devices:
        raise CostError(f"timeline: {schedule.devices} devices on {topology.size} chips of axis {schedule.axis!r}")
    run = _Run(schedule, system, topology, traffic)
    while run.step():
        pass
    return Timeline(tuple(sorted(run.events, key=lambda e: (e.begin, e.lane))), schedule.devices)


class _Run:
    """The state of a simulation: next task and free time of each device, free time of each link, what has arrived."""

    def __init__(self, schedule: PipelineOrder, system: System, topology: Topology, traffic: Traffic) -> None:
        self.schedule, self.system, self.topology = schedule, system, topology
        self.messages = {way: _message(traffic, schedule.axis, way) for way in ("forward", "backward")}
        self.todo = [schedule.tasks(device) for device in range(schedule.devices)]
        self.free: list[Number] = [0.0] * schedule.devices
        self.links: dict[Edge, Number] = {}
        self.arrived: dict[StageTask, Number] = {}
        self.done: set[StageTask] = set()
        self.events: list[Event] = []

    def step(self) -> bool:
        """Do the task that can end first; return whether there was one."""
        able = [(self._ready(tasks[0], d), d) for d, tasks in enumerate(self.todo) if tasks and self._able(tasks[0])]
        if not able:
            if any(self.todo):
                raise CostError("timeline: every device waits for another; the schedule is no pipeline")
            return False
        begin, device = min((ready + self.schedule.seconds(self.todo[d][0]), ready, d) for ready, d in able)[1:]
        self._do(self.todo[device].pop(0), device, begin)
        return True

    def _able(self, task: StageTask) -> bool:
        return self._source(task) is None or task in self.arrived

    def _source(self, task: StageTask) -> StageTask | None:
        """Return the task whose output a task needs; None for the first stage."""
        if task.forward:
            return StageTask(True, task.microbatch, task.stage - 1) if task.stage else None
        last = task.stage == self.schedule.stages - 1
        return StageTask(last, task.microbatch, task.stage if last else task.stage + 1)

    def _ready(self, task: StageTask, device: int) -> Number:
        return max(self.free[device], self.arrived.get(task, 0.0))

    def _do(self, task: StageTask, device: int, begin: Number) -> None:
        source = self._source(task)
        name = f"{'F' if task.forward else 'B'}{task.microbatch} of stage {task.stage}"
        if source is not None and source.stage != task.stage:
            begin = self._spend(device, "decode", name, begin, self._coding(task.forward, 1))
        end = self._spend(device, "compute", name, begin, self.schedule.seconds(task))
        self.free[device] = end
        self._hand_on(task, device, name, end)

    def _hand_on(self, task: StageTask, device: int, name: str, end: Number) -> None:
        following = StageTask(task.forward, task.microbatch, task.stage + (1 if task.forward else -1))
        if task.forward and task.stage == self.schedule.stages - 1:
            self.arrived[StageTask(False, task.microbatch, task.stage)] = end
        elif 0 <= following.stage < self.schedule.stages:
            target = following.stage % self.schedule.devices
            sent = self._spend(device, "encode", name, end, self._coding(task.forward, 0))
            self.free[device] = sent
            self.arrived[following] = self._send(device, target, name, sent, task.forward)

    def _send(self, source: int, target: int, name: str, begin: Number, forward: bool) -> Number:
        """Return when a message is there; occupy the links of its way, and the device if it cannot overlap."""
        message = self.messages["forward" if forward else "backward"]
        way = self.topology.route(source, target)
        if message is None or not way:
            return begin
        keys = [edge if self.schedule.full_duplex else (min(edge), max(edge)) for edge in way]
        start = max([begin, *(self.links.get(key, 0.0) for key in keys)])
        of_bytes = max(self.topology.link_of(edge).message_time(message.bytes).high for edge in way)
        for key, edge in zip(keys, way, strict=True):
            self.links[key] = start + of_bytes
            self.events.append(Event(f"{edge[0]} to {edge[1]}", "link", name, start, start + of_bytes))
        if not self.schedule.overlap:
            self._spend(source, "send", name, start, of_bytes)
            self.free[source] = start + of_bytes
        latencies = self.topology.latency(way).high
        return start + of_bytes + latencies

    def _coding(self, forward: bool, part: int) -> Number:
        message, coding = self.messages["forward" if forward else "backward"], self.system.coding
        if message is None or coding is None:
            return 0.0
        rate = (coding.encode_gbyte_per_s, coding.decode_gbyte_per_s)[part]
        return coding.bytes(message)[part] / (rate.low * 1e9)

    def _spend(self, device: int, doing: Doing, name: str, begin: Number, seconds: Number) -> Number:
        if seconds:
            self.events.append(Event(f"device {device}", doing, name, begin, begin + seconds))
        return begin + seconds


def _message(traffic: Traffic, axis: str, direction: Direction) -> Transfer | None:
    moves = (t for t in traffic if t.op == "ppermute" and axis in t.axes and t.direction == direction and t.bytes)
    return max(moves, key=lambda t: t.bytes, default=None)


def lanes(made: Timeline) -> Iterator[tuple[str, tuple[Event, ...]]]:
    """Yield the events of each device, then of each link."""
    names = [f"device {k}" for k in range(made.devices)]
    names += sorted({event.lane for event in made.events if event.doing == "link"})
    yield from ((name, tuple(event for event in made.events if event.lane == name)) for name in names)
