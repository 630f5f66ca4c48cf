"""What the cases of `experiments.faults` share: a tiny run as a command, its message, and what was lost."""

import dataclasses
import enum
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from snap_jax.training import checkpoint_files
from snap_jax.training.metrics import lines

STEPS, STOPPED_AT = 60, 21
FLAGS = (
    "--model transformer --link ternary --layers 2 --devices 2 --width 16 --heads 2 --seq-len 32 --batch 4 "
    f"--microbatches 2 --heldout-bytes 1024 --steps {STEPS} --save-every 10"
).split()
RESUMED, GOES_ON = r"resumed at step (20|21)", (143, 0)  # stopped again, or trained to its end
_LONGEST, _LONGEST_LINE = 240, 420


class State(enum.Enum):
    """What is there before the fault; the value names a folder."""

    NOTHING = "nothing"
    STOPPED = "stopped"
    FINISHED = "finished"


@dataclasses.dataclass(frozen=True)
class Place:
    """A run directory, and the folder that all cases share."""

    out: Path
    shared: Path

    @property
    def text(self) -> Path:
        """What the run reads."""
        return self.shared / "text.txt"


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
      code: its exit code.
      text: all it printed.
      seconds: from the fault to its end, if that was measured.
      out: the run directory, if it is another one now.
      harmed: files of others that are gone or changed.
    """

    code: int
    text: str
    seconds: float | None = None
    out: Path | None = None
    harmed: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Case:
    """A fault.

    Attributes:
      name: for `--only`.
      fault: what happens.
      called: how the command is called, for the table.
      says: a regular expression for the message.
      act: makes it happen and runs the command.
      start: the run it happens to.
      codes: exit codes that are right.
      root: whether it needs the rights of root.
      lost: what is lost, where it is not measured.
    """

    name: str
    fault: str
    called: str
    says: str
    act: Callable[[Place], Ended]
    start: State = State.STOPPED
    codes: tuple[int, ...] = (2,)
    root: bool = False
    lost: str = ""


def command(place: Place, *more: str) -> list[str]:
    """The command line of the run; later flags win."""
    where = ["--data", str(place.text), "--out", str(place.out)]
    return [sys.executable, "-m", "snap_jax", "train", "language", *FLAGS, *where, *more]


def environment(place: Place, **more: str) -> dict[str, str]:
    """Compiled programs are kept between cases."""
    cache = {"JAX_COMPILATION_CACHE_DIR": str(place.shared / "programs"), "PYTHONUNBUFFERED": "1"}
    path = f"{Path(__file__).parents[1]}:{os.environ.get('PYTHONPATH', '')}"
    return os.environ | cache | {"PYTHONPATH": path, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"} | more


def train(place: Place, *more: str, stop_after: str = "", shell: str = "", **variables: str) -> Ended:
    """Run to the end, or until SIGTERM after it printed that; `shell` is done before, in the same shell."""
    words = command(place, *more)
    if shell:
        words = ["bash", "-c", f'{shell}; exec "$@"', "-", *words]
    process = start(words, environment(place, **variables))
    text = ""
    if stop_after:
        text = read_until(process, stop_after)
        process.send_signal(signal.SIGTERM)
    return finish(process, text)


def resume(place: Place, *more: str, **variables: str) -> Ended:
    """Resume the run, and stop it when it says that it goes on."""
    return train(place, "--resume", *more, stop_after="step 30 of", **variables)


def start(words: Sequence[str], variables: dict[str, str]) -> subprocess.Popen:
    """One process whose output is one text."""
    return subprocess.Popen(
        words, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )


def read_until(process: subprocess.Popen, sign: str) -> str:
    """What it prints up to that."""
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if sign in line:
            break
    return text


def wait_for_step(place: Place, step: int) -> None:
    """Until the run has logged it; a long run prints few lines."""
    until = time.monotonic() + _LONGEST
    while not any(line["step"] >= step for line in lines(place.out / "metrics.jsonl")):
        if time.monotonic() > until:
            raise SystemExit(f"no step {step} after {_LONGEST} s")
        time.sleep(0.2)


def finish(process: subprocess.Popen, text: str = "", began: float | None = None) -> Ended:
    """Wait for its end."""
    try:
        rest, _ = process.communicate(timeout=_LONGEST)
    except subprocess.TimeoutExpired:
        process.kill()
        rest = process.communicate()[0] + f"\nnothing for {_LONGEST} s"
    return Ended(process.returncode, text + rest, None if began is None else time.monotonic() - began)


def pair(
    place: Place, *more: str, shell: str = "", each: Sequence[dict[str, str]] = ({}, {})
) -> list[subprocess.Popen]:
    """Two processes with one device each, that nothing else watches.

    Args:
      place: of their run.
      more: flags of both.
      shell: what the second does before, in the same shell.
      each: variables of each.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    found = []
    for number in range(2):
        own = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": str(number)}
        own |= {"JAX_COORDINATOR_BIND_ADDRESS": address, "JAX_NUM_CPU_DEVICES": "1"} | each[number]
        words = command(place, *more)
        if shell and number:
            words = ["bash", "-c", f'{shell}; exec "$@"', "-", *words]
        found.append(start(words, environment(place, **own)))
    return found


def lost(case: Case, ended: Ended, place: Place) -> str:
    """What was lost, measured: steps that were done, and are done again by a run that is resumed; files of others."""
    if ended.harmed:
        return f"**{', '.join(ended.harmed)}**"
    if case.lost:
        return case.lost
    before, _, _ = ended.text.partition("resumed at step")
    printed = [int(step) for step in re.findall(r"step (\d+) of", before)]
    printed += [int(step) - 1 for step in re.findall(r"(?:nan|inf) at step (\d+):", before)]
    done = max([{State.NOTHING: 0, State.STOPPED: STOPPED_AT, State.FINISHED: STEPS}[case.start], *printed])
    resumed = re.search(r"resumed at step (\d+)", ended.text)
    if not resumed:
        done = max([done, *(line["step"] for line in lines((ended.out or place.out) / "metrics.jsonl"))])
    kept = int(resumed[1]) if resumed else _kept(ended.out or place.out)
    return f"{done - kept} step{'s' * (done - kept > 1)}" if done > kept else "nothing"


def _kept(out: Path) -> int:
    """The step that a resumed run would begin with."""
    if (out / "result.json").is_file():
        return STEPS
    good = [path for path in checkpoint_files.saved(out / "checkpoints") if not checkpoint_files.fault(path)]
    return int(good[0].name) if good else 0


def shown(text: str, says: str, place: Place) -> str | None:
    """The line of the message, or the last one, without what differs from run to run; None if it is not there."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and "[Gloo]" not in line]
    found = [line for line in lines if re.search(says, line)] if says else lines[-1:]
    if not found:
        return None if says else "nothing"
    line = "".join(sign if sign.isprintable() else "?" for sign in found[0])
    line = line.replace(str(place.out), "DIR").replace(str(place.out.parent), "..").replace(str(place.text), "TEXT")
    line = re.sub("a{99,}", "aaa...", line)
    line = re.sub(r"/tmp/tmp\w+|process \d+ on \S+, since [^,]+|ps -fp \d+", _same, line)
    line = re.sub(r"^[EF]\d{4} .*?\] (\[\d+\] )?", "", line)  # what C++ logs in front of its message
    line = re.sub(r"resume( on all processes)? with: .*", r"resume\1 with: ...", line.removeprefix("snap-jax: "))
    line = line.replace("|", "/").replace("<", "&lt;")
    return line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]} ..."


def _same(found: re.Match[str]) -> str:
    """What stands for it on each machine."""
    text = found[0]
    if text.startswith("ps"):
        return "ps -fp NUMBER"
    return "process NUMBER on HOST, since TIME" if text.startswith("process") else "/tmp/..."
