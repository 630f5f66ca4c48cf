"""Settings as JSON fields and as a command line. `read_settings(written_settings(config)) == config`."""

import dataclasses
import shlex
import typing
from collections.abc import Mapping
from typing import Any

from snap_jax.errors import UsageError
from snap_jax.training.config.run_configs import LanguageConfig, VisionConfig
from snap_jax.training.config.settings import Settings, flag


def read_settings(fields: Mapping[str, Any], where: str = "run.json") -> Settings:
    """Return the settings that a run wrote. Missing fields get their defaults, unknown ones are dropped.

    Args:
      fields: the object `config` of a file.
      where: the file, for messages.

    Raises:
      UsageError: names a field of the wrong type, or flags that cannot be used together.

    >>> read_settings({"data": "enwik8", "of": "old"}).data
    'enwik8'
    >>> read_settings({"width": "64"})
    Traceback (most recent call last):
    snap_jax.errors.UsageError: run.json: config.width is '64', not a whole number: restore the file, or train again
    """
    if not isinstance(fields, Mapping):
        raise UsageError(f"{where}: config is {fields!r:.60}, not an object: restore the file, or train again")
    kind = VisionConfig if fields.get("task") == VisionConfig.task else LanguageConfig
    known = {field.name for field in dataclasses.fields(kind)}
    given = {name: value for name, value in fields.items() if name in known}
    return kind(**typed_fields(given, kind, where, "restore the file, or train again", within="config"))


def typed_fields(
    fields: Mapping[str, Any], kind: type[Settings], where: str, advice: str, within: str = ""
) -> dict[str, Any]:
    """Return the same fields if they have the types of the settings.

    Args:
      fields: as JSON or TOML was read; all are known.
      kind: of the settings.
      where: the file, for messages.
      advice: what to do about an error.
      within: the path of the fields in the file.

    Raises:
      UsageError: names the first that has another type.
    """
    from snap_jax.input_files import checked  # imports pydantic, which only files need

    types = typing.get_type_hints(kind)
    model = checked.model_of({name: types[name] for name in fields})
    return dict(checked.check(model, dict(fields), where, advice, within))


def written_settings(config: Settings) -> dict[str, Any]:
    """Return what `read_settings` reads: the task and all fields."""
    return {"task": config.task} | dataclasses.asdict(config)


def command(config: Settings) -> str:
    """Return the command line that repeats a run, without the flags that have their defaults.

    >>> command(LanguageConfig(link="int4", steps=10))
    'snap-jax train language --link int4 --steps 10'
    >>> command(VisionConfig(mode="spiking", layout="data"))
    'snap-jax train vision --mode spiking --layout data'
    """
    flags = [
        f" {flag(field.name)} {shlex.quote(str(value))}"
        for field in dataclasses.fields(config)
        if (value := getattr(config, field.name)) != field.default
    ]
    return f"snap-jax train {config.task}" + "".join(flags)
