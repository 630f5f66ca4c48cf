"""Side information: what it takes to tell a device the tokens that predict, where it does not read them itself."""

import statistics
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Integer

from snap_jax.wires import Rans, frequency_tables
from snap_jax.wires.base import pack

VOCABULARY = 256  # bytes
_RUNG_BYTES = 1  # the header of a payload says which size was taken


def token_wire(sample: Integer[Array | np.ndarray, "..."], vocabulary: int = VOCABULARY) -> Rans:
    """Return a wire for tokens with one frequency table that both sides hold: how often each occurs in a sample.

    >>> wire = token_wire(jnp.array([7, 7, 7, 9]))
    >>> wire.learned[0][7] > wire.learned[0][9] > wire.learned[0][8]
    True
    """
    counts = np.bincount(np.asarray(sample).reshape(-1), minlength=vocabulary)
    return Rans(ratio=1.02, learned=frequency_tables.fit(counts[None]))


def token_bits(wire: Rans, tokens: Int[Array, "..."], vocabulary: int = VOCABULARY) -> float:
    """Return the bits per token that these take on the wire, header included.

    >>> text = jnp.tile(jnp.array([7, 7, 7, 9]), 256)
    >>> round(token_bits(token_wire(text), text), 2), 8.0  # entropy coded, and as bytes
    (0.77, 8.0)
    """
    payload = pack(wire, tokens.reshape(-1).astype(jnp.int16), range(vocabulary))
    return 8 * (payload.size + _RUNG_BYTES) / tokens.size


def mean_token_bits(wire: Rans, payloads: Sequence[Array] | Array) -> float:
    """Return the mean of `token_bits` over payloads, each sent by itself.

    >>> text = jnp.tile(jnp.array([7, 7, 7, 9]), 256)
    >>> mean_token_bits(token_wire(text), [text, text]) == token_bits(token_wire(text), text)
    True
    """
    return statistics.mean(token_bits(wire, tokens) for tokens in payloads)
