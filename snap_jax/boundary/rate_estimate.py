"""Code length: what spikes will cost on an entropy-coding wire, as a number that a gradient can lower.

Law: the value is the entropy of the spikes with a distribution for each channel, `sum_c H_c / channels` bits an
element, which no wire that codes channel by channel can beat and `Rans` reaches within 2-9 %. The gradient is that of
the code lengths themselves: a spike that becomes a rarer symbol costs more.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Num

from snap_jax.encodings import Encoding

_UNSEEN = 0.1  # counts added to each symbol: an unseen one is rare, not impossible


def code_lengths(spikes: Num[Array, "... channels"], symbols: range) -> Float[Array, "channels levels"]:
    """Bits of each symbol in each channel, `log2(n / n_s)`, from how often it occurs in `spikes`.

    No gradient goes through the counts: at their optimum it would be zero.

    >>> [f"{bits:.2f}" for bits in code_lengths(jnp.array([[0], [0], [1], [0]]), range(2))[0].tolist()]
    ['0.44', '1.93']
    """
    rows = lax.stop_gradient(spikes).reshape(-1, spikes.shape[-1])
    counts = jnp.stack([jnp.sum(rows == symbol, 0, dtype=jnp.float32) for symbol in symbols], -1) + _UNSEEN
    return jnp.log2(counts.sum(-1, keepdims=True) / counts)


def bits_per_element(encoding: Encoding, x: Float[Array, "... channels"]) -> Float[Array, ""]:
    """Bits an element of `x` as `encoding` sends it, differentiable in `x` and in the threshold.

    `R = mean(l_c[s])`, and `dR/ds = (l_c[s + 1] - l_c[s - 1]) / 2`: what the next spike up costs more than the next one
    down. The surrogate of the encoding says how `s` follows `x`.

    Args:
      encoding: with a range of symbols; one whose spikes are floats (`Cast`) costs its size, whatever `x` is.
      x: of any float dtype; the last axis is that of the channels.

    >>> from snap_jax.encodings import Ternary
    >>> bits_per_element(Ternary(1.0), jnp.array([[0.1], [2.0], [0.3], [-1.5]])).round(2).item()
    1.5
    """
    spikes, _ = encoding.encode(x)
    symbols = encoding.symbols
    lengths = code_lengths(spikes, symbols)
    index = lax.stop_gradient(spikes).astype(jnp.int32) - symbols.start
    padded = jnp.concatenate([lengths[:, :1], lengths, lengths[:, -1:]], -1)
    slopes = (padded[:, 2:] - padded[:, :-2]) / 2
    linear = _of_symbol(slopes, index) * spikes
    return jnp.mean(_of_symbol(lengths, index) + linear - lax.stop_gradient(linear))


def _of_symbol(table: Float[Array, "channels levels"], index: Num[Array, "... channels"]) -> Float[Array, "..."]:
    return jnp.take_along_axis(table, index.reshape(-1, index.shape[-1]).T, 1).T.reshape(index.shape)


def firing_rate(encoding: Encoding, x: Float[Array, "... channels"]) -> Float[Array, ""]:
    """The share of elements that fire, with the surrogate's gradient: that of `|s|` for the first spike, 0 beyond.

    >>> from snap_jax.encodings import Count
    >>> firing_rate(Count(3, 1.0), jnp.array([[0.1], [2.0], [0.7], [-1.5]])).item()
    0.75
    """
    return jnp.mean(jnp.minimum(jnp.abs(encoding.encode(x)[0]), 1))


def spike_count(encoding: Encoding, x: Float[Array, "... channels"]) -> Float[Array, ""]:
    """Mean `|s|`, with the surrogate's gradient: the L1 rate of the literature.

    >>> from snap_jax.encodings import Count
    >>> spike_count(Count(3, 1.0), jnp.array([[0.1], [2.0], [0.7], [-1.5]])).item()
    1.25
    """
    return jnp.mean(jnp.abs(encoding.encode(x)[0]))


def saturation(encoding: Encoding, x: Float[Array, "... channels"]) -> Float[Array, ""]:
    """How often the first and the last symbol occur, over `2 / levels`, their share if all were as frequent.

    >>> from snap_jax.encodings import Count
    >>> saturation(Count(3, 1.0), jnp.array([[0.1], [2.0], [0.7], [-9.0]])).item()
    0.875
    """
    symbols = encoding.symbols
    if not symbols:
        return jnp.zeros(())
    spikes = lax.stop_gradient(encoding.encode(x)[0])
    ends = (spikes == symbols[0]) | (spikes == symbols[-1])
    return jnp.mean(ends.astype(jnp.float32)) * len(symbols) / 2
