"""What the stages of a pipeline do counts as often as they do it, not as often as the program shows it.

All stages run one program. It branches on the number of the stage, and a loop repeats it in all ticks, idle ones too.
Who takes a branch cannot be read from a program, so the schedule of the pipeline tells. Two facts join the two: a
branch stands in a `jax.named_scope` whose name the schedule knows, and the `cond` or `switch` itself stands right in
its `branch_scope`. A scope is all of the source that a compiled program still shows.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

from snap_jax.traffic.transfer import Transfer


@runtime_checkable
class StageSchedule(Protocol):
    """What is read of `snap_jax.parallel.schedule.Schedule`."""

    @property
    def ticks(self) -> int:
        """How often the loop over the stages' work runs."""
        ...

    @property
    def stages(self) -> int:
        """How many stages run side by side."""
        ...

    @property
    def branch_scope(self) -> str:
        """The scope right around a `cond` or `switch` each of whose branches some stage takes."""
        ...

    def occupancy(self, scopes: Sequence[str]) -> Mapping[int, int] | None:
        """Count ticks by how many stages run what stands under these scopes; None for what all of them run."""
        ...


def executions(transfer: Transfer, scopes: Sequence[str], schedule: StageSchedule | None) -> Iterator[Transfer]:
    """Give the executions that there are of a transfer which the program shows in all ticks, for all stages.

    They come as one transfer for each number of stages at work. A transfer in a loop that the compiler unrolled, and
    every transfer without a schedule, stays as it is: then it is what crosses at most.
    """
    found = None if schedule is None else schedule.occupancy(scopes)
    if schedule is None or found is None or transfer.times % schedule.ticks or transfer.groups % schedule.stages:
        yield transfer
        return
    for working, ticks in sorted(found.items()):
        times, groups = transfer.times // schedule.ticks * ticks, transfer.groups // schedule.stages * working
        yield dataclasses.replace(transfer, times=times, groups=groups)
