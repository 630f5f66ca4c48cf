"""Wrapped: what encodings around another encoding share."""

import dataclasses
from typing import Any

from snap_jax.encodings.base import Encoding


class Wrapped(Encoding):
    """An encoding around another one, which answers for its threshold and its symbols.

    A subclass is a dataclass with the field `encoding`, marked with `learnable("encoding")`, and defines `encode`,
    `decode` and what it sends beside the spikes.

    >>> from snap_jax.encodings import Outliers, Ternary
    >>> Outliers(Ternary(2.0)).threshold, Outliers(Ternary(2.0)).with_threshold(3.0).encoding.threshold
    (2.0, 3.0)
    """

    encoding: Any

    @property
    def threshold(self):  # pyright: ignore[reportIncompatibleVariableOverride]
        """That of the encoding."""
        return self.encoding.threshold

    @property
    def positive(self):  # pyright: ignore[reportIncompatibleVariableOverride]
        """Those of the encoding."""
        return self.encoding.positive

    @property
    def relative(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the threshold of the encoding is in units of a scale."""
        return self.encoding.relative

    @property
    def symbols(self):
        """Those of the encoding."""
        return self.encoding.symbols

    @property
    def density(self):
        """That of the encoding."""
        return self.encoding.density

    def with_threshold(self, threshold):
        """Return the same around the encoding with another threshold."""
        return dataclasses.replace(self, encoding=self.encoding.with_threshold(threshold))  # pyright: ignore[reportArgumentType]

    def part(self, cut):
        """Return the same around the encoding of a part."""
        return dataclasses.replace(self, encoding=self.encoding.part(cut))  # pyright: ignore[reportArgumentType]

    def lowered(self, limit):
        """Return the same around the encoding with a lower limit."""
        return dataclasses.replace(self, encoding=self.encoding.lowered(limit))  # pyright: ignore[reportArgumentType]

    def normalized(self, x):
        """Return `x` as the encoding sees it."""
        return self.encoding.normalized(x)

    def initial_threshold(self, sample):
        """Return that of the encoding."""
        return self.encoding.initial_threshold(sample)
