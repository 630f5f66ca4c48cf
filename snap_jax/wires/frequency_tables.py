"""Frequency tables for entropy coding: which symbols are likely.

Invariant: the frequencies of each table are at least 1 and add up to `TOTAL`, so every symbol can be coded.

One set of 255 tables serves everybody, and a byte names a table: bell curves of any mean and width, and zeros among
values of any width. Sender and receiver take the tables from the same constants, so nothing can round in two ways.
"""

import functools

import jax.numpy as jnp
import numpy as np

PRECISION = 12
TOTAL = 2**PRECISION
HUMPS = 11, 15  # means and widths
SILENT = 10, 9  # shares of zeros and widths: 255 tables in all
NEAR = 0.5  # symbols between the means next to zero
NARROWEST = 0.06  # spikes of which one in 2000 is not zero


Rows = tuple[tuple[int, ...], ...]


def fit(counts, most: int = 128) -> Rows:
    """Return tables fitted to how often each symbol occurred in each channel, `[channel, level]`; at most `most`.

    If there are more channels, similar ones share a table (k-means of their code lengths).

    >>> fit(np.array([[30, 2, 0], [0, 0, 8]]))
    ((3816, 267, 13), (50, 50, 3996))
    """
    shares = (np.asarray(counts, np.float64) + 0.1) / (np.asarray(counts).sum(-1, keepdims=True) + 0.1 * len(counts[0]))
    if len(shares) > most:
        from scipy.cluster import vq  # slow to import, and only needed here

        shares = np.exp2(vq.kmeans2(np.log2(shares), most, minit="++", rng=0)[0])
    return tuple(sorted(set(rounded(shares)), reverse=True))


def rounded(shares: np.ndarray) -> Rows:
    """Return tables with these shares of their symbols, `[table, level]`.

    >>> rounded(np.array([[3.0, 1.0, 0.0]]))
    ((3071, 1024, 1),)
    """
    tables = 1 + np.floor(shares / shares.sum(-1, keepdims=True) * (TOTAL - shares.shape[1])).astype(int)
    tables[np.arange(len(tables)), tables.argmax(1)] += TOTAL - tables.sum(1)
    return tuple(map(tuple, tables.tolist()))


@functools.lru_cache(maxsize=64)
def book(levels: int, lowest: int, learned: Rows = ()) -> np.ndarray:
    """Return the frequencies of the symbols `lowest, lowest + 1, ...`: int32 `[table, level]`.

    A bell curve is the logistic distribution rounded, `p(s) = F((s + 1/2 - m) / w) - F((s - 1/2 - m) / w)`; what lies
    outside counts for the outermost symbols. Means m lie evenly on 0.8 of the range, widths w geometrically up to half
    of it.
    The other tables have a share of zeros from 0.2 to 0.998 among the symbols of a bell curve around zero.

    The rows of `learned` come first and replace as many of these.

    >>> book(3, -1).shape, book(3, -1).sum(1).min().item(), book(3, -1).sum(1).max().item()
    ((255, 3), 4096, 4096)
    """
    widest = max(1.0, levels / 2)
    means = _means(lowest, lowest + levels - 1)
    humps = _hump(levels, lowest, means[:, None], np.geomspace(NARROWEST, widest, HUMPS[1]))
    p = np.concatenate([humps.reshape(-1, levels), _silence(levels, lowest, widest).reshape(-1, levels)])
    counts = 1 + np.floor(p * (TOTAL - levels)).astype(np.int32)
    counts[np.arange(len(counts)), p.argmax(1)] += TOTAL - counts.sum(1, dtype=np.int32)
    return np.concatenate([np.asarray(learned, np.int32).reshape(-1, levels), counts])[: len(counts)]


def _means(lowest: int, highest: int) -> np.ndarray:
    even = np.linspace(lowest, highest, HUMPS[0])
    if highest - lowest <= NEAR * (HUMPS[0] - 1) / 0.8 or not lowest < 0 < highest:
        return 0.8 * even
    places, reach = np.linspace(-1, 1, HUMPS[0]), 0.8 * min(-lowest, highest)
    bends = np.linspace(0.1, 12, 1000)
    first = reach * np.sinh(bends * places[-(HUMPS[0] // 2)]) / np.sinh(bends)
    bend = bends[np.abs(first - NEAR).argmin()]
    return reach * np.sinh(bend * places) / np.sinh(bend)


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


@functools.lru_cache(maxsize=64)
def edges(levels: int, lowest: int, learned: Rows = ()) -> np.ndarray:
    """Return where each level begins in `range(TOTAL)`, and the end: uint16 `[table, level + 1]`.

    Levels stand in the order 0, 1, ..., -2, -1: a coder whose state is 0 stays there while spikes are 0, and takes no
    bits.
    """
    rolled = np.roll(book(levels, lowest, learned), -zero_level(levels, lowest), axis=1)
    return np.pad(np.cumsum(rolled, axis=1), ((0, 0), (1, 0))).astype(np.uint16)


def zero_level(levels: int, lowest: int) -> int:
    """Return which level is the symbol 0, or 0 if none is."""
    return -lowest if lowest <= 0 < lowest + levels else 0


def entries(edges):
    """Return rows of edges as entries, uint32 `[row, level]`: `width - 1` in 12 bits, `begin` in 12, the level in 8."""
    begin, end = edges[:, :-1].astype(jnp.uint32), edges[:, 1:].astype(jnp.uint32)
    return (end - begin - 1) << 20 | begin << 8 | jnp.arange(begin.shape[1], dtype=jnp.uint32)[None]


def begin_of(entry):
    """Return where the interval of an entry begins."""
    return entry >> 8 & (TOTAL - 1)


def width_of_entry(entry):
    """Return the width of its interval."""
    return (entry >> 20) + 1


def search(entries, row, slot, levels: int):
    """Return the entry whose interval holds `slot`, by halving, in a row of `levels` entries each, flat."""
    level = jnp.zeros_like(row)
    for half in reversed(range((levels - 1).bit_length())):
        above = jnp.minimum(level + 2**half, levels - 1)
        level = jnp.where(slot >= begin_of(entries.at[row + above].get(mode="clip")), above, level)
    return entries.at[row + level].get(mode="clip")


@functools.lru_cache(maxsize=64)
def bits(levels: int, lowest: int, learned: Rows = ()) -> np.ndarray:
    """Return what each level costs, `log2(TOTAL / frequency)`: float32 `[table, level]`, in the order of `edges`."""
    return np.log2(TOTAL / np.diff(edges(levels, lowest, learned).astype(np.int32))).astype(np.float32)


def cost(counts, levels: int, lowest: int, learned: Rows = ()):
    """Return the bits of rows of symbol counts under each table: float32 `[table, row]`."""
    return jnp.dot(bits(levels, lowest, learned), counts.astype(jnp.float32).T, precision="highest")
