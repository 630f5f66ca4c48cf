"""Small data sets in the files of MNIST."""

import struct

import numpy as np


def write_idx(folder, part, rng, count):
    """Pictures of 4 x 4 pixels whose class is where their bright row is, as `part` of MNIST."""
    pixels, labels = rng.integers(0, 256, (count, 4, 4), np.uint8), np.arange(count, dtype=np.uint8) % 3
    pixels[np.arange(count), labels] = 255  # a bright row says which class it is
    (folder / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x803, count, 4, 4) + pixels.tobytes())
    (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, count) + labels.tobytes())
