"""Records on disk that are indexed like the array they would make.

`records[places]` equals `records[:][places]`, without reading any other record.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from snap_jax.errors import UsageError


@dataclasses.dataclass(frozen=True, eq=False)
class Records:
    """Images, or their labels, that stay on disk until a step reads them.

    Attributes:
      source: random access to records, such as `tfds.data_source`.
      read: one record -> its row, of shape `row` and type `dtype`.
      row: shape of a row.
      dtype: of a row.

    Raises:
      UsageError: when a record cannot be read.

    >>> squares = Records([{"x": i} for i in range(9)], lambda record: record["x"] ** 2, (), np.dtype("int32"))
    >>> squares.shape, squares[::4].tolist(), squares[np.array([3, 3])].tolist()
    ((9,), [0, 16, 64], [9, 9])
    """

    source: Sequence[Any]
    read: Callable[[Any], Any]
    row: tuple[int, ...]
    dtype: np.dtype

    def __len__(self) -> int:
        return len(self.source)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the array they would make."""
        return (len(self), *self.row)

    def __getitem__(self, places: slice | Int[np.ndarray, " n"]) -> Shaped[np.ndarray, "..."]:
        """Return the rows at these places."""
        rows = np.empty((len(chosen := np.arange(len(self))[places]), *self.row), self.dtype)
        for i, place in enumerate(chosen):
            rows[i] = self._row(int(place))
        return rows

    def _row(self, place: int) -> Any:
        try:
            return self.read(self.source[place])
        except Exception as error:  # decoders raise errors of many kinds
            raise UsageError(f"cannot read record {place} ({error}): prepare the data set again") from error
