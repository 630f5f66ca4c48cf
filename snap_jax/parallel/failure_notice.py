"""What a process that fails tells the others, so that each of them ends too, and says why.

The message goes through the coordinator of `jax.distributed`. A process that waits for the one that failed, in a
collective, for a file or for a message, could not read it; so a thread of its own looks once a second.
"""

import atexit
import contextlib
import json
import os
import sys
import threading
import time

import jax

from snap_jax._compat import coordinator

_KEY = "snap_jax_failed"
_GONE = (
    jax.errors.JaxRuntimeError,
    AttributeError,
)  # what a call says once the coordinator, or the client of it, is gone
_LOOK_SECONDS = 1.0
_OWN_MESSAGE_SECONDS = 3.0  # in which the main thread may say more


def tell_others(message: str, code: int) -> None:
    """Tell all other processes that this one ends with `message` and that exit code; does nothing if none can hear."""
    state = coordinator()
    with contextlib.suppress(*_GONE):
        state.client.key_value_set(f"{_KEY}/{state.process_id}", json.dumps([message, code]))


def wait_for_others(seconds: float = _LOOK_SECONDS + _OWN_MESSAGE_SECONDS + 2) -> None:
    """Wait on the first process until all others have said that they end; it holds the coordinator, which they need."""
    state, until = coordinator(), time.monotonic() + seconds
    if state.process_id:
        return
    with contextlib.suppress(*_GONE):
        while len(state.client.key_value_dir_get(_KEY)) < state.num_processes and time.monotonic() < until:
            time.sleep(_LOOK_SECONDS / 10)


def told(seconds: float = 0.0) -> tuple[str, int] | None:
    """Return what another process that failed said, with its number, and its exit code; None if none did.

    Args:
      seconds: how long to wait for it.
    """
    state, until = coordinator(), time.monotonic() + seconds
    while True:
        for key, value in sorted(state.client.key_value_dir_get(_KEY)):
            number = key.rpartition("/")[2]
            if number != str(state.process_id):
                message, code = json.loads(value)
                return f"process {number} failed: {message}", code
        if time.monotonic() >= until:
            return None
        time.sleep(_LOOK_SECONDS)


def watch() -> None:
    """Start the thread that ends this process some seconds after another one has failed."""
    done = threading.Event()
    thread = threading.Thread(target=_look, args=(done,), daemon=True)
    thread.start()

    def stop() -> None:
        done.set()
        thread.join(timeout=2 * _LOOK_SECONDS)

    atexit.register(stop)


def _look(done: threading.Event) -> None:
    while not done.wait(_LOOK_SECONDS):
        try:
            found = told()
        except _GONE:  # nothing can be told: JAX itself ends the process and says so
            return
        if found is not None and not done.wait(_OWN_MESSAGE_SECONDS):
            _end(*found)


def _end(message: str, code: int) -> None:
    print(f"snap-jax: {message}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    tell_others(message, code)
    os._exit(code)
