"""Turns: the dies of a pipeline branch apart, and what crosses inside a branch crosses only where it is taken.

Law: of M microbatches on n dies a collective inside counts M times for each die that runs it, in the groups of that
die; not in all groups, nor in all M + n - 1 ticks.

Who takes a branch cannot be read from a program, so `snap_jax.parallel.stage_branches` names it, by scopes that
mark: paths are without.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from snap_jax.traffic.transfer import Transfer

SWITCH = "in_turns"  # right around a `cond` or `switch` each of whose branches is taken, by the dies whose turn it is
_BUSY, _ALONE = "in_turns_busy", "in_turns_alone"
_MARK = re.compile(rf"{SWITCH}|{_BUSY}_\d+_\d+|{_ALONE}_\d+")


def busy(microbatches: int, dies: int) -> str:
    """The scope of what each die runs while it has a microbatch, in so many ticks of `microbatches + dies - 1`."""
    return f"{_BUSY}_{microbatches}_{dies}"


def alone(dies: int) -> str:
    """The scope, in the other, of what one of so many dies runs."""
    return f"{_ALONE}_{dies}"


def is_mark(scope: str) -> bool:
    """Whether a scope is one of these.

    >>> is_mark("in_turns_busy_4_2"), is_mark("boundary")
    (True, False)
    """
    return _MARK.fullmatch(scope) is not None


def taken(transfer: Transfer, scopes: Sequence[str]) -> Iterator[Transfer]:
    """The executions there are of a collective under these scopes, which the program shows in all ticks and groups.

    As one transfer for each number of groups that run side by side: a pipeline fills and drains. Where the compiler
    unrolled its ticks, all of them are left: then it is what crosses at most.

    >>> both = Transfer("psum", ("x",), 2, "uint8", 8, times=5, groups=2)  # 4 microbatches on 2 dies
    >>> [(t.times, t.groups) for t in taken(both, [busy(4, 2)])], [(t.times, t.groups) for t in taken(both, [])]
    ([(2, 1), (3, 2)], [(5, 2)])
    >>> [(t.times, t.groups) for t in taken(both, [busy(4, 2), alone(2)])]
    [(4, 1)]
    """
    sizes = _numbers(_BUSY, scopes)
    microbatches, dies = sizes or (1, 1)
    ticks = microbatches + dies - 1
    if not sizes or transfer.times % ticks or transfer.groups % dies:
        yield transfer
        return
    rounds = {1: microbatches} if _numbers(_ALONE, scopes) else _occupancy(microbatches, dies)
    for working, count in sorted(rounds.items()):
        yield dataclasses.replace(
            transfer, times=transfer.times // ticks * count, groups=transfer.groups // dies * working
        )


def _occupancy(microbatches: int, dies: int) -> Counter[int]:
    """How many dies work -> in how many ticks."""
    ticks = microbatches + dies - 1
    return Counter(min(t + 1, ticks - t, microbatches, dies) for t in range(ticks))


def _numbers(mark: str, scopes: Sequence[str]) -> tuple[int, ...]:
    """Those in the first scope of this mark."""
    found = next((scope for scope in scopes if is_mark(scope) and scope.startswith(f"{mark}_")), "")
    return tuple(int(part) for part in found.removeprefix(mark).split("_") if part)
