"""Large data as files that are mapped into memory, so that a process holds only what it reads of them."""

import tempfile
from collections.abc import Iterable

import numpy as np

from snap_jax.data.corpus import Text, as_text

_LARGE = 2**26  # bytes; what is smaller stays in memory


def mapped(parts: Iterable[bytes | memoryview | Text], large: int = _LARGE) -> Text:
    """Return the bytes of all parts, one after the other; from a temporary file without a name if they are large.

    The file is in the folder of the system for these (`TMPDIR`), and goes when the last array of it does.

    >>> mapped([b"ab", b"c"]).tobytes(), mapped([b"ab", b"c"], large=2).tobytes()
    (b'abc', b'abc')
    """
    parts, kept, size = iter(parts), [], 0
    for part in parts:
        kept.append(bytes(part))
        size += len(kept[-1])
        if size >= large:
            break
    else:
        return as_text(b"".join(kept))
    with tempfile.TemporaryFile() as file:
        for part in kept:
            file.write(bytes(part))
        kept.clear()
        for part in parts:
            file.write(bytes(part))
        file.flush()
        return np.asarray(np.memmap(file, np.uint8, "r"))
