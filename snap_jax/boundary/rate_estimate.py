"""Rate estimate: what spikes will cost on an entropy-coding wire, as a number that a gradient can lower.

The value is the entropy of the spikes with one distribution per channel, `sum_c H_c / channels` bits per element. No
wire that codes channel by channel takes less, and `Rans` takes 2 to 9 % more. The gradient is that of the code lengths
themselves: a spike that becomes a rarer symbol costs more.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Num

from snap_jax.boundary.counters import histogram
from snap_jax.encodings import Encoding

_UNSEEN = 0.1  # counts added to each symbol: an unseen one is rare, not impossible


class BoundaryStats(NamedTuple):
    """What one boundary sends, or one per row: differentiable means over elements.

    Attributes:
      bits: entropy of the spikes per channel, bits per element (`bits_per_element`).
      rate: share of the elements that are not 0.
      spikes: mean `|s|`.
      log_threshold: mean over channels; 0 without a threshold.
      saturation: how often the first and the last symbol occur, over `2 / levels`, their share if all symbols were as
        frequent. From 1 on, a smaller threshold makes the spikes poorer, not richer.
    """

    bits: Float[Array, "*boundaries"]
    rate: Float[Array, "*boundaries"]
    spikes: Float[Array, "*boundaries"]
    log_threshold: Float[Array, "*boundaries"]
    saturation: Float[Array, "*boundaries"]


def boundary_stats(encoding: Encoding, x: Float[Array, "... channels"]) -> BoundaryStats:
    """Return what `encoding` sends of `x`.

    >>> from snap_jax.encodings import Ternary
    >>> [round(v.item(), 2) for v in boundary_stats(Ternary(1.0), jnp.array([[0.1], [2.0], [0.3], [-1.5]]))]
    [1.5, 0.5, 0.5, 0.0, 0.75]
    """
    if encoding.bit_patterns:
        none = jnp.zeros(())
        return BoundaryStats(bits_per_element(encoding, x), none, none, none, none)
    spikes, symbols = encoding.encode(x)[0], encoding.symbols
    threshold = 1.0 if encoding.threshold is None else encoding.threshold
    ends = lax.stop_gradient((spikes == symbols[0]) | (spikes == symbols[-1]))
    return BoundaryStats(
        bits=_mean_code_length(spikes, symbols),
        rate=jnp.mean(jnp.minimum(jnp.abs(spikes), 1)),
        spikes=jnp.mean(jnp.abs(spikes)),
        log_threshold=jnp.mean(jnp.log(jnp.asarray(threshold))),
        saturation=jnp.mean(ends.astype(jnp.float32)) * len(symbols) / 2,
    )


def bits_per_element(encoding: Encoding, x: Float[Array, "... channels"]) -> Float[Array, ""]:
    """Return the bits per element of `x` as `encoding` sends it, differentiable in `x` and in the threshold.

    `R = mean(l_c[s])` with code lengths `l_c`, and `dR/ds = (l_c[s + 1] - l_c[s - 1]) / 2`: the slope of the code
    lengths around `s`. The surrogate gradient of the encoding says how `s` follows `x`.

    Args:
      encoding: an encoding whose spikes are bit patterns of floats (`Cast`) costs their width, whatever `x` is.
      x: of any float dtype; the last axis is that of the channels.

    >>> from snap_jax.encodings import Cast, Ternary
    >>> x = jnp.array([[0.1], [2.0], [0.3], [-1.5]])
    >>> bits_per_element(Ternary(1.0), x).round(2).item(), bits_per_element(Cast("bfloat16"), x).item()
    (1.5, 16.0)
    """
    if encoding.bit_patterns:
        return jnp.float32((len(encoding.symbols) - 1).bit_length())
    return _mean_code_length(encoding.encode(x)[0], encoding.symbols)


def code_lengths(spikes: Num[Array, "... channels"], symbols: range) -> Float[Array, "channels levels"]:
    """Return the bits of each symbol in each channel, `log2(n / n_s)`, from how often it occurs in `spikes`.

    No gradient goes through the counts: at their optimum it would be zero.

    >>> [f"{bits:.2f}" for bits in code_lengths(jnp.array([[0], [0], [1], [0]]), range(2))[0].tolist()]
    ['0.44', '1.93']
    """
    counts = histogram(lax.stop_gradient(spikes), symbols, spikes.shape[-1]) + _UNSEEN
    return jnp.log2(counts.sum(-1, keepdims=True) / counts)


def _mean_code_length(spikes: Float[Array, "... channels"], symbols: range) -> Float[Array, ""]:
    lengths = code_lengths(spikes, symbols)
    index = (lax.stop_gradient(spikes).astype(jnp.int32) - symbols.start) // symbols.step
    padded = jnp.concatenate([lengths[:, :1], lengths, lengths[:, -1:]], -1)
    slopes = (padded[:, 2:] - padded[:, :-2]) / (2 * symbols.step)
    linear = _of_symbol(slopes, index) * spikes
    return jnp.mean(_of_symbol(lengths, index) + linear - lax.stop_gradient(linear))


def _of_symbol(table: Float[Array, "channels levels"], index: Int[Array, "... channels"]) -> Float[Array, "..."]:
    return jnp.take_along_axis(table, index.reshape(-1, index.shape[-1]).T, 1).T.reshape(index.shape)
