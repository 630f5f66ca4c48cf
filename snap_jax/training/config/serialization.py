"""Configs written down and read again, and the command line that repeats a run.

Law: `read_settings(written_settings(config)) == config`.
"""

import dataclasses
import shlex
from collections.abc import Mapping
from typing import Any

from snap_jax.training.config.run_configs import LanguageConfig, VisionConfig
from snap_jax.training.config.settings import Settings


def read_settings(fields: Mapping[str, Any]) -> Settings:
    """The settings that a run wrote down; fields it did not know yet have their defaults, others are left out.

    >>> read_settings({"data": "enwik8", "of": "old"}).data
    'enwik8'
    """
    kind = VisionConfig if fields.get("task") == VisionConfig.task else LanguageConfig
    known = {field.name for field in dataclasses.fields(kind)}
    return kind(**{name: value for name, value in fields.items() if name in known})


def written_settings(config: Settings) -> dict[str, Any]:
    """What `read_settings` reads: the task, and all fields."""
    return {"task": config.task} | dataclasses.asdict(config)


def command(config: Settings) -> str:
    """The command line that repeats a run; defaults are left out.

    >>> command(Config(link="int4", steps=10))
    'snap-jax train language --link int4 --steps 10'
    >>> command(VisionConfig(mode="spiking", layout="data"))
    'snap-jax train vision --mode spiking --layout data'
    """
    flags = [
        f" --{field.name.replace('_', '-')} {shlex.quote(str(value))}"
        for field in dataclasses.fields(config)
        if (value := getattr(config, field.name)) != field.default
    ]
    return f"snap-jax train {config.task}" + "".join(flags)
