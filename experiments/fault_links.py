"""Faults of a link between two hosts, in the network of the link lab: cut, and restored or not."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from experiments.fault_pairs import LONG
from experiments.fault_runs import Case, Ended, Place, State, command, environment, finish, start, wait_for_step

_LAB = Path(__file__).parents[1] / "benchmarks" / "linklab" / "lab"
_STEP = 30  # at which the link is cut


def _cut(seconds: float | None, *more: str) -> Callable[[Place], Ended]:
    """Cut the link of host 1 while both train, for so long or for good; return how the lab ended, and how soon."""

    def act(place: Place) -> Ended:
        lab = [sys.executable, str(_LAB), "--hosts", "2", "--rate", "unlimited", "--"]
        started = start([*lab, *command(place, *more)], environment(place, JAX_NUM_CPU_DEVICES="1"))
        wait_for_step(place, _STEP)
        hub = _hub(started.pid)
        _set(hub, "down")
        began = time.monotonic()
        if seconds is not None:
            time.sleep(seconds)
            _set(hub, "up")
            wait_for_step(place, _STEP + 100)
            started.send_signal(signal.SIGTERM)
        return finish(started, began=began)

    return act


def _hub(process: int) -> str:
    """The namespace of the switch of the lab that this process started."""
    names = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout.split()
    (name,) = [name for name in names if name.startswith(f"linklab-{process}-") and name.endswith("-hub")]
    return name


def _set(hub: str, state: str) -> None:
    subprocess.run(["ip", "-n", hub, "link", "set", "port1", state], check=True)


_LOST = "another process ended|cannot be reached|heartbeat|unhealthy|distributed service"
LINKS = [
    Case("link-cut", "link of host 1 cut for good", "--lost-after 10", _LOST,
         _cut(None, *LONG, "--lost-after", "10"), State.NOTHING, (2, 134), root=True),
    Case("link-back", "link of host 1 cut for 20 s", "", "stopped by SIGTERM",
         _cut(20, *LONG), State.NOTHING, (143,), root=True),
]  # fmt: skip
