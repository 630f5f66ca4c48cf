"""Which arrays of a pytree share a message."""

from typing import Any

import jax
import numpy as np

from snap_jax._compat import varying_axes
from snap_jax.codecs.codec import Codec

MOST = 2**28  # elements of one message


def messages(codecs: list[Codec | None], arrays: list[Any]) -> list[list[int]]:
    """Return which arrays travel together: those whose codecs differ in learnable arrays only, up to `MOST` elements.

    Arrays that vary over other mesh axes travel apart, or all would come back typed as varying over the axes of all.

    A codec whose wire has no room for a tensor that fires everywhere gives every array a payload of its own.
    """
    groups: dict[Any, list[list[int]]] = {}
    for place, codec in enumerate(codecs):
        alone = codec is not None and not codec.wire.holds(1.0)
        varying = frozenset().union(*map(varying_axes, (arrays[place], *jax.tree.leaves(codec))))
        group = groups.setdefault((jax.tree.structure(codec), varying, place if alone else None), [[]])
        if group[-1] and sum(np.size(arrays[i]) for i in (*group[-1], place)) > MOST:
            group.append([])
        group[-1].append(place)
    return [places for group in groups.values() for places in group if places]
