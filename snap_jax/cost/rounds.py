"""Rounds of equal messages: the unit that time and energy are computed from.

Law: a phase takes rounds x (hops x latency + load x wire bytes / bandwidth) seconds and crossings x wire
bytes x 8 pJ/bit joules. Where latency hides behind the bytes (`overlapped`), the larger of the two terms
counts.
"""

import dataclasses
from typing import final

from snap_jax.cost.links import Link
from snap_jax.cost.units import Joules, Number, Seconds


@final
@dataclasses.dataclass(frozen=True)
class Phase:
    """Rounds that follow one another; in each, messages of one size travel at the same time.

    Attributes:
      algorithm: what the report calls it.
      rounds: how many.
      message_bytes: payload of one message.
      hops: link latencies that the farthest message of a round pays.
      load: messages that share the busiest link in a round.
      crossings: messages times links crossed, all rounds and all chips of one group together.
      overlapped: later messages hide the latency of earlier ones.

    >>> from snap_jax.cost import links
    >>> phase = Phase("ring", rounds=3, message_bytes=1e6, hops=1, load=1, crossings=12)
    >>> print(phase.seconds(links.ICI_V5E))
    69.7 µs
    """

    algorithm: str
    rounds: int
    message_bytes: Number
    hops: int
    load: Number
    crossings: Number
    overlapped: bool = False

    def seconds(self, link: Link) -> Seconds:
        """Time of all rounds. Raises CostError when the link's latency or bandwidth has no source."""
        latency, bytes_ = self.latency(link), self.serialisation(link)
        if self.overlapped:
            return Seconds(max(latency.low, bytes_.low), max(latency.high, bytes_.high))
        return latency + bytes_

    def latency(self, link: Link) -> Seconds:
        """Latency of all rounds: rounds x hops x latency of a link."""
        return link.alpha() * (self.rounds * self.hops)

    def serialisation(self, link: Link) -> Seconds:
        """Time of the bytes alone: rounds x load x wire bytes / bandwidth."""
        return link.serialisation(self.rounds * self.load * link.wire_bytes(self.message_bytes))

    def joules(self, link: Link) -> Joules:
        """Energy: crossings x wire bytes x 8 pJ/bit. Raises CostError without a source."""
        return link.energy(self.crossings * link.wire_bytes(self.message_bytes))


Plan = tuple[Phase, ...]
