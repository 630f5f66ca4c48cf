"""All cases of `experiments.faults`: files, a single process, and several."""

import signal
import subprocess
from collections.abc import Callable

from experiments.fault_files import FILES
from experiments.fault_pairs import PAIRS
from experiments.fault_runs import Case, Ended, Place, State, command, environment, finish, read_until, start, train

_RESUMED = r"resumed at step"


def _killed(place: Place) -> Ended:
    process = start(command(place), environment(place))
    read_until(process, "step 20 of")
    process.kill()
    finish(process)
    return train(place, "--resume")


def _signaled(*numbers: signal.Signals) -> Callable[[Place], Ended]:
    def act(place: Place) -> Ended:
        process = start(command(place), environment(place))
        text = read_until(process, "step 10 of")
        for number in numbers:
            process.send_signal(number)
        return finish(process, text)

    return act


def _two_writers(place: Place) -> Ended:
    first = start(command(place), environment(place))
    read_until(first, "step 0 of")
    ended = train(place, "--resume")
    first.kill()
    finish(first)
    return ended


def _tmpfs(place: Place) -> Ended:
    place.out.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "none", place.out], check=True)
    try:
        return train(place)
    finally:
        subprocess.run(["umount", place.out], check=True)


def _with(*flags: str, shell: str = "", **variables: str) -> Callable[[Place], Ended]:
    return lambda place: train(place, *flags, stop_after="", shell=shell, **variables)


NEW, DONE = State.NOTHING, State.FINISHED
SINGLE = [
    Case("sigkill", "SIGKILL after step 20", "--resume", _RESUMED, "steps since the last save", _killed, NEW, (0,)),
    Case("sigterm", "SIGTERM", "", "stopped by SIGTERM", "nothing", _signaled(signal.SIGTERM), NEW, (143,)),
    Case("sigint", "Ctrl-C", "", "stopped by SIGINT", "nothing", _signaled(signal.SIGINT), NEW, (130,)),
    Case("two-writers", "two runs in one directory", "--resume", "is in use", "nothing", _two_writers, NEW),
    Case("tmpfs", "disk full", "", "no space left", "steps since the last save", _tmpfs, NEW, root=True),
    Case("ulimit", "files may have 4 KiB", "", "ulimit -f", "all steps", _with(shell="ulimit -f 4"), NEW),
    Case("seed", "another seed", "--seed 1 --resume", "has --seed 0", "nothing", _with("--seed", "1", "--resume")),
    Case("data", "another text", "--data README.md --resume", "--data", "nothing",
         _with("--data", "README.md", "--resume")),
    Case("nothing-there", "no run there", "--resume", "there is no run", "nothing", _with("--resume"), NEW),
    Case("taken", "a finished run there", "", "finished run", "nothing", _with(), DONE),
    Case("finished", "resumed when done", "--resume", "nothing to resume", "nothing", _with("--resume"), DONE, (0,)),
    Case(
        "nan", "loss not finite", "--learning-rate 1e30", "first not finite", "the failed step",
        _with("--learning-rate", "1e30"), NEW,
    ),
    Case("c-locale", "C locale, ASCII output", "--resume", "nothing to resume", "nothing",
         _with("--resume", LC_ALL="C", PYTHONUTF8="0", PYTHONIOENCODING="ascii"), DONE, (0,)),
    Case("no-home", "no home, no terminal", "--resume", "nothing to resume", "nothing",
         _with("--resume", HOME="/nonexistent", TERM="dumb"), DONE, (0,)),
    Case("full-output", "standard output is full", "--resume", "", "nothing",
         _with("--resume", shell="exec >/dev/full"), DONE, (0, 1, 2, 120)),
    Case("closed-output", "standard output is closed", "--resume", "", "nothing",
         _with("--resume", shell="exec >&-"), DONE, (0, 1, 2)),
]  # fmt: skip
CASES = [*SINGLE, *FILES, *PAIRS]
