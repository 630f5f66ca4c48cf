"""Read JSON that may have been edited by hand; errors name the file, the field and what was found."""

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from snap_jax.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Fields:
    """One JSON object of a file.

    Attributes:
      file: file that was read.
      name: dotted path to the object in the file, "" for the whole.
      data: its fields.
    """

    file: Path
    name: str
    data: dict[str, Any]

    def section(self, key: str) -> "Fields":
        """Return the object under `key`; an empty one if it is absent or null."""
        value = self.data.get(key)
        return Fields(self.file, self._path(key), self._is(key, {} if value is None else value, dict, "an object"))

    def items(self, key: str) -> Iterator["Fields"]:
        """Return the objects in the list under `key`, none if it is absent or null."""
        values = self._is(key, self.data.get(key) or [], list, "a list")
        for i, value in enumerate(values):
            name = f"{key}[{i}]"
            yield Fields(self.file, self._path(name), self._is(name, value, dict, "an object"))

    def text(self, key: str) -> str:
        """Return the string under `key`."""
        return self._is(key, self.data.get(key), str, "a string")

    def maybe_text(self, key: str) -> str | None:
        """Return the string under `key`, or None if it is absent or null."""
        return None if self.data.get(key) is None else self.text(key)

    def number(self, key: str) -> float:
        """Return the number under `key`; NaN and infinities count as numbers."""
        value = self.data.get(key)
        if isinstance(value, bool):  # which Python takes for an int
            raise self.error(key, "a number")
        try:
            return float(self._is(key, value, (int, float), "a number"))
        except OverflowError:
            raise self.error(key, "a number") from None

    def size(self, key: str) -> float:
        """Return the number under `key`, a count: finite and not negative."""
        value = self.number(key)
        if not 0 <= value < math.inf:
            raise self.error(key, "a count")
        return value

    def maybe_number(self, key: str) -> float | None:
        """Return the number under `key`, or None if it is absent or null."""
        return None if self.data.get(key) is None else self.number(key)

    def maybe_range(self, key: str) -> tuple[float, float] | None:
        """Return the pair [low, high] under `key`, or None if it is absent or null."""
        values = self.data.get(key)
        if values is None:
            return None
        if not isinstance(values, list) or len(values) != 2:
            raise self.error(key, "a pair [low, high]")
        ends = Fields(self.file, self._path(key), {"low": values[0], "high": values[1]})
        return ends.number("low"), ends.number("high")

    def maybe_numbers(self, key: str) -> tuple[float, ...]:
        """Return the list of numbers under `key`, empty if it is absent or null."""
        values = self._is(key, self.data.get(key) or [], list, "a list of numbers")
        listed = Fields(self.file, self._path(key), {f"[{i}]": value for i, value in enumerate(values)})
        return tuple(listed.number(i) for i in listed.data)

    def error(self, key: str, wanted: str) -> UsageError:
        """Return the error that the field `key` is not what was `wanted`."""
        found = "missing" if key not in self.data else f"{self.data[key]!r}"
        return UsageError(f"{self.file}: {self._path(key)} is {found}, not {wanted}: run the training again")

    def _is(self, key: str, value: Any, kind: type | tuple[type, ...], wanted: str) -> Any:
        if not isinstance(value, kind):
            raise self.error(key, wanted)
        return value

    def _path(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key


def parse(file: Path, text: str, line: int | None = None) -> Fields:
    """Parse a JSON object, from one line of the file or from the whole file.

    >>> parse(Path("result.json"), '{"seconds": 1.5}').number("seconds")
    1.5
    >>> parse(Path("result.json"), "{").number("seconds")
    Traceback (most recent call last):
    snap_jax.errors.UsageError: result.json is not JSON (...): run the training again
    """
    where = str(file) if line is None else f"{file}, line {line},"
    try:
        data = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{where} is not JSON ({error}): run the training again") from error
    if not isinstance(data, dict):
        raise UsageError(f"{where} holds {type(data).__name__}, not an object: run the training again")
    return Fields(file, "" if line is None else f"line {line}", data)
