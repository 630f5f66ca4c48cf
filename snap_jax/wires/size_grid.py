"""Payload sizes on a grid, so that few collectives serve many sizes.

Invariant: the sizes of a grid are `most - k unit`, for k below a power of two. So a size is a first part, which is
always there, and those of the parts `unit, 2 unit, 4 unit, ...` whose bits are set: 8 such parts make 256 sizes.
"""

PARTS = 8  # at most, besides the first
LEAST_UNIT = 32  # bytes: a shorter part saves less than a message of its own costs


def sizes(most: int) -> tuple[int, ...]:
    """Return the sizes up to `most` bytes, rising.

    >>> sizes(63), sizes(64), sizes(130)
    ((63,), (32, 64), (34, 66, 98, 130))
    """
    count = _count(most)
    unit = most >> count
    return tuple(most - k * unit for k in reversed(range(2**count)))


def round_up(nbytes: int, most: int) -> int:
    """Return the smallest of `sizes(most)` that holds `nbytes`, at most `most`.

    >>> round_up(35, 130), round_up(1, 130), round_up(99, 130)
    (66, 34, 130)
    """
    count = _count(most)
    unit = most >> count
    return most - unit * max(0, min((most - nbytes) // unit, 2**count - 1)) if count else most


def parts(rising: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the lengths of the parts that make up `rising` sizes, or `None` where they lie on no grid.

    Every size is the first length and a sum of some of the others.

    >>> parts((34, 66, 98, 130)), parts((66, 130)), parts((34, 67, 130))
    ((34, 32, 64), (34, 32, 64), None)
    """
    count = _count(rising[-1])
    unit = rising[-1] >> count
    first = rising[-1] - unit * (2**count - 1)
    if any(size < first or (size - first) % unit for size in rising):
        return None
    return (first, *(unit << i for i in range(count)))


def _count(most: int) -> int:
    """Return how many parts besides the first a payload of at most `most` bytes has."""
    return min(PARTS, max(0, (most // LEAST_UNIT).bit_length() - 1))
