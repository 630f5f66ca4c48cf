"""The parameters of a stage end to end in vectors; those that devices divide, in a row for each device.

Invariant: `leaves(lay(leaves))` gives back the parameters; of one row, the parts that its device computes with.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

Name = Literal["stages", "shares"]
WHOLE: Name = "stages"
SHARES: Name = "shares"
Vector = Float[Array | np.ndarray, "..."]


@dataclasses.dataclass(frozen=True)
class PackedRows:
    """Where the parameters of one stage lie; hashable.

    `stages`, `[size]`, has those that every device of `tensor` holds whole. `shares`, `[devices, size]`, has the
    others; it exists only if there are several devices.

    Attributes:
      shapes: of the parameters, whole.
      splits: along which dimension each is divided; None for not at all.
      devices: that divide them.

    >>> rows = PackedRows(((2,), (2, 2)), (None, 1), devices=2)
    >>> vectors = rows.lay([jnp.array([8.0, 9.0]), jnp.array([[0.0, 1.0], [2.0, 3.0]])])
    >>> vectors["stages"].tolist(), vectors["shares"].tolist()
    ([8.0, 9.0], [[0.0, 2.0], [1.0, 3.0]])
    >>> [leaf.shape for leaf in rows.leaves({"stages": vectors["stages"], "shares": vectors["shares"][:1]})]
    [(2,), (2, 1)]
    """

    shapes: tuple[tuple[int, ...], ...]
    splits: tuple[int | None, ...]
    devices: int

    @property
    def names(self) -> tuple[Name, ...]:
        """Of the vectors that exist."""
        return (WHOLE, SHARES) if self.devices > 1 else (WHOLE,)

    def sizes(self, name: Name) -> list[int]:
        """Return how many numbers each parameter of that vector has in a row."""
        return [size for own, size in map(self._place, range(len(self.shapes))) if own == name]

    def begin(self, index: int) -> int:
        """Return where that parameter begins in its row."""
        places = [self._place(k) for k in range(index + 1)]
        return sum(size for name, size in places[:-1] if name == places[-1][0])

    def parts(self, name: Name, row: Vector) -> list[Array]:
        """Return the parameters of a vector, `[..., size]` each as they lie in it; the rest is padding.

        One `lax.split` does it: its transpose is one concatenation, that of a slice is an array of the full length.
        """
        sizes = self.sizes(name)
        return list(lax.split(jnp.asarray(row), [*sizes, row.shape[-1] - sum(sizes)], row.ndim - 1))[:-1]

    def lay(self, leaves: Sequence[Array]) -> dict[Name, Array]:
        """Return the vectors that hold these parameters."""
        found: dict[Name, list[Array]] = {name: [] for name in self.names}
        for index, (leaf, split) in enumerate(zip(leaves, self.splits, strict=True)):
            name, size = self._place(index)
            if name == SHARES:
                assert split is not None
                cut = leaf.reshape(*leaf.shape[:split], self.devices, -1, *leaf.shape[split + 1 :])
                found[name].append(jnp.moveaxis(cut, split, 0).reshape(self.devices, size))
            else:
                found[name].append(jnp.ravel(leaf))
        return {name: jnp.concatenate([self._nothing(name), *parts], -1) for name, parts in found.items()}

    def leaves(self, vectors: Mapping[str, Vector]) -> list[Array]:
        """Return the parameters: whole from all rows of `shares`, from one row the part of its device."""
        left = {name: iter(self.parts(name, vectors[name])) for name in self.names}
        return [self._shaped(index, next(left[self._place(index)[0]])) for index in range(len(self.shapes))]

    def _shaped(self, index: int, part: Array) -> Array:
        shape, split = self.shapes[index], self.splits[index]
        if split is None or self.devices == 1:
            return part.reshape(shape)
        rows = len(part)
        cut = part.reshape(rows, *shape[:split], shape[split] // self.devices, *shape[split + 1 :])
        return jnp.moveaxis(cut, 0, split).reshape(*shape[:split], -1, *shape[split + 1 :])

    def _place(self, index: int) -> tuple[Name, int]:
        size = math.prod(self.shapes[index])
        return (WHOLE, size) if self.devices == 1 or self.splits[index] is None else (SHARES, size // self.devices)

    def _nothing(self, name: Name) -> Array:
        return jnp.zeros((self.devices, 0) if name == SHARES else 0)
