"""Count the collectives of pipeline stages as often as the stages run them, not as often as the program shows them.

All stages run one program. It branches on the number of the stage, inside a loop that also runs while a stage is idle.
Which stage takes a branch cannot be read from a program; the schedule of the pipeline knows it. The schedule and the
program are matched by `jax.named_scope`, which is what a compiled program still shows of its source: each branch has a
scope that the schedule knows, and the `cond` or `switch` itself is in its `branch_scope`.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

from snap_jax.traffic.transfer import Transfer


@runtime_checkable
class StageSchedule(Protocol):
    """The part of `snap_jax.parallel.schedule.Schedule` that traffic needs."""

    @property
    def ticks(self) -> int:
        """Number of rounds of the loop over the work of the stages."""
        ...

    @property
    def stages(self) -> int:
        """Number of stages."""
        ...

    @property
    def branch_scope(self) -> str:
        """Scope of a `cond` or `switch` of which each branch is taken by some stage."""
        ...

    def occupancy(self, scopes: Sequence[str]) -> Mapping[int, int] | None:
        """Return stages at work -> number of rounds, for code under these scopes; None if all stages run it."""
        ...


def executions(transfer: Transfer, scopes: Sequence[str], schedule: StageSchedule | None) -> Iterator[Transfer]:
    """Yield the executions of a transfer that the program shows in all rounds and for all stages.

    There is one transfer for each number of stages at work. Without a schedule, and in a loop that the compiler
    unrolled, a transfer is returned as it is: an upper bound.
    """
    found = None if schedule is None else schedule.occupancy(scopes)
    if schedule is None or found is None or transfer.times % schedule.ticks or transfer.groups % schedule.stages:
        yield transfer
        return
    for working, ticks in sorted(found.items()):
        times, groups = transfer.times // schedule.ticks * ticks, transfer.groups // schedule.stages * working
        yield dataclasses.replace(transfer, times=times, groups=groups)
