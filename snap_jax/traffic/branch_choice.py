"""What counts of a `cond` or `switch`: the branch that sends most, with all branches kept beside it."""

from collections.abc import Sequence

from snap_jax.traffic.transfer import Choice, Traffic


def choose(path: str, branches: Sequence[Traffic]) -> Traffic:
    """Return the traffic of a `cond` or `switch`: the branch that sends most, and all branches as one `Choice`."""
    sent = [b.sent_bytes for b in branches]
    if not any(branches):
        return Traffic()
    counted = sent.index(max(sent))
    return Traffic(branches[counted].transfers, (Choice(path, tuple(branches), counted),))
