"""Traffic with measured payload sizes: a trace counts the largest payload that a `switch`, or several `cond`, may send.

What is selected sends `sent_bytes` in the result, up to one byte per message; nothing else changes.
"""

import dataclasses
import math
from collections.abc import Callable

from snap_jax.traffic.transfer import Traffic, Transfer


def with_measured_sizes(traffic: Traffic, keep: Callable[[Transfer], bool], sent_bytes: float) -> Traffic | None:
    """Return the traffic of a run in which the selected switches together sent `sent_bytes`.

    Args:
      traffic: traffic of a program that selects payload sizes as it runs.
      keep: selects the transfers that carry payloads, inside branches and beside them.
      sent_bytes: bytes of these transfers that left all devices, measured. Those inside branches shrink by one factor,
        and none grows.

    Returns:
      Traffic without choices; None if no switch holds such a transfer.

    >>> from snap_jax.traffic.branch_choice import choose
    >>> long, short = (Traffic((Transfer("psum", ("x",), 2, "uint8", n),)) for n in (80, 10))
    >>> with_measured_sizes(choose("layer", [long, short]), lambda t: True, 40.0).sent_bytes
    40
    """
    picked = [t for choice in traffic.choices for t in choice.branches[choice.counted] if keep(t)]
    most = sum(t.sent_bytes for t in picked)
    if not most:
        return None
    always = sum(t.sent_bytes for t in traffic if keep(t)) - most
    share = min(1.0, max(0.0, sent_bytes - always) / most)
    left = list(traffic.transfers)
    for transfer in picked:
        nbytes = math.ceil(transfer.bytes * share)
        left[left.index(transfer)] = dataclasses.replace(transfer, bytes=nbytes, shape=(nbytes,))
    return Traffic(tuple(left))
