"""All cases of `experiments.faults`: signals, settings and surroundings of a single process here, the others beside."""

import signal
from collections.abc import Callable

from experiments.fault_files import FILES
from experiments.fault_links import LINKS
from experiments.fault_pairs import PAIRS
from experiments.fault_places import PLACES
from experiments.fault_runs import (
    GOES_ON,
    RESUMED,
    Case,
    Ended,
    Place,
    State,
    command,
    environment,
    finish,
    read_until,
    resume,
    start,
    train,
    wait_for_step,
)

NEW, DONE = State.NOTHING, State.FINISHED


def _killed(place: Place) -> Ended:
    process = start(command(place), environment(place))
    text = read_until(process, "step 20 of")
    process.kill()
    text = finish(process, text).text
    ended = resume(place)
    return Ended(ended.code, text + ended.text)


def _signaled(*numbers: signal.Signals) -> Callable[[Place], Ended]:
    def act(place: Place) -> Ended:
        process = start(command(place), environment(place))
        text = read_until(process, "step 10 of")
        for number in numbers:
            process.send_signal(number)
        return finish(process, text)

    return act


def _two_writers(place: Place) -> Ended:
    first = start(command(place, "--steps", "100000"), environment(place))
    wait_for_step(place, 10)
    ended = train(place, "--steps", "100000", "--resume")
    first.terminate()
    finish(first)
    return ended


def _stale_lock(place: Place) -> Ended:
    (place.out / "run.lock").write_text("process 1 on a host that is gone")
    return resume(place)


def _other_text(place: Place) -> Ended:
    (other := place.out.with_name("other.txt")).write_text(place.text.read_text()[::-1])
    return train(place, "--data", str(other), "--resume")


def _with(*flags: str, shell: str = "", **variables: str) -> Callable[[Place], Ended]:
    return lambda place: train(place, *flags, shell=shell, **variables)


def _clock_back(place: Place) -> Ended:
    folder = place.out.parent / "clock"
    folder.mkdir()
    code = "import time\nreal = time.time\ntime.time = lambda: real() - 3.2e7\n"
    (folder / "sitecustomize.py").write_text(code)
    return resume(place, PYTHONPATH=f"{folder}:{environment(place).get('PYTHONPATH', '')}")


SIGNALS = [
    Case("sigkill", "SIGKILL after step 20", "--resume", "resumed at step", _killed, NEW, GOES_ON),
    Case("sigterm", "SIGTERM", "", "stopped by SIGTERM", _signaled(signal.SIGTERM), NEW, (143,)),
    Case("sigint", "Ctrl-C", "", "stopped by SIGINT", _signaled(signal.SIGINT), NEW, (130,)),
    Case("sighup", "terminal closed (SIGHUP)", "", "stopped by SIGHUP", _signaled(signal.SIGHUP), NEW, (129,)),
    Case("sigterm-twice", "SIGTERM twice", "", "stopped by", _signaled(*2 * [signal.SIGTERM]), NEW, (-15, 143)),
    Case("sigint-twice", "Ctrl-C twice", "", "stopped by|interrupted", _signaled(*2 * [signal.SIGINT]), NEW, (130,)),
    Case("two-writers", "two runs in one directory", "--resume", "is in use", _two_writers, NEW),
    Case("stale-lock", "lock of a process that was killed", "--resume", RESUMED, _stale_lock, codes=GOES_ON),
]
SETTINGS = [
    Case("seed", "another seed", "--seed 1 --resume", "has --seed 0", _with("--seed", "1", "--resume")),
    Case("data", "another text", "--data OTHER --resume", "does not hold what", _other_text),
    Case("fewer-steps", "fewer steps than were done", "--steps 9 --resume", "has done 21 steps",
         _with("--steps", "9", "--resume")),
    Case("nothing-there", "no run there", "--resume", "there is no run", _with("--resume"), NEW),
    Case("taken", "a finished run there", "", "finished run", _with(), DONE),
    Case("taken-stopped", "a stopped run there", "", "stopped run", _with()),
    Case("finished", "resumed when done", "--resume", "nothing to resume", _with("--resume"), DONE, (0,)),
    Case("nan", "loss not finite", "--learning-rate 1e30", "first not finite", _with("--learning-rate", "1e30"), NEW),
]  # fmt: skip
SURROUNDINGS = [
    Case("clock-back", "clock a year back", "--resume", RESUMED, _clock_back, codes=GOES_ON),
    Case("c-locale", "C locale, ASCII output", "--resume", "nothing to resume",
         _with("--resume", LC_ALL="C", PYTHONUTF8="0", PYTHONIOENCODING="ascii"), DONE, (0,)),
    Case("no-home", "HOME not set, dumb terminal", "--resume", "nothing to resume",
         _with("--resume", shell="unset HOME", TERM="dumb"), DONE, (0,)),
    Case("no-terminal", "no terminal, no input", "--resume", "nothing to resume",
         _with("--resume", shell='exec <&-; set -- setsid --wait "$@"'), DONE, (0,)),
    Case("full-output", "standard output is a full disk", "--resume", "cannot be written",
         _with("--resume", shell="exec >/dev/full"), DONE, (0,)),
    Case("closed-output", "standard output is closed", "--resume", "", _with("--resume", shell="exec >&-"), DONE, (0,)),
    Case("broken-pipe", "standard output is a pipe nobody reads", "--resume", "cannot be written",
         _with("--resume", shell="exec > >(exec <&- >&- 2>&-; sleep 9)"), DONE, (0,)),
    Case("no-directory", "the working directory was deleted", "--resume", "working directory was deleted",
         _with("--resume", shell='d=$(mktemp -d); cd "$d"; rmdir "$d"'), DONE),
]  # fmt: skip
CASES = [*SIGNALS, *SETTINGS, *SURROUNDINGS, *PLACES, *FILES, *PAIRS, *LINKS]
