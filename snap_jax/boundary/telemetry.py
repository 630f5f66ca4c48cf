"""Telemetry: what the spikes that cross a boundary are like, counted inside the program that sends them.

Law: telemetry adds up. Observing a tensor equals the sum of observing its parts, in symbols and elements; so ticks,
microbatches and devices add, and rates are taken from the sums, last of all.
"""

import dataclasses
import operator
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Integer

from snap_jax._compat import as_varying, pytree, varying_axes
from snap_jax.codecs.codec import Codec
from snap_jax.collectives.scale_exchange import AxisName
from snap_jax.collectives.size_agreement import agreed_rung

_COPIES = 64  # of a histogram, so that threads of a GPU that add to one symbol do not wait for each other


@pytree
@dataclasses.dataclass(frozen=True)
class Telemetry:
    """Counts of what crossed, int32: below 2^31; `add` what is more on the host, as numpy int64.

    Leading axes, the same for all three, are ticks or devices: what `lax.scan`, `vmap` or `shard_map` stacked.

    Attributes:
      counts: how often each symbol crossed, `[..., levels]`; `[..., 0]` where floats cross, which are no spikes.
      elements: how many elements crossed.
      sent_bytes: payload bytes they took, of the rung taken.
      symbols: what a spike can be.
    """

    counts: Any  # Int[Array, "... levels"]
    elements: Any  # Int[Array, "..."]
    sent_bytes: Any  # Int[Array, "..."]
    symbols: range = dataclasses.field(metadata={"static": True})

    def __add__(self, other: "Telemetry") -> "Telemetry":
        """Both together."""
        return jax.tree.map(operator.add, self, other)

    def __getitem__(self, index: Any) -> "Telemetry":
        """Of some ticks or devices: indexes the leading axes."""
        return jax.tree.map(lambda a: a[index], self)

    def total(self) -> "Telemetry":
        """The sum over all leading axes."""
        axes = tuple(range(self.elements.ndim))
        return jax.tree.map(lambda a: a.sum(axes), self)

    @property
    def firing_rate(self) -> Float[Array, "..."] | None:
        """The share of elements that are not 0; `None` where no spikes cross, or 0 is no symbol."""
        if 0 not in self.symbols:
            return None
        return jnp.asarray(1 - self._shares()[..., self.symbols.index(0)])

    @property
    def entropy_bits(self) -> Float[Array, "..."] | None:
        """Order-0 entropy of the symbols, bits an element: `-sum p log2 p`; `None` where no spikes cross."""
        if not self.symbols:
            return None
        p = self._shares()
        return -jnp.sum(p * jnp.log2(jnp.where(p == 0, 1, p)), -1)

    @property
    def saturation(self) -> Float[Array, "..."]:
        """How often the first and the last symbol occur, over `2 / levels`; 0 where no spikes cross."""
        if not self.symbols:
            return jnp.zeros(self.elements.shape)
        p = self._shares()
        return jnp.asarray((p[..., 0] + p[..., -1]) * len(self.symbols) / 2)

    @property
    def bits_per_element(self) -> Float[Array, "..."]:
        """`8 sent_bytes / elements`; NaN if nothing crossed."""
        return jnp.asarray(8 * self.sent_bytes / self.elements)

    def _shares(self) -> Any:
        return self.counts / self.elements[..., None]


def observe(codec: Codec | None, x: Float[Array, "..."], axis_name: AxisName | None = None) -> Telemetry:
    """What is to know of `x` as `codec` sends it: one histogram of its spikes; no gradient goes through it.

    Inside `jit` the spikes are those that `all_gather` and `ppermute` compute anyway.

    Args:
      codec: how it is sent; `None` for as it is.
      x: on each device its own.
      axis_name: the mesh axis it crosses. All its devices take the rung of the largest, so a ladder agrees on it here
        once more (1 byte). Without, `sent_bytes` are those that `x` needs by itself.

    Returns:
      Telemetry without leading axes. `sent_bytes` is one payload, without thresholds that travel beside it.

    >>> from snap_jax.encodings import Ternary
    >>> seen = observe(Codec(Ternary(threshold=1.0)), jnp.array([0.1, -3.0, 0.7, 0.2]))
    >>> seen.counts.tolist(), seen.sent_bytes.item()
    ([1, 2, 1], 2)
    >>> seen.firing_rate.item(), seen.entropy_bits.item(), (seen + seen).bits_per_element.item()
    (0.5, 1.5, 4.0)
    """
    x = lax.stop_gradient(x)
    counts, symbols, nbytes = jnp.zeros(0, jnp.int32), range(0), x.nbytes
    if codec is not None:
        rung = codec.draft(codec.spikes(x))[0]
        if axis_name is not None:
            rung = agreed_rung(rung, codec.sizes(x.size), axis_name)
        nbytes = codec.sent_bytes(x, rung)
        if not codec.encoding.bit_patterns:
            symbols = codec.encoding.symbols
            counts = _histogram(codec.spikes(x), symbols)
    seen = Telemetry(counts, jnp.asarray(x.size, jnp.int32), jnp.asarray(nbytes, jnp.int32), symbols)
    return jax.tree.map(lambda a: as_varying(a, tuple(sorted(varying_axes(x)))), seen)


def _histogram(spikes: Integer[Array, "..."], symbols: range) -> Int[Array, " levels"]:
    """How often each symbol occurs: on XLA:CPU one addition in memory an element, whatever the number of symbols.

    A comparison and a sum a symbol costs as much for 3 symbols, hundreds of times for 255 (`benchmarks.telemetry`).
    """
    codes = spikes.reshape(-1).astype(jnp.int32) - symbols.start
    places = codes + len(symbols) * (jnp.arange(codes.size) % _COPIES)
    counts = jnp.zeros(_COPIES * len(symbols), jnp.int32).at[places].add(1)
    return counts.reshape(_COPIES, -1).sum(0)
