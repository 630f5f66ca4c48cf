"""Local processes that train together: started, watched, and ended together.

Each finds the others through `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID`. If one fails, all
end; none stays.
"""

import contextlib
import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from snap_jax.errors import UsageError

_GRACE_SECONDS = 10  # from a signal to the kill, once one process has failed
_POLL_SECONDS = 0.1


def launch(
    command: Sequence[str],
    processes: int,
    *,
    devices_per_process: int | None = None,
    coordinator: str | None = None,
    own_cores: bool = False,
    prefix: Callable[[int], Sequence[str]] = lambda number: (),
    say: Callable[[str], None] | None = None,
) -> int:
    """Run `command` in several processes on this machine, and return the exit code: of the first that failed, or 0.

    Every line that they print starts with the number of the process. SIGINT and SIGTERM are passed on to all, so that
    runs save their state; a second one ends the launch. When one process fails, the others get SIGTERM, and 10 s later
    SIGKILL. On Linux they also end when this process is killed. Of the environment they get `KEPT_MEMORY` besides.

    Args:
      command: program and arguments, the same for all.
      processes: how many.
      devices_per_process: CPU devices that each emulates; `None` leaves it to the program.
      coordinator: HOST:PORT where the first process listens; `None` takes a free port of the loopback interface.
      own_cores: whether each process may use its share of the cores only, so that their threads do not wait for each
        other. Linux only.
      prefix: words in front of the command of a process, such as those that run it in a container.
      say: receives each line; `None` prints it.

    Raises:
      UsageError: for less than one process, a malformed address, or a program that cannot be started.
    """
    _check(command, processes, devices_per_process, coordinator)
    address = coordinator or f"127.0.0.1:{_free_port()}"
    lines = _Lines(say or functools.partial(print, flush=True))
    with _all_ended() as started, _passed_on(started):
        for number in range(processes):
            cores = share_of_cores(number, processes, _cores()) if own_cores else []
            words = [*_tied(cores), *prefix(number), *command]
            process = _start(words, _environment(address, processes, number, devices_per_process))
            started.append(process)
            lines.follow(process, number)
        code = _wait(started, lines)
    lines.finish()
    return code


# glibc gives the memory of large buffers back, and the kernel clears it again in the next step: two thirds of the
# processor time of a mean of 25 million gradients. So all of it is kept.
KEPT_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40), "MALLOC_ARENA_MAX": "1"}

# prctl(PR_SET_PDEATHSIG = 1): the kernel sends SIGTERM to a process when the one that started it ends.
_TIED = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15); "
    "sys.argv[1] and os.sched_setaffinity(0, map(int, sys.argv[1].split(','))); os.execvp(sys.argv[2], sys.argv[2:])"
)


def share_of_cores(number: int, processes: int, available: Sequence[int]) -> list[int]:
    """Return the cores of a process: its share of those available, or one that it has together with others.

    A program that sees all cores starts a thread for each; threads of several processes then wait for each other.

    >>> share_of_cores(1, 2, [0, 1, 2, 3]), share_of_cores(3, 4, [0, 1])
    ([1, 3], [1])
    """
    return list(available[number::processes]) or [available[number % len(available)]]


def _cores() -> list[int]:
    if sys.platform != "linux":
        raise UsageError(f"launch: --own-cores: {sys.platform} has no way to say so: leave it out")
    return sorted(os.sched_getaffinity(0))


def _tied(cores: Sequence[int]) -> list[str]:
    """Words in front of a command that tie it to this process and to its cores."""
    return [sys.executable, "-SEc", _TIED, ",".join(map(str, cores))] if sys.platform == "linux" else []


def _check(command: Sequence[str], processes: int, devices: int | None, coordinator: str | None) -> None:
    if not command:
        raise UsageError("launch: no command: give it after --, as in: snap-jax launch -n 2 -- snap-jax train language")
    if shutil.which(command[0]) is None:
        raise UsageError(f"launch: {command[0]!r} is no program: give one that is on the PATH, or its whole path")
    if processes < 1:
        raise UsageError(f"launch: -n {processes}: use 1 or more processes")
    if devices is not None and devices < 1:
        raise UsageError(f"launch: --devices-per-process {devices}: use 1 or more")
    if coordinator is not None and not coordinator.rpartition(":")[2].isdigit():
        raise UsageError(f"launch: --coordinator {coordinator!r}: give HOST:PORT, as in 127.0.0.1:12345")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _environment(address: str, processes: int, number: int, devices: int | None) -> dict[str, str]:
    own = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(processes), "JAX_PROCESS_ID": str(number)}
    if address.startswith("127."):
        own["JAX_COORDINATOR_BIND_ADDRESS"] = address  # nobody outside this machine can reach it
    emulated = {} if devices is None else {"JAX_NUM_CPU_DEVICES": str(devices)}
    return KEPT_MEMORY | os.environ | own | emulated | {"PYTHONUNBUFFERED": "1"}


def _start(command: Sequence[str], environment: dict[str, str]) -> subprocess.Popen:
    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )


@contextlib.contextmanager
def _all_ended() -> Iterator[list[subprocess.Popen]]:
    """A list of processes that all have ended on the way out, with what they started."""
    started: list[subprocess.Popen] = []
    try:
        yield started
    finally:
        _signal_all(started, signal.SIGTERM)
        deadline = time.monotonic() + _GRACE_SECONDS
        while any(p.poll() is None for p in started) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        _signal_all(started, signal.SIGKILL)
        for process in started:
            process.wait()


def _signal_all(started: Sequence[subprocess.Popen], number: signal.Signals) -> None:
    for process in started:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)


@contextlib.contextmanager
def _passed_on(started: list[subprocess.Popen]) -> Iterator[None]:
    """Pass SIGINT and SIGTERM on to all processes, once; a second one ends the launch."""
    before = {}

    def pass_on(number: int, _: object) -> None:
        for other, handler in before.items():
            signal.signal(other, handler)
        _signal_all(started, signal.Signals(number))

    if threading.current_thread() is threading.main_thread():
        before |= {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(started: Sequence[subprocess.Popen], lines: "_Lines") -> int:
    """Return 0 when all have ended well, or the exit code of the first that did not."""
    while True:
        codes = [process.poll() for process in started]
        for number, code in enumerate(codes):
            if code:
                how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
                lines.say(f"snap-jax: process {number} {how}: the others are ended too")
                return 128 - code if code < 0 else code
        if all(code == 0 for code in codes):
            return 0
        time.sleep(_POLL_SECONDS)


class _Lines:
    """Passes on the lines of several processes, each whole, with the number of its process in front."""

    def __init__(self, say: Callable[[str], None]):
        self._say, self._lock = say, threading.Lock()
        self._threads: list[threading.Thread] = []

    def say(self, text: str) -> None:
        with self._lock:
            self._say(text)

    def follow(self, process: subprocess.Popen, number: int) -> None:
        thread = threading.Thread(target=self._copy, args=(process, number), daemon=True)
        thread.start()
        self._threads.append(thread)

    def _copy(self, process: subprocess.Popen, number: int) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self.say(f"[{number}] {line.rstrip()}")

    def finish(self) -> None:
        """Wait until all that was printed has been copied."""
        for thread in self._threads:
            thread.join(timeout=5)
