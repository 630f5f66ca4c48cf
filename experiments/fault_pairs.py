"""Faults of one of two processes. What the other says counts, and how soon it ended after the fault."""

import os
import signal
import subprocess
import time
from collections.abc import Callable

from experiments.fault_runs import Case, Ended, Place, State, finish, pair, read_until, train, wait_for_step

LONG = ("--steps", "100000", "--save-every", "20")
_DEAD = "another process ended|heartbeat|unhealthy|distributed service"  # our message, or that of JAX when it aborts


def _signaled(victim: int, number: signal.Signals, *more: str) -> Callable[[Place], Ended]:
    """Send a signal to one process while both train; return how the other ended."""

    def act(place: Place) -> Ended:
        both = pair(place, *LONG, *more)
        wait_for_step(place, 30)
        both[victim].send_signal(number)
        began = time.monotonic()
        ended = finish(both[1 - victim], began=began)
        both[victim].kill()
        finish(both[victim])
        return ended

    return act


def _paused(place: Place) -> Ended:
    both = pair(place, "--steps", "60")
    read_until(both[0], "step 10 of")
    both[1].send_signal(signal.SIGSTOP)
    time.sleep(20)
    both[1].send_signal(signal.SIGCONT)
    ended = finish(both[0])
    finish(both[1])
    return ended


def _differs(*more: str, shell: str = "", **variables: str) -> Callable[[Place], Ended]:
    """Start both, the second otherwise; return how the first ended, and how long after the second."""

    def act(place: Place) -> Ended:
        place.out.mkdir()
        both = pair(place, *more, shell=shell.format(out=place.out), each=({}, variables))
        return _first(both)

    return act


def _first(both: list[subprocess.Popen]) -> Ended:
    finish(both[1])
    return finish(both[0], began=time.monotonic())


def _other_program(place: Place) -> Ended:
    paths = []
    for limit in ("limit=2", "limit=3"):
        folder = place.out.parent / f"code{len(paths)}"
        folder.mkdir()
        code = f"from snap_jax.encodings import Count\nCODE = Count({limit}, threshold=1.0)\n"
        (folder / "my_codes.py").write_text(code)
        paths.append({"PYTHONPATH": f"{folder}:{os.environ.get('PYTHONPATH', '')}"})
    return _first(pair(place, "--link", "my_codes.CODE", each=paths))


def _resumed(place: Place) -> Ended:
    _signaled(1, signal.SIGKILL)(place)
    return train(place, *LONG, "--resume", stop_after="resumed at step")


NEW = State.NOTHING
# In a mount namespace of its own.
_READ_ONLY = (
    'exec unshare -m bash -c \'mount --bind {out} {out} && mount -o remount,ro,bind {out} && exec "$@"\' - "$@"'
)
_APART = 'exec unshare -m bash -c \'mount -t tmpfs none {out} && exec "$@"\' - "$@"'
PAIRS = [
    Case("pair-kill", "process 1 killed in a collective", "", _DEAD,
         _signaled(1, signal.SIGKILL), NEW, (2, -6, 134)),
    Case("pair-kill-first", "process 0, the coordinator, killed", "", _DEAD,
         _signaled(0, signal.SIGKILL), NEW, (2, -6, 134)),
    Case("pair-pause", "process 1 paused for 20 s", "", "step 60 of", _paused, NEW, (0,)),
    Case("pair-lost", "process 1 paused for good", "--lost-after 10", _DEAD,
         _signaled(1, signal.SIGSTOP, "--lost-after", "10"), NEW, (2, -6, 134)),
    Case("pair-resume", "killed in two processes, resumed in one", "--resume", "resumed at step",
         _resumed, NEW, (143, -15)),
    Case("pair-flags", "other XLA_FLAGS on process 1", "", "another XLA_FLAGS",
         _differs(XLA_FLAGS="--xla_cpu_enable_fast_math=true"), NEW),
    Case("pair-seed", "another seed on process 1", "", "another command",
         _differs(shell='set -- "$@" --seed 1'), NEW),
    Case("pair-code", "other code of the same name on process 1", "--link my_codes.CODE", "another program",
         _other_program, NEW),
    Case("pair-data", "another text on process 1", "--data text.txt", "another data",
         _differs("--data", "text.txt", shell="cd /tmp && seq 9999 > text.txt"), NEW),
    Case("pair-layout", "another layout on process 1", "", "another command",
         _differs(shell='set -- "$@" --layout data'), NEW),
    Case("pair-text-gone", "no text on the host of process 1", "--data text.txt", "process 1 failed: --data",
         _differs("--data", "text.txt", shell="cd /tmp && rm -f text.txt"), NEW),
    Case("pair-apart", "another directory of that name on the host of process 1", "", "does not see",
         _differs(shell=_APART), NEW, root=True),
    Case("pair-term", "SIGTERM to process 1 only", "", "stopped by SIGTERM",
         _signaled(1, signal.SIGTERM), NEW, (143,)),
    Case("pair-full", "process 1 cannot write: files may have 4 KiB", "", "process 1 failed: .*cannot write",
         _differs("--steps", "100000", shell="ulimit -f 4"), NEW),
    Case("pair-read-only", "directory read-only on the host of process 1", "", "process 1 failed",
         _differs("--steps", "100000", shell=_READ_ONLY), NEW, root=True),
    Case("pair-nan", "loss not finite", "--learning-rate 1e30", "first not finite",
         _differs("--learning-rate", "1e30"), NEW),
]  # fmt: skip
