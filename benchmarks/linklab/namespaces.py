"""Networks that exist: built, changed, and removed again. Only namespaces that this program named are touched."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from benchmarks.linklab import plan
from snap_jax.errors import UsageError

VARIABLE = "LINKLAB"  # of the environment; tells a program which network it runs in
_OWN = re.compile(r"linklab-(\d+)-(\d+)-(h\d+|hub)")
_NAMES, _FILES = Path("/run/netns"), Path("/etc/netns")
_TOOLS = ("ip", "tc", "unshare", "sysctl", "taskset")


def require_rights() -> None:
    """Check that networks can be built here.

    Raises:
      UsageError: says what is missing.
    """
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        raise UsageError(f"lab: no {missing[0]} on the PATH: install iproute2, util-linux and procps, on Linux")
    if os.geteuid() != 0:
        raise UsageError("lab: only root can make network namespaces: run it with sudo")


@contextlib.contextmanager
def network(hosts: int, topology: str, rate: str) -> Iterator[plan.Network]:
    """Build a network, and remove it on the way out.

    Raises:
      UsageError: if the kernel refuses.
    """
    remove_stale()
    made = plan.Network(f"linklab-{os.getpid()}-{_started(os.getpid())}", hosts, topology)
    try:
        for name in made.namespaces:
            (_FILES / name).mkdir(parents=True)
            (_FILES / name / "hosts").write_text(plan.hosts_file(made), encoding="utf-8")
        _run_all(plan.build(made, rate))
        yield made
    finally:
        with _undisturbed():
            _remove(made.namespaces)


def describe(made: plan.Network) -> str:
    """Return the value of `VARIABLE` for a network.

    >>> parse(describe(plan.Network("lab", 4, "ring")))
    Network(name='lab', hosts=4, topology='ring')
    """
    return f"{made.name}:{made.hosts}:{made.topology}"


def parse(text: str) -> plan.Network:
    """Return the network that the value of `VARIABLE` describes."""
    name, hosts, topology = text.split(":")
    return plan.Network(name, int(hosts), topology)


def set_rate(made: plan.Network, rate: str) -> None:
    """Give all links of a network another rate; a program on one of its hosts may do so.

    Raises:
      UsageError: if the kernel refuses.
    """
    _run_all(plan.limit(made, rate))


def remove_stale() -> None:
    """Remove what a lab that was killed left: its processes and its namespaces."""
    names = [path.name for place in (_NAMES, _FILES) if place.is_dir() for path in place.iterdir()]
    _remove(stale(dict.fromkeys(names), _started))


def stale(names: Iterable[str], started=None) -> list[str]:
    """Return those of the names that belong to a lab whose process is gone.

    >>> stale(["linklab-7-100-h0", "linklab-7-99-h0", "linklab-8-1-hub", "vpn"], {7: "100"}.get)
    ['linklab-7-99-h0', 'linklab-8-1-hub']
    """
    found = [(name, match) for name in names if (match := _OWN.fullmatch(name))]
    return [name for name, match in found if (started or _started)(int(match[1])) != match[2]]


def _started(process: int) -> str | None:
    """When a process started, in ticks since the machine did: with its number this names it once and for all."""
    try:
        status = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except OSError:
        return None
    return status.rpartition(")")[2].split()[19]  # field 22 of all; the program's name, in brackets, may hold spaces


def _run_all(commands: Iterable[Sequence[str]]) -> None:
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[0]
            raise UsageError(f"lab: {' '.join(command)} failed ({reason}): give this container the right CAP_SYS_ADMIN")


def _remove(names: Iterable[str]) -> None:
    """Remove namespaces, with the processes in them and the files about them; those that do not exist are skipped."""
    for name in names:
        if not _OWN.fullmatch(name):
            raise UsageError(f"lab: will not remove {name!r}, which it did not make")
        if (_NAMES / name).exists():
            inside = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False)
            for process in map(int, inside.stdout.split()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            subprocess.run(plan.remove([name])[0], capture_output=True, check=False)
        shutil.rmtree(_FILES / name, ignore_errors=True)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Hold back signals that would end this process halfway."""
    held = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
