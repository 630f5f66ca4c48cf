"""Traffic with the cheapest branch of every switch taken, where a trace counts the costliest.

Law: it sends `least_sent_bytes`; with the costliest branches priced too, the truth lies between.
"""

from snap_jax.cost.errors import CostError
from snap_jax.traffic.transfer import Choice, Traffic, Transfer


def cheapest(traffic: Traffic) -> Traffic:
    """Return what a run sends in which every `cond` and `switch` takes the branch that sends least.

    Raises:
      CostError: a choice whose counted branch is not part of the transfers.

    >>> from snap_jax.traffic.transfer import choose
    >>> long, short = (Traffic((Transfer("psum", ("x",), 2, "uint8", n),)) for n in (80, 10))
    >>> cheapest(choose("layer", [long, short])).sent_bytes
    20
    """
    kept = list(traffic.transfers)
    for choice in traffic.choices:
        first = _take_out(kept, choice)
        least = min(choice.branches, key=lambda branch: branch.least_sent_bytes)
        kept[first:first] = cheapest(least).transfers
    return Traffic(tuple(kept))


def _take_out(kept: list[Transfer], choice: Choice) -> int:
    """Remove the counted branch; return where it began."""
    first = len(kept)
    for transfer in choice.branches[choice.counted]:
        if transfer not in kept:
            raise CostError(
                f"cheapest: {transfer.op} of choice {choice.path!r} is not among the transfers; trace again"
            )
        first = min(first, kept.index(transfer))
        kept.remove(transfer)
    return first
