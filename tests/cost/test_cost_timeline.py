"""The makespan of a pipeline is that of hand-derived cases and of an independent simulation; traces open in viewers."""

import dataclasses
import functools
import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snap_jax.cost import Chain, Coding, CostError, Graph, Link, Range, Ring, System
from snap_jax.cost.gantt import gantt
from snap_jax.cost.schedules import PipelineOrder
from snap_jax.cost.timeline import timeline
from snap_jax.traffic.transfer import Traffic, Transfer

# 1 GB/s and 0.1 s: large numbers to calculate by hand.
LINK = Link("l", "b", "s", Range(1, 1), Range(1.0, 1.0), Range(0.1e9, 0.1e9))


def moves(forward=500_000_000, backward=250_000_000, dtype="float32"):
    each = {"forward": forward, "backward": backward}
    return Traffic(
        tuple(Transfer("ppermute", ("stage",), 4, dtype, n, pairs=3, direction=way) for way, n in each.items())
    )


def run(kind="gpipe", traffic=None, microbatches=8, virtual=1, system=None, **how):
    schedule = PipelineOrder(
        kind, 4, microbatches, how.pop("forward_s", 1.0), how.pop("backward_s", 2.0), virtual, **how
    )
    return timeline(moves() if traffic is None else traffic, schedule, system or System({"stage": Ring(4, LINK)}))


@pytest.mark.parametrize(
    ("kind", "virtual", "microbatches"), [("gpipe", 1, 8), ("1f1b", 1, 8), ("1f1b", 1, 2), ("interleaved", 2, 8)]
)
def test_free_links_give_the_known_bubble(kind, virtual, microbatches):
    # m microbatches of f + b = 3 s, and P - 1 = 3 of them to fill and drain, divided by the virtual stages.
    found = run(kind, Traffic(), microbatches, virtual)
    assert found.makespan == pytest.approx((microbatches + 3 / virtual) * 3)
    assert found.waiting == pytest.approx(1 - microbatches * 3 / found.makespan)


def test_messages_of_gpipe_delay_each_stage_once_a_pass():
    # A message takes 0.5 + 0.1 s forward and 0.25 + 0.1 s backward, less than a task: only the first are waited for.
    assert run().makespan == pytest.approx(11 * 1 + 3 * 0.6 + 11 * 2 + 3 * 0.35)


def test_a_device_that_cannot_overlap_sends_in_between():
    # Stages 0 to 2 send each of 8 messages for 0.5 s after 1 s of work. Stage 3 has the last input after
    # 3 (1 + 0.5 + 0.1) + 7 x 1.5 s and works 1 s. Backward, stages 3 to 1 take 2 + 0.25 s; stage 0 ends
    # 3 (2 + 0.25 + 0.1) + 7 x 2.25 + 2 s later.
    forward, backward = 3 * 1.6 + 7 * 1.5 + 1, 3 * 2.35 + 7 * 2.25 + 2
    assert run(overlap=False).makespan == pytest.approx(forward + backward)


def test_slow_links_decide():
    heavy = moves(3_000_000_000, 3_000_000_000)
    # Eight messages of 3 s one after another, whatever the 1 s of work hides.
    forward_only = run(traffic=heavy, backward_s=0.0)
    assert forward_only.makespan == pytest.approx(1 + 2 * 3.1 + 2 * 1 + 8 * 3 + 0.1 + 1)


@pytest.mark.parametrize(("full_duplex", "seconds"), [(True, 13.2), (False, 14.1)])
def test_both_directions_at_once_or_in_turn(full_duplex, seconds):
    # Two devices, two microbatches, 1 s each way of work, messages of 3 + 0.1 s. The second input leaves at 4 and is
    # there at 7.1; the first gradient is ready at 6.1 and waits for the link until 7 if both directions share it. The
    # second gradient is ready at 9.1, sent until 12.1 (or, after the first, from 10 to 13), then takes 0.1 + 1 s.
    heavy = moves(3_000_000_000, 3_000_000_000)
    schedule = PipelineOrder("1f1b", 2, 2, 1.0, 1.0, full_duplex=full_duplex)
    assert timeline(heavy, schedule, System({"stage": Chain(2, LINK)})).makespan == pytest.approx(seconds)


def test_coding_takes_time_at_both_ends():
    coding = Coding(Range(1.0, 2.0), Range(0.5, 1.0), "given")
    spikes = moves(100_000_000, 0, dtype="uint8")
    found = run(traffic=spikes, microbatches=1, backward_s=0.0, system=System({"stage": Chain(4, LINK)}, coding=coding))
    # Four stages of 1 s; three times 0.1 s to encode, 0.1 + 0.1 s on the way and 0.2 s to decode.
    assert found.makespan == pytest.approx(4 + 3 * (0.1 + 0.2 + 0.2))
    assert found.busy("device 1", "encode") == pytest.approx(0.1)
    assert found.busy("device 1", "decode") == pytest.approx(0.2)
    assert found.busy("0 to 1", "link") == pytest.approx(0.1)


def test_a_slow_uplink_is_shared_by_stages_placed_around_it():
    # Two hosts of two chips; 0 and 2 on one, 1 and 3 on the other: all three messages cross the slow link between them.
    slow = dataclasses.replace(LINK, name="uplink", gbyte_per_s=Range(0.25, 0.25))
    joins = ((0, 4), (2, 4), (1, 5), (3, 5), (4, 5))
    fabric = Graph(4, joins, LINK, kinds=(LINK, LINK, LINK, LINK, slow))
    found = run(traffic=moves(250_000_000, 0), microbatches=1, backward_s=0.0, system=System({"stage": fabric}))
    assert found.makespan == pytest.approx(4 + 3 * (1.0 + 3 * 0.1))


@functools.cache
def order(schedule):
    return tuple(tuple(schedule.tasks(device)) for device in range(schedule.devices))


def longest_path(schedule, forward_s, backward_s):
    """Makespan with messages of fixed delay and no queues: the latest end over all tasks, by recursion."""
    before = {task: line[k - 1] for line in order(schedule) for k, task in enumerate(line) if k}

    @functools.cache
    def end(task):
        ready = end(before[task]) if task in before else 0.0
        stage, last = task.stage, schedule.stages - 1
        if task.forward and stage:
            ready = max(ready, end(dataclasses.replace(task, stage=stage - 1)) + forward_s)
        if not task.forward:
            source = (
                dataclasses.replace(task, forward=True) if stage == last else dataclasses.replace(task, stage=stage + 1)
            )
            ready = max(ready, end(source) + (0.0 if stage == last else backward_s))
        return ready + schedule.seconds(task)

    return max(end(task) for line in order(schedule) for task in line)


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from([("gpipe", 1), ("1f1b", 1), ("interleaved", 2), ("interleaved", 3)]),
    st.integers(2, 5), st.integers(1, 3), st.floats(0.1, 3), st.floats(0.1, 3), st.floats(0, 2), st.floats(0, 2),
)  # fmt: skip
def test_every_schedule_agrees_with_the_longest_path(way, devices, groups, forward, backward, ahead, back):
    kind, virtual = way
    schedule = PipelineOrder(kind, devices, devices * groups, forward, backward, virtual)
    # Latency only: messages never queue.
    link = Link("l", "b", "s", None, Range(1.0, 1.0), None, ns_per_packet=Range(0.0, 0.0))
    far = dataclasses.replace(link, gbyte_per_s=None, latency_ns=Range(ahead * 1e9, ahead * 1e9))
    traffic = Traffic((Transfer("ppermute", ("stage",), devices, "float32", 1, pairs=1),))
    both = Traffic((*traffic, dataclasses.replace(traffic[0], direction="backward")))
    full = Graph(devices, tuple((a, b) for b in range(devices) for a in range(b)), far)
    found = timeline(both, schedule, System({"stage": full}))
    assert found.makespan == pytest.approx(longest_path(schedule, ahead, ahead))
    counts = [
        len([e for e in found.events if e.lane == f"device {d}" and e.doing == "compute"]) for d in range(devices)
    ]
    assert counts == [2 * devices * groups * virtual] * devices


def test_nothing_on_a_lane_overlaps():
    for kind, virtual in (("gpipe", 1), ("1f1b", 1), ("interleaved", 2)):
        found = run(kind, virtual=virtual, overlap=False, full_duplex=False)
        for lane in {event.lane for event in found.events}:
            line = sorted((e.begin, e.end) for e in found.events if e.lane == lane)
            assert all(a[1] <= b[0] + 1e-9 for a, b in itertools.pairwise(line))


def test_a_chrome_trace_holds_every_event_on_a_named_lane():
    found = run(microbatches=4)
    tree = json.loads(found.to_chrome())["traceEvents"]
    names = {row["tid"]: row["args"]["name"] for row in tree if row["ph"] == "M"}
    spans = [row for row in tree if row["ph"] == "X"]
    assert len(spans) == len(found.events)
    assert max(row["ts"] + row["dur"] for row in spans) == pytest.approx(found.makespan * 1e6)
    assert {names[row["tid"]] for row in spans if row["cat"] == "compute"} == {f"device {k}" for k in range(4)}


def test_a_chart_has_a_row_per_lane_and_a_box_per_event():
    found = run(microbatches=4)
    text = gantt(found)
    assert text.startswith("<svg")
    assert text.count("<rect") == len(found.events)
    assert all(f">{name}<" in text for name in ("device 0", "device 3", "0 to 1"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PipelineOrder("gpipe", 4, 0, 1.0, 1.0), "microbatches=0"),
        (lambda: PipelineOrder("gpipe", 4, 4, 1.0, 1.0, virtual=2), "virtual > 1 exactly if interleaved"),
        (lambda: PipelineOrder("interleaved", 4, 6, 1.0, 1.0, virtual=2), "want a multiple of 4 devices"),
        (lambda: run(axis="pod"), r"axis 'pod'; the system has \('stage',\)"),
        (lambda: run(system=System({"stage": Ring(3, LINK)})), "4 devices on 3 chips"),
    ],
)
def test_what_fits_no_pipeline_is_refused(make, message):
    with pytest.raises(CostError, match=message):
        make()
