"""Small pictures in few colours, as PNG files in a data URI (PNG 1.2, https://www.w3.org/TR/png-3/)."""

import base64
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int, int]  # red, green, blue, opacity, each 0 .. 255


def data_uri(pixels: NDArray[np.uint8], palette: Sequence[Colour]) -> str:
    """Write pixels [height, width], each an index into the palette of at most 256 colours, as a `data:` URI.

    >>> data_uri(np.zeros((1, 1), np.uint8), [(0, 0, 0, 255)])[:30]
    'data:image/png;base64,iVBORw0K'
    """
    height, width = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)  # 8 bits a pixel, each an index
    lines = np.pad(pixels, ((0, 0), (1, 0)))  # a line starts with its filter: 0, none
    parts = [
        _chunk(b"IHDR", header),
        _chunk(b"PLTE", bytes(part for colour in palette for part in colour[:3])),
        _chunk(b"tRNS", bytes(colour[3] for colour in palette)),
        _chunk(b"IDAT", zlib.compress(lines.tobytes(), 9)),
        _chunk(b"IEND", b""),
    ]
    file = b"\x89PNG\r\n\x1a\n" + b"".join(parts)
    return "data:image/png;base64," + base64.b64encode(file).decode()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
