"""A model reduced to what a sweep varies: how much it moves and how much it computes.

In each layer a block of width w on t tokens takes 12 w^2 t multiply-accumulates (attention projections 4 w^2,
feed-forward 8 w^2). Depending on the layout it moves

    tensor     two psums of t w elements per layer (Megatron-LM: after attention, after feed-forward)
    pipeline   one ppermute of t w elements per stage boundary, chips - 1 of them at any depth

Attention scores and the vocabulary are left out. Ternary spikes of firing rate p take, in bits per element,

    min(2, 1 + p, p (3 + log2(1/p)))    packed, bitmap and signs, or addresses (Elias-Fano) and signs
"""

import dataclasses
import math
from typing import Literal, final

from snap_jax.cost.units import CostError, Number
from snap_jax.traffic.operations import OperationCount, Operations
from snap_jax.traffic.transfer import Traffic, Transfer

Layout = Literal["tensor", "pipeline"]
Variant = Literal["dense", "hybrid", "spiking"]
VARIANTS: tuple[Variant, ...] = ("dense", "hybrid", "spiking")


def spike_bits(firing_rate: Number) -> Number:
    """Return the bits per element of the shortest wire at a firing rate.

    >>> spike_bits(0.5), round(spike_bits(1 / 64), 3)
    (1.5, 0.141)
    """
    if not 0 <= firing_rate <= 1:
        raise CostError(f"spike_bits: firing_rate={firing_rate}; want 0 to 1")
    events = firing_rate * (3 - math.log2(firing_rate)) if firing_rate else 0.0
    return min(2.0, 1 + firing_rate, events)


@final
@dataclasses.dataclass(frozen=True)
class Workload:
    """One point of a sweep: the forward pass of a stack of blocks, split over chips.

    Attributes:
      width: elements of a token's activation.
      depth: number of layers.
      tokens: tokens in one run.
      chips: chips that share the model.
      bits: bits per dense element on the wire.
      firing_rate: firing rate at the boundaries ("hybrid") or everywhere ("spiking").
      time_steps: time steps of the spiking variant; the hybrid sends one.
      bandwidth: factor on the bandwidth of every link.
      layout: how the model is split.
      dtype: dtype of the arithmetic, as the compute unit names it.
      axis: name of the mesh axis.
    """

    width: int = 1024
    depth: int = 12
    tokens: int = 1024
    chips: int = 4
    bits: Number = 16
    firing_rate: Number = 0.1
    time_steps: int = 4
    bandwidth: Number = 1.0
    layout: Layout = "tensor"
    dtype: str = "float32"
    axis: str = "chip"

    def operations(self, variant: Variant) -> Operations:
        """Return what one run computes, on all chips together."""
        macs = 12 * self.width**2 * self.tokens * self.depth
        dense = Operations((OperationCount("mac", self.dtype, macs),))
        return dense.spiking(self.firing_rate, self.time_steps) if variant == "spiking" else dense

    def traffic(self, variant: Variant) -> Traffic:
        """Return what one run moves: dense elements, or spikes (of every time step when all is spiking)."""
        if variant == "dense":
            return self._moves(self.bits, None)
        time_steps = self.time_steps if variant == "spiking" else 1
        # Sums of ternary spikes over n chips take one of 2n + 1 values.
        sums = math.ceil(math.log2(2 * self.chips + 1))
        return self._moves(spike_bits(self.firing_rate) * time_steps, sums * time_steps)

    def _moves(self, bits: Number, sum_bits: Number | None) -> Traffic:
        if self.layout == "pipeline":
            return Traffic((self._transfer("ppermute", bits, times=1),))
        if sum_bits is None:
            return Traffic((self._transfer("psum", bits, times=2 * self.depth),))
        first = self._transfer("all_to_all", bits, times=2 * self.depth)
        return Traffic((first, self._transfer("all_gather", sum_bits / self.chips, times=2 * self.depth)))

    def _transfer(self, op: str, bits: Number, times: int) -> Transfer:
        elements = self.tokens * self.width
        size = math.ceil(elements * bits / 8)
        pairs = self.chips - 1 if op == "ppermute" else 0
        return Transfer(op, (self.axis,), self.chips, "uint8", size, times, pairs=pairs, shape=(size,))
