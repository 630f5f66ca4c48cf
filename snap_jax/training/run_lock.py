"""The lock of a run directory: two processes never write to one run.

The kernel releases it when the process that holds it ends, however it ends; so no stale lock has to be removed by hand.
"""

import contextlib
import datetime
import fcntl
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from snap_jax.errors import UsageError
from snap_jax.parallel.processes import count, from_each, on_first

NAME = "run.lock"
_SEEN_SECONDS = 5.0


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold `out/run.lock`; directories that were made for it and stay empty are removed at the end.

    Raises:
      UsageError: if another process holds it, or it cannot be written; if not all processes see it.
    """
    with contextlib.ExitStack() as stack:
        on_first(lambda: _take(out, stack))
        _require_shared(out)
        yield


def _require_shared(out: Path) -> None:
    """Each process of several must see the lock that the first one took; a file system of hosts may take a while."""
    if count() == 1:
        return
    wanted, until = on_first(lambda: (out / NAME).read_text()), time.monotonic() + _SEEN_SECONDS
    while (seen := _read(out / NAME)) != wanted and time.monotonic() < until:
        time.sleep(0.2)
    different = [number for number, same in enumerate(from_each(seen == wanted)) if not same]
    if different:
        raise UsageError(
            f"--out {out}: process {different[0]} does not see what process 0 writes there: use a directory on a file "
            "system that all hosts share"
        )


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _take(out: Path, stack: contextlib.ExitStack) -> None:
    try:
        made = [path for path in (out, *out.parents) if not path.exists()]
        out.mkdir(parents=True, exist_ok=True)
        stack.callback(_remove_empty, made)
        file = _opened(out / NAME)
    except FileExistsError as error:
        raise UsageError(f"{out} is no directory: move it away, or choose another --out") from error
    except OSError as error:
        raise UsageError(f"cannot write to {out} ({error.strerror}): choose another --out") from error
    stack.callback(os.close, file)
    stack.callback((out / NAME).unlink, missing_ok=True)
    os.truncate(file, 0)
    since = datetime.datetime.now().astimezone().isoformat(" ", "minutes")
    os.write(file, f"process {os.getpid()} on {socket.gethostname()}, since {since},".encode())


def _opened(path: Path) -> int:
    """A descriptor that holds the lock, of the file that has this name now."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.fstat(file).st_ino == path.stat().st_ino:
                return file
            os.close(file)  # whoever held it has just removed it
        except BlockingIOError as error:
            found = os.pread(file, 200, 0).decode(errors="replace")
            holder = "".join(sign for sign in found if sign.isprintable()) or "another process"
            os.close(file)
            raise UsageError(
                f"{path.parent} is in use: {holder} holds {NAME}: look at it with `{_look(holder)}` on that host, wait "
                "until it ends or end it, or choose another --out"
            ) from error


def _look(holder: str) -> str:
    """The command that shows the process.

    >>> _look("process 123 on a, since 2026-01-01 12:00+00:00,")
    'ps -fp 123'
    """
    found = re.match(r"process (\d+) ", holder)
    return f"ps -fp {found[1]}" if found else f"fuser -v {NAME}"


def _remove_empty(made: list[Path]) -> None:
    for path in made:
        with contextlib.suppress(OSError):
            path.rmdir()
