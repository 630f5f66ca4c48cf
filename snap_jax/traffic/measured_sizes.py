"""Traffic with the payloads that were sent, where a trace counts the largest that a switch may send.

Law: it sends `sent_bytes` in the switches that are asked for, up to a byte a message, and elsewhere what it did.
"""

import dataclasses
import math
from collections.abc import Callable

from snap_jax.traffic.transfer import Traffic, Transfer


def taken(traffic: Traffic, keep: Callable[[Transfer], bool], sent_bytes: float) -> Traffic | None:
    """What a run sends whose switches, together, sent so many bytes.

    Args:
      traffic: of a program that picks payload sizes as it runs.
      keep: which transfers of the branches count.
      sent_bytes: that left all devices by them, measured. Each is made smaller by the same factor, and none larger.

    Returns:
      Traffic without choices; `None` where no switch holds such a transfer, so that there was nothing to pick.

    >>> from snap_jax.traffic.transfer import choose
    >>> long, short = (Traffic((Transfer("psum", ("x",), 2, "uint8", n),)) for n in (80, 10))
    >>> taken(choose("layer", [long, short]), lambda t: True, 40.0).sent_bytes
    40
    """
    picked = [t for choice in traffic.choices for t in choice.branches[choice.counted] if keep(t)]
    most = sum(t.sent_bytes for t in picked)
    if not most:
        return None
    left = list(traffic.transfers)
    for transfer in picked:
        nbytes = math.ceil(transfer.bytes * min(1.0, sent_bytes / most))
        left[left.index(transfer)] = dataclasses.replace(transfer, bytes=nbytes, shape=(nbytes,))
    return Traffic(tuple(left))
