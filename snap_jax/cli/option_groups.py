"""The options of `snap-jax train` in groups, as `--help` shows them, and the settings that they make.

A group is a dataclass made from some fields of `Settings`; the settings are checked when all options are known.
"""

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import docstring_parser
import tyro

from snap_jax.cli.config_file import read_config
from snap_jax.training.config import Settings

Kind = TypeVar("Kind", bound=Settings)

# What is in no group is shown under "training".
_GROUPS = {
    "data": ("data", "seq_len", "batch", "noise", "heldout_bytes", "heldout_images", "tokenizer", "seed"),
    "model": ("model", "layers", "width", "heads", "streams", "mode", "time_steps", "compute"),
    "devices": ("devices", "layout", "microbatches", "pipeline_schedule", "remat"),
    "links": ("link", "grad_link", "link_policy", "link_speed", "local_steps", "outer_lr", "outer_momentum"),
    "budget": (
        "budget", "dense_steps", "anneal", "penalty", "rank", "context_tokens", "token_groups", "link_streams",
        "transform_lr", "distill", "teacher", "prune_below",
    ),
    "training": (),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """Where a run is written, and how.

    Attributes:
      out: Directory for result.json, metrics.jsonl, TensorBoard events, report.html and the checkpoints.
      config: A TOML file with settings, or the run.json of an earlier run. Flags on the command line win.
      overwrite: Replace the run in that directory.
      resume: Continue the run in that directory as if it had never been stopped.
      requeue: Continue the run in that directory, or start it if there is none. For jobs that a scheduler starts again.
      dry_run: Show sizes, memory, bytes per step and their price, and end before a step is trained. Nothing is written.
      system: The system that --dry-run prices on: a name from `snap-jax cost --list`, or a TOML file. The default is
        the three systems of a report.
      quiet: Show errors and the final table only.
      verbose: Also show what Orbax and JAX log at the level INFO.
      lost_after: Of several processes, end when another one has not answered for so many seconds.
    """

    out: Path
    config: Path | None = None
    overwrite: bool = False
    resume: bool = False
    requeue: bool = False
    dry_run: bool = False
    system: str | None = None
    quiet: bool = False
    verbose: bool = False
    lost_after: int = 60


def parse(kind: type[Kind], words: Sequence[str], about: str, out: Path) -> tuple[RunOptions, Kind]:
    """Return the options and the settings that the words of a command line give.

    Args:
      kind: of the settings.
      words: after the name of the command; with `--config FILE`, what that file holds is the default.
      about: the first line of the help.
      out: where a run is written by default.
    """
    file = _config_file(words)
    defaults = {} if file is None else read_config(file, kind)
    options = tyro.cli(
        _options(kind, defaults, out),
        prog=f"snap-jax train {kind.task}",
        description=about,
        args=words,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
    )
    values = {name: value for group in _GROUPS for name, value in vars(getattr(options, group)).items()}
    return options.run, kind(**values)


def _config_file(words: Sequence[str]) -> Path | None:
    """The value of the last `--config`; tyro complains of one without a value."""
    found = None
    for word, following in zip(words, [*words, ""][1:], strict=True):
        name, equals, value = word.partition("=")
        if name == "--config":
            found = value if equals else following
    return Path(found) if found and not found.startswith("--") else None


def _options(kind: type[Settings], defaults: Mapping[str, Any], out: Path) -> type:
    run: tuple[str, type, Any] = ("run", RunOptions, dataclasses.field(default=RunOptions(out)))
    groups = [
        (name, group, dataclasses.field(default_factory=group))
        for name in _GROUPS
        for group in [_group(name, kind, defaults)]
    ]
    return dataclasses.make_dataclass("Options", [run, *groups])


def _group(name: str, kind: type[Settings], defaults: Mapping[str, Any]) -> type:
    """A dataclass of the fields of a group, with their help and the defaults of this run."""
    types, about = typing.get_type_hints(kind), _about(kind)
    known = {field.name: field for field in dataclasses.fields(kind)}
    elsewhere = {each for group in _GROUPS.values() for each in group}
    names = [n for n in _GROUPS[name] if n in known] or [n for n in known if n not in elsewhere]
    members = [
        (
            field,
            Annotated[types[field], tyro.conf.arg(help=about[field])],
            dataclasses.field(default=defaults.get(field, known[field].default)),
        )
        for field in names
    ]
    return dataclasses.make_dataclass(name, members, frozen=True)


def _about(kind: type[Settings]) -> dict[str, str]:
    """What each field means, from the docstring of the class and of the one it extends."""
    parents = [each for each in reversed(kind.__mro__) if issubclass(each, Settings)]
    lines = [one for each in parents for one in docstring_parser.parse(each.__doc__ or "").params]
    return {one.arg_name: " ".join((one.description or "").split()) for one in lines}
