"""The command line of the lab."""

import argparse
import functools
import shutil
import signal
import sys
from collections.abc import Sequence

from benchmarks.linklab import namespaces, plan
from benchmarks.linklab.rates import bits_per_second
from snap_jax.errors import UsageError
from snap_jax.parallel.launch import launch

_PORT = 1234  # in namespaces of their own all ports are free


def main(words: Sequence[str]) -> int:
    """Run the command line; return the exit code."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        return _run(_parse(words))
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _parse(words: Sequence[str]) -> argparse.Namespace:
    at = list(words).index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(
        prog="lab",
        usage="lab --hosts H --rate RATE [--topology bridge|ring] -- COMMAND...",
        description="Run COMMAND once per host of a network on this machine, whose links have a chosen rate. The "
        "processes find each other through jax.distributed. Needs root, ip and tc.",
    )
    parser.add_argument("--hosts", type=int, required=True, help="number of hosts, 1 to 64")
    parser.add_argument("--rate", required=True, help="of each link, in each direction: 50mbit, 1gbit, unlimited")
    parser.add_argument("--topology", choices=("bridge", "ring"), default="bridge")
    asked = parser.parse_args(words[:at])
    asked.command = list(words[at + 1 :])
    return asked


def _run(asked: argparse.Namespace) -> int:
    bits_per_second(asked.rate)
    if not 1 <= asked.hosts <= 64:
        raise UsageError(f"lab: --hosts {asked.hosts}: use 1 to 64")
    if not asked.command:
        raise UsageError("lab: no command: give it after --, as in: lab --hosts 2 --rate 1gbit -- python program.py")
    if shutil.which(asked.command[0]) is None:
        raise UsageError(f"lab: {asked.command[0]!r} is no program: give one that is on the PATH, or its whole path")
    namespaces.require_rights()
    with namespaces.network(asked.hosts, asked.topology, asked.rate) as network:
        return launch(
            asked.command,
            asked.hosts,
            coordinator=f"{plan.address(0)}:{_PORT}",
            own_cores=True,
            prefix=functools.partial(_prefix, network),
        )


def _prefix(network: plan.Network, host: int) -> list[str]:
    return [*plan.inside(network, host), "env", f"{namespaces.VARIABLE}={namespaces.describe(network)}"]
