"""Read JSON and TOML that may have been edited, damaged or made by others; errors name the file and the full path.

What a file must hold is a pydantic model: types are strict, numbers and lists have bounds, and nothing is guessed.
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from snap_jax.errors import UsageError, requires_extra

with requires_extra("report", "reading JSON and TOML"):  # other files take these names from here
    import pydantic
    from pydantic import AfterValidator as AfterValidator
    from pydantic import BeforeValidator as BeforeValidator
    from pydantic import ConfigDict, Field, ValidationError
    from pydantic import field_validator as field_validator
    from pydantic import model_validator as model_validator

MOST_BYTES = 2**26  # of a file that is read; `traffic.json` of a thousand transfers has some hundred thousand
MOST_ITEMS = 2**20  # of a list in a file
_MOST_SHOWN = 60  # characters of a value in a message

Text = Annotated[str, Field(max_length=2**16)]
Number = Annotated[float, Field(allow_inf_nan=True)]
Count = Annotated[float, Field(ge=0, allow_inf_nan=False)]  # of bytes or of predictions, which may be a mean
Whole = Annotated[int, Field(ge=0, lt=2**63)]

# What was wanted, by the type of pydantic's error; other errors come with its own words.
_WANTED = {
    "string_type": "a string",
    "float_type": "a number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "list_type": "a list",
    "tuple_type": "a list",
    "finite_number": "a finite number",
}


class Checked(pydantic.BaseModel):
    """Base of what a file or a part of it must hold; fields that are not known are left out."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


Model = TypeVar("Model", bound=pydantic.BaseModel)


def read_text(file: Path, advice: str) -> str:
    """Return the text of a regular file of at most 64 MiB; a byte order mark is left out.

    Raises:
      UsageError: if there is none, or it is a FIFO or a device, too large, or no UTF-8.
    """
    try:
        if file.exists() and not file.is_file():
            raise UsageError(f"cannot read {file}: it is no regular file: {advice}")
        if (size := file.stat().st_size) > MOST_BYTES:
            raise UsageError(f"cannot read {file}: it has {size:,} bytes, more than {MOST_BYTES:,}: {advice}")
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"cannot read {file} ({reason}): {advice}") from error


def parse_json(text: str, where: str, advice: str) -> dict[str, Any]:
    """Return the JSON object in a text.

    >>> parse_json('{"seconds": 1.5}', "result.json", "run it again")
    {'seconds': 1.5}
    >>> parse_json("{", "result.json", "run it again")
    Traceback (most recent call last):
    snap_jax.errors.UsageError: result.json is not JSON (...): run it again
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is not JSON ({error}): {advice}") from error
    if not isinstance(data, dict):
        raise UsageError(f"{where} holds {type(data).__name__}, not an object: {advice}")
    return data


def parse_toml(text: str, where: str, advice: str) -> dict[str, Any]:
    """Return the tables of a TOML text.

    Raises:
      UsageError: with line and column, if it is no TOML.
    """
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # TOMLDecodeError is one; so is a number of 5000 digits
        raise UsageError(f"{where} is not TOML ({error}): {advice}") from error


def check(model: type[Model], data: Any, where: str, advice: str, within: str = "") -> Model:
    """Return the data as that model.

    Args:
      model: what it must hold.
      data: as JSON or TOML was read.
      where: the file, for the message.
      advice: what to do about an error, the end of the message.
      within: the path of `data` in the file, if it is not all of it.

    Raises:
      UsageError: names the file, the path and the value of the first field that is wrong.
    """
    try:
        return model.model_validate_json(json.dumps(data, default=str))  # JSON has lists where models have tuples
    except ValidationError as error:
        raise UsageError(f"{where}: {_words(error, data, within)}: {advice}") from error


def _words(error: ValidationError, data: Any, within: str) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    path = _path(first["loc"], data, within)
    if first["type"] == "missing":
        return f"{path} is missing"
    if first["type"] == "extra_forbidden":
        return f"{path} is not known"
    found = repr(first["input"])
    found = found if len(found) <= _MOST_SHOWN else f"{found[:_MOST_SHOWN]}..."
    wanted = _WANTED.get(first["type"])
    return f"{path} is {found}, not {wanted}" if wanted else f"{path} is {found}: {_lowered(first['msg'])}"


def _lowered(message: str) -> str:
    message = message.removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


def _path(places: Sequence[int | str], data: Any, within: str = "") -> str:
    """Return where a value is, or would be; pydantic also names the kind of a union, which is in no file.

    >>> _path(("wire", "kind", "rows", 0, "path"), {"wire": {"rows": [{}]}})
    'wire.rows[0].path'
    """
    path = within
    for i, place in enumerate(places):
        known: dict[int | str, Any] = dict(enumerate(data)) if isinstance(data, list) else {}
        known |= data if isinstance(data, dict) else {}
        if place in known or i == len(places) - 1:
            path += f"[{place}]" if isinstance(place, int) else f".{place}"
        data = known.get(place, data)
    return path.removeprefix(".") or "it"


def model_of(types: Mapping[str, Any]) -> type[Checked]:
    """Return the model of an object with exactly these fields, of these types; texts have at most 64 Ki characters."""
    members: dict[str, Any] = {name: (kind, ...) for name, kind in types.items()}
    return pydantic.create_model("Fields", __base__=Checked, **members)
