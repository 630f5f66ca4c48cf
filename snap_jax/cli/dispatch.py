"""Which command the words of a command line name, and what happens to its errors.

A user's mistake is one line on stderr that names the fix, and exit code 2; nothing half-written is left.
"""

import difflib
import io
import os
import pkgutil
import sys
from collections.abc import Callable, Mapping, Sequence

import tyro

from snap_jax import __version__
from snap_jax.cli import other_commands
from snap_jax.cli.train_command import TASKS, demo, train
from snap_jax.errors import UsageError, printable

_ABOUT = """usage: snap-jax COMMAND [OPTIONS]

Compressed collectives for JAX: train a model whose devices send each other a
few bits per number, and see what that saves.

commands:
  demo             Train one model with five kinds of links, and compare them.
  train language   Train an RWKV or a transformer to predict text byte by byte.
  train vision     Train an MS-ResNet or an EfficientNet to classify images.
  eval             Evaluate a trained run on its held-out or on other data.
  generate         Write text with a trained language run.
  launch           Run a command in several processes that work together.
  report           Compare finished runs in one table and one HTML page.
  cost             Price the traffic of a run in joules and seconds on a system.
  export           Write the weights of a run into one safetensors file.
  import           Make a run directory from such a file.
  bench            Time coded collectives against plain ones on this machine.

options:
  -h, --help       Show this message, or with a command its options.
  --version        Show the version.
"""

_OTHERS: dict[str, Callable[[], Callable]] = {
    "demo": lambda: demo,
    "eval": lambda: _inference("evaluate"),
    "generate": lambda: _inference("write"),
    "report": lambda: other_commands.compare,
    "cost": lambda: other_commands.price,
    "export": lambda: other_commands.export,
    "import": lambda: other_commands.import_,
    "bench": lambda: other_commands.bench,
}
_COMMANDS = ("demo", "train", "eval", "generate", "launch", *list(_OTHERS)[3:])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):  # a log that is not UTF-8 gets an escape instead of an error
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        _run(words)
    except UsageError as error:
        print(f"snap-jax: {printable(str(error))}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # whoever read the output has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        print("snap-jax: interrupted", file=sys.stderr)
        sys.exit(130)


def _run(words: list[str]) -> None:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_ABOUT, end="")
    elif words[0] == "--version":
        print(f"snap-jax {__version__}")
    elif words[0] == "train" and words[1:2] in ([], ["-h"], ["--help"]):
        print("usage: snap-jax train language | vision [OPTIONS]\n\nTry `snap-jax train language --help`.")
    elif words[0] == "train":
        _check_name(words[1], TASKS, "snap-jax train")
        train(words[1], words[2:])
    elif words[0] == "launch":
        other_commands.launch(words[1:])
    elif words[0] == "cost" and words[1:2] and words[1] in (more := other_commands.costs()):
        tyro.cli(more[words[1]], prog=f"snap-jax cost {words[1]}", args=words[2:])
    else:
        _call(_OTHERS, words, _COMMANDS)


def _call(commands: Mapping[str, Callable[[], Callable]], words: list[str], names: Sequence[str]) -> None:
    """Parse the options of one command, and run it."""
    name, *options = words
    _check_name(name, names, "snap-jax")
    tyro.cli(commands[name](), prog=f"snap-jax {name}", args=options, config=(tyro.conf.FlagCreatePairsOff,))


def _check_name(name: str, names: Sequence[str], prog: str) -> None:
    if name not in names:
        close = difflib.get_close_matches(name, (*names, "--version", "--help"), 1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise UsageError(f"{name!r} is no command of `{prog}`{hint}: use {', '.join(names)}; or --help")


def _inference(name: str) -> Callable:
    return pkgutil.resolve_name(f"snap_jax.inference.cli:{name}")
