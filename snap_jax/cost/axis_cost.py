"""One transfer over one mesh axis, priced.

Law: energy is that of every execution in every group; time is that of every execution, groups side by side.
"""

import dataclasses
from typing import final

from snap_jax.cost.links import Link
from snap_jax.cost.rounds import Plan
from snap_jax.cost.topologies.base import Topology
from snap_jax.cost.units import Joules, Number, Range, Seconds
from snap_jax.traffic.transfer import Transfer

# A message is in the bandwidth regime when latency is at most this part of its bytes' time; beyond, an
# alpha-beta model is not to be trusted: fitted to four A100 it still missed a 1 MiB message by 2.7x.
BANDWIDTH_REGIME = 0.1


@final
@dataclasses.dataclass(frozen=True)
class Leg:
    """The part of one transfer that runs over one mesh axis.

    Attributes:
      index: place of the transfer in the traffic.
      transfer: what it belongs to.
      axis: mesh axis.
      topology: wiring of that axis.
      phases: rounds of one execution in one group.
      parallel: groups that do the same side by side, on links of their own.
      coding_s: time to encode and decode, all executions; zero on all legs of a transfer but the first.
    """

    index: int
    transfer: Transfer
    axis: str
    topology: Topology
    phases: Plan
    parallel: int
    coding_s: Seconds

    @property
    def link(self) -> Link:
        """What joins the chips of the axis."""
        return self.topology.link

    @property
    def energy_j(self) -> Joules:
        """Energy on the links. Raises CostError when pj_per_bit has no source."""
        once = Joules.total(phase.joules(self.link) for phase in self.phases)
        return once * (self.parallel * self.transfer.times)

    @property
    def link_s(self) -> Seconds:
        """Time on the links, one execution after another. Raises CostError when the latency has no source."""
        return Seconds.total(phase.seconds(self.link) for phase in self.phases) * self.transfer.times

    @property
    def serialisation_s(self) -> Seconds:
        """Time of the bytes alone: a lower bound that needs no latency figure."""
        return Seconds.total(phase.serialisation(self.link) for phase in self.phases) * self.transfer.times

    @property
    def wire_bytes(self) -> Number:
        """Bytes that cross links, packet overhead included, each link counted."""
        once = sum(phase.crossings * self.link.wire_bytes(phase.message_bytes) for phase in self.phases)
        return once * self.parallel * self.transfer.times

    @property
    def in_bandwidth_regime(self) -> bool:
        """Whether bytes, not latency, decide its time; False where the latency has no source."""
        half = self.half_size_bytes
        if half is None:
            return not self.phases
        return half.high <= BANDWIDTH_REGIME * self.transfer.bytes

    @property
    def half_size_bytes(self) -> Range | None:
        """Operand bytes at which latency takes as long as the bytes do; None where either has no source."""
        if self.link.latency_ns is None or self.link.gbyte_per_s is None or not self.phases:
            return None
        latency = Seconds.total(phase.latency(self.link) for phase in self.phases)
        bytes_ = Seconds.total(phase.serialisation(self.link) for phase in self.phases)
        halves = sorted((latency.low / bytes_.low, latency.high / bytes_.high))
        return Range(halves[0], halves[1]) * self.transfer.bytes
