"""Telemetry: what is sent at a boundary, counted inside the program that sends it.

Invariant: telemetry adds up. The telemetry of a tensor is the sum of that of its parts, so time steps, microbatches and
devices add. Rates are taken from the sums, last of all.
"""

import dataclasses
import operator
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from snap_jax._compat import as_varying, pytree, varying_axes
from snap_jax.boundary.counters import counted, counter, histogram, ratio
from snap_jax.codecs.codec import Codec
from snap_jax.collectives.message import Sent
from snap_jax.collectives.scale_exchange import AxisName
from snap_jax.collectives.size_agreement import agreed_rung

_COPIES = 64  # of a histogram, so that threads of a GPU that add to one symbol do not wait for each other


@pytree
@dataclasses.dataclass(frozen=True)
class Telemetry:
    """Counts of what was sent.

    The fields hold `counters`, which add as arrays do. Leading axes, the same for all three, are time steps or devices:
    what `lax.scan`, `vmap` or `shard_map` stacked. The properties give numbers: float32 while tracing, exact int64
    outside.

    Attributes:
      count_digits: how often each symbol was sent, `[..., levels, 3]`; `[..., 0, 3]` where floats are sent.
      element_digits: how many elements were sent, `[..., 3]`.
      byte_digits: payload bytes, of the sizes taken, `[..., 3]`.
      symbols: what a spike can be.
    """

    count_digits: Any
    element_digits: Any
    byte_digits: Any
    symbols: range = dataclasses.field(metadata={"static": True})

    @classmethod
    def of(cls, counts: Any, elements: Any, sent_bytes: Any, symbols: range) -> "Telemetry":
        """Return the telemetry of these numbers: Python integers of any size, or arrays of integers."""
        return cls(counter(counts), counter(elements), counter(sent_bytes), symbols)

    def __add__(self, other: "Telemetry") -> "Telemetry":
        """Return both together."""
        return jax.tree.map(operator.add, self, other)

    def __getitem__(self, index: Any) -> "Telemetry":
        """Return that of some time steps or devices: `index` is for the leading axes."""
        return jax.tree.map(lambda a: a[index], self)

    def total(self) -> "Telemetry":
        """Return the sum over all leading axes."""
        axes = tuple(range(self.element_digits.ndim - 1))
        return jax.tree.map(lambda a: a.sum(axes), self)

    @property
    def counts(self) -> Any:
        """How often each symbol was sent, `[..., levels]`."""
        return counted(self.count_digits)

    @property
    def elements(self) -> Any:
        """How many elements were sent, `[...]`."""
        return counted(self.element_digits)

    @property
    def sent_bytes(self) -> Any:
        """Payload bytes, `[...]`."""
        return counted(self.byte_digits)

    @property
    def firing_rate(self) -> Float[Array, "..."] | None:
        """The share of elements that are not 0; `None` where floats are sent, or 0 is no symbol."""
        if 0 not in self.symbols:
            return None
        return 1 - self._shares()[..., self.symbols.index(0)]

    @property
    def entropy_bits(self) -> Float[Array, "..."] | None:
        """Order-0 entropy of the symbols, bits per element: `-sum p log2 p`; `None` where floats are sent."""
        if not self.symbols:
            return None
        p = self._shares()
        return -jnp.sum(p * jnp.log2(jnp.where(p == 0, 1, p)), -1)

    @property
    def saturation(self) -> Float[Array, "..."]:
        """How often the first and the last symbol occur, over `2 / levels`; 0 where floats are sent."""
        if not self.symbols:
            return jnp.zeros(self.element_digits.shape[:-1])
        p = self._shares()
        return (p[..., 0] + p[..., -1]) * len(self.symbols) / 2

    @property
    def bits_per_element(self) -> Float[Array, "..."]:
        """`8 sent_bytes / elements`; NaN if nothing was sent."""
        return ratio(8 * self.sent_bytes, self.elements)

    def _shares(self) -> Float[Array, "... levels"]:
        return ratio(self.counts, self.elements[..., None])


def observe(codec: Codec | None, sent: Sent | Float[Array, "..."], axis_name: AxisName | None = None) -> Telemetry:
    """Count what was sent: a histogram of the spikes, elements and payload bytes; no gradient goes through it.

    Args:
      codec: how it was sent; `None` for as it is.
      sent: what `ppermute` or `all_gather` returned with `return_sent=True`: the spikes and the size that all devices
        agreed on, so nothing is computed twice. Or the tensor itself, before it is sent.
      axis_name: for the tensor itself, the mesh axis whose devices agree on a size; without, `sent_bytes` are those
        that the tensor needs alone.

    Returns:
      Telemetry without leading axes. `sent_bytes` is one payload, without thresholds that travel beside it.

    >>> from snap_jax.encodings import Ternary
    >>> seen = observe(Codec(Ternary(threshold=1.0)), jnp.array([0.1, -3.0, 0.7, 0.2]))
    >>> seen.counts.tolist(), seen.sent_bytes.item()
    ([1, 2, 1], 2)
    >>> seen.firing_rate.item(), seen.entropy_bits.item(), (seen + seen).bits_per_element.item()
    (0.5, 1.5, 4.0)
    """
    if not isinstance(sent, Sent):
        x = lax.stop_gradient(sent)
        if codec is None:
            return _varying(Telemetry.of(jnp.zeros(0, jnp.int32), x.size, x.nbytes, range(0)), x)
        spikes = codec.fire(x)
        rung, sizes = codec.draft(spikes.values)[0], codec.payload_sizes(x.shape)
        sent = Sent(spikes, rung if axis_name is None else agreed_rung(rung, sizes, axis_name))
    assert codec is not None, "spikes are sent by a codec"
    values, rung = lax.stop_gradient((sent.spikes.values, sent.rung))
    symbols = range(0) if codec.encoding.bit_patterns else codec.encoding.symbols
    counts = histogram(values, symbols, _COPIES).sum(0) if symbols else jnp.zeros(0, jnp.int32)
    sizes = jnp.stack([counter(nbytes) for nbytes in codec.payload_sizes(values.shape)])
    return _varying(Telemetry(counter(counts), counter(values.size), sizes[rung], symbols), values)


def _varying(seen: Telemetry, like: Array) -> Telemetry:
    return jax.tree.map(lambda a: as_varying(a, tuple(sorted(varying_axes(like)))), seen)
