"""`--config FILE`: settings from a TOML file, or from the `run.json` of an earlier run."""

import dataclasses
import difflib
import types
import typing
from pathlib import Path
from typing import Any

from snap_jax.errors import UsageError
from snap_jax.training.config import Settings
from snap_jax.training.config.serialization import typed_fields

_ADVICE = "use a TOML file of settings such as width = 64, or the run.json of an earlier run"


def read_config(file: Path, kind: type[Settings]) -> dict[str, Any]:
    """Return the fields that a file sets; which of them cannot be used together is checked later.

    Args:
      file: TOML with the names of the flags, `seq-len = 64` or `seq_len = 64`, or a `run.json`.
      kind: of the settings.

    Raises:
      UsageError: names the file and the field.
    """
    from snap_jax.input_files import checked

    where = f"--config {file}"
    text = checked.read_text(file, _ADVICE)
    if file.suffix == ".json":
        fields, what = checked.parse_json(text, where, _ADVICE).get("config"), "the run.json of a run"
        if not isinstance(fields, dict):
            raise UsageError(f"{where} has no object config, as {what} has: {_ADVICE}")
        names = {field.name for field in dataclasses.fields(kind)} | {"task"}
        fields = {name: value for name, value in fields.items() if name in names}  # other versions have others
    else:
        fields = {name.replace("-", "_"): value for name, value in checked.parse_toml(text, where, _ADVICE).items()}
    return _checked(fields, where, kind)


def _checked(fields: dict[str, Any], where: str, kind: type[Settings]) -> dict[str, Any]:
    task = fields.pop("task", kind.task)
    if task != kind.task:
        raise UsageError(f"{where}: task is {task!r}, not {kind.task!r}: use `snap-jax train {task}`, or another file")
    hints, known = typing.get_type_hints(kind), [field.name for field in dataclasses.fields(kind)]
    for name in fields:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise UsageError(f"{where}: {name} is no setting of `train {kind.task}`{hint}: see --help")
    given = {name: None if value == "None" and _optional(hints[name]) else value for name, value in fields.items()}
    return typed_fields(given, kind, where, "see --help")


def _optional(hint: Any) -> bool:
    return isinstance(hint, types.UnionType) and type(None) in hint.__args__
