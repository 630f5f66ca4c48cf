"""Settings as JSON fields and as a command line. `read_settings(written_settings(config)) == config`."""

import dataclasses
import shlex
from collections.abc import Mapping
from typing import Any

from snap_jax.training.config.run_configs import LanguageConfig, VisionConfig
from snap_jax.training.config.settings import Settings, flag


def read_settings(fields: Mapping[str, Any]) -> Settings:
    """Return the settings that a run wrote. Missing fields get their defaults, unknown ones are dropped.

    >>> read_settings({"data": "enwik8", "of": "old"}).data
    'enwik8'
    """
    kind = VisionConfig if fields.get("task") == VisionConfig.task else LanguageConfig
    known = {field.name for field in dataclasses.fields(kind)}
    return kind(**{name: value for name, value in fields.items() if name in known})


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
