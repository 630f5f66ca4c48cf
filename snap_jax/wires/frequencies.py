"""Frequency tables for entropy coding: which symbols are likely.

Law: the frequencies of each table are at least 1 and add up to `TOTAL`, so every symbol can be coded.

One book of tables serves everybody, and a byte names a table: humps of any mean and width, and silence among values of
any width. Sender and receiver take the book from the same constants; nothing is computed twice that could round in two
ways.
"""

import functools

import jax.numpy as jnp
import numpy as np

PRECISION = 12
TOTAL = 2**PRECISION
HUMPS = 11, 15  # means and widths
SILENT = 10, 9  # shares of zeros and widths: 255 tables in all
NARROWEST = 0.06  # spikes of which one in 2000 is not zero


@functools.lru_cache(maxsize=64)
def book(levels: int, lowest: int) -> np.ndarray:
    """Frequencies of the symbols `lowest, lowest + 1, ...`: int32 `[table, level]`.

    A hump is the logistic distribution rounded, `p(s) = F((s + 1/2 - m) / w) - F((s - 1/2 - m) / w)`; what lies outside
    counts for the outermost symbols. Means m lie evenly on 0.8 of the range, widths w geometrically up to half of it.
    Silence is a share of zeros from 0.2 to 0.998, among the other symbols of a hump around zero.

    >>> book(3, -1).shape, book(3, -1).sum(1).min().item(), book(3, -1).sum(1).max().item()
    ((255, 3), 4096, 4096)
    """
    widest = max(1.0, levels / 2)
    means = 0.8 * np.linspace(lowest, lowest + levels - 1, HUMPS[0])
    humps = _hump(levels, lowest, means[:, None], np.geomspace(NARROWEST, widest, HUMPS[1]))
    p = np.concatenate([humps.reshape(-1, levels), _silence(levels, lowest, widest).reshape(-1, levels)])
    counts = 1 + np.floor(p * (TOTAL - levels)).astype(np.int32)
    counts[np.arange(len(counts)), p.argmax(1)] += TOTAL - counts.sum(1, dtype=np.int32)
    return counts


def _hump(levels: int, lowest: int, mean, width):
    bounds = np.concatenate([[-np.inf], lowest + np.arange(1, levels) - 0.5, [np.inf]])
    scaled = (bounds - np.expand_dims(mean, -1)) / np.expand_dims(width, -1)
    return np.diff(0.5 + 0.5 * np.tanh(scaled / 2))


def _silence(levels: int, lowest: int, widest: float):
    silent = 1 - np.geomspace(0.8, 0.002, SILENT[0])[:, None, None]
    values = _hump(levels, lowest, 0.0, np.geomspace(0.3, widest, SILENT[1]))
    zero = lowest + np.arange(levels) == 0
    values = np.where(zero, 0, values + 1e-9)
    return np.where(zero, silent, (1 - silent) * values / values.sum(-1, keepdims=True))


def edges(levels: int, lowest: int) -> np.ndarray:
    """Where each level begins in `range(TOTAL)`, and the end: int32 `[table, level + 1]`."""
    return np.pad(np.cumsum(book(levels, lowest), axis=1, dtype=np.int32), ((0, 0), (1, 0)))


def bits(levels: int, lowest: int) -> np.ndarray:
    """What each level costs, `log2(TOTAL / frequency)`: float32 `[table, level]`."""
    return np.log2(TOTAL / book(levels, lowest)).astype(np.float32)


def choose(counts, levels: int, lowest: int):
    """For rows of symbol counts the table that codes each in the fewest bits, and those bits."""
    cost = counts.astype(jnp.float32) @ bits(levels, lowest).T
    return jnp.argmin(cost, -1).astype(jnp.uint8), jnp.min(cost, -1)
