"""Standard output that may fail while a run goes on: its reader ends, its disk is full, it lacks some signs."""

import contextlib
import io
import os
import sys
from collections.abc import Iterator

from snap_jax.errors import printable
from snap_jax.parallel.processes import count
from snap_jax.training.failures import WriteError


class _GoesOn(io.FileIO):
    """Says once, on standard error, that it cannot be written, and takes what is written after that to nowhere."""

    failed = False

    def write(self, data) -> int:
        """Write what can be written, and return the length of it all."""
        try:
            return super().write(data) if not self.failed else len(data)
        except OSError as error:
            self.failed = True
            print(
                f"snap-jax: standard output cannot be written ({error.strerror}): the run goes on without it, and its "
                "directory has all numbers",
                file=sys.stderr,
            )
            return len(data)


def go_on_without_output() -> None:
    """Replace `sys.stdout` by one whose errors do not end a run; another one than that of the process is left alone."""
    if sys.stdout is None:  # closed before the start: the next file that is opened would get its number
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    elif sys.stdout is sys.__stdout__:
        sys.stdout.flush()
        raw = _GoesOn(sys.stdout.fileno(), "wb", closefd=False)
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(raw), sys.stdout.encoding, "backslashreplace", line_buffering=True, write_through=True
        )


@contextlib.contextmanager
def ended_on_write_error() -> Iterator[None]:
    """End this process at once, with exit code 2, where its run cannot be written; several processes end elsewhere.

    An ordinary exit would wait for threads of Orbax, which wait for minutes for each other after a save that failed.
    """
    try:
        yield
    except WriteError as error:
        if count() > 1:
            raise
        sys.stdout.flush()
        print(f"snap-jax: {printable(str(error))}", file=sys.stderr, flush=True)
        os._exit(2)
