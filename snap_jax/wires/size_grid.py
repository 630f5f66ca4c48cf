"""Payload sizes that two messages make up, so that few collectives serve many sizes.

Invariant: a size is one of 8 lengths of a first message plus one of 8 lengths of a second, the shortest of which is
none. So 16 collectives make up to 64 sizes. A payload is rounded up by 5 % on average if it is sparse, by 4 % if it is
dense. As one message, 16 sizes at equal ratios would take 15 % from 1/64 of the largest on.
"""

from typing import NamedTuple

LEAST_STEP = 32  # bytes: a smaller difference is not worth a collective


class Shares(NamedTuple):
    """The lengths of a first and a second message besides none, in 1/1024 of the largest size."""

    first: tuple[int, ...]
    second: tuple[int, ...]


# Found by hill climbing: they round up least on average over sizes whose logarithm is uniform, from the least on.
SPARSE = Shares((18, 28, 43, 76, 151, 266, 466, 707), (4, 8, 20, 26, 87, 175, 317))  # from 1/64
DENSE = Shares((33, 61, 86, 115, 148, 168, 209, 276), (2, 9, 17, 49, 228, 407, 748))  # from 1/16; 33 for 1/32


def sizes(most: int, shares: Shares) -> tuple[int, ...]:
    """Return the sizes up to `most` bytes, rising.

    >>> sizes(63, SPARSE), sizes(64, SPARSE), sizes(130, SPARSE)
    ((63,), (32, 64), (33, 73, 90, 130))
    """
    return tuple(sorted({first + second for first, second in _pairs(most, shares)}))


def round_up(nbytes: int, most: int, shares: Shares) -> int:
    """Return the smallest of `sizes(most, shares)` that holds `nbytes`, at most `most`.

    >>> round_up(35, 130, SPARSE), round_up(1, 130, SPARSE), round_up(99, 130, SPARSE)
    (73, 33, 130)
    """
    return next((size for size in sizes(most, shares) if size >= nbytes), most)


def two_messages(rising: tuple[int, ...]) -> list[tuple[int, int]] | None:
    """Return the lengths of the two messages of each size; `None` where one collective per size does.

    >>> two_messages((66, 130)), two_messages(sizes(4096, SPARSE))[1]
    (None, (72, 32))
    """
    for shares in (SPARSE, DENSE):
        made = {first + second: (first, second) for first, second in _pairs(rising[-1], shares)}
        if made.keys() >= set(rising):
            pairs = [made[size] for size in rising]
            lengths = sum(len(set(each)) for each in zip(*pairs, strict=True))
            return pairs if lengths < len(rising) else None
    return None


def _pairs(most: int, shares: Shares) -> list[tuple[int, int]]:
    """Return the lengths of both messages; where several make one size, those with the longest first come last."""
    if most < 4 * LEAST_STEP:
        return [(first, 0) for first in ((most // 2, most) if most >= 2 * LEAST_STEP else (most,))]
    seconds = [0, *_apart(most, shares.second)]
    firsts = [*_apart(most, shares.first[:-1]), most - seconds[-1]]
    if len(firsts) > 1 and firsts[-1] - firsts[-2] < LEAST_STEP:
        firsts.pop(-2)
    return [(first, second) for first in firsts for second in seconds]


def _apart(most: int, shares: tuple[int, ...]) -> list[int]:
    """Return shares of `most`, those that are apart from zero and from the one before."""
    found = [0]
    for share in shares:
        if most * share // 1024 - found[-1] >= LEAST_STEP:
            found.append(most * share // 1024)
    return found[1:]
