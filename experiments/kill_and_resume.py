"""Question: killed at random moments and resumed each time, does a run end as if nothing had happened.

    python -m experiments.kill_and_resume
    python -m experiments.kill_and_resume --processes 4 --steps 500

One run is left alone. Another one, with the same command line, is killed with SIGKILL, which no program can catch, and
continued with `--requeue`, until it has been killed 20 times. Then it may finish. Odd kills come at a random moment
after the process starts, while it imports, reads the checkpoint or compiles. Even ones come at a random moment after
its first step, while it steps, logs or saves; a checkpoint every 3 steps keeps the disk busy. It prints where each kill
found the run, and whether parameters, optimizer state, average, metrics and quality have the same bits.

With `--processes N` both runs are started with `snap-jax launch -n N`, and each kill hits one of the processes, chosen
at random; the others must end by themselves or by `launch`.
"""

import argparse
import dataclasses
import json
import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from snap_jax.training import checkpoints
from snap_jax.training.metrics import lines


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What is tried.

    Attributes:
      kills: how often.
      longest_s: a kill comes at most so long after the start, or after the first step.
      seed: of the moments.
      steps: of the run; enough that it is not done before the last kill.
      processes: that train together.
      flags: of the run.
    """

    kills: int = 20
    longest_s: float = 6.0
    seed: int = 0
    steps: int = 1500
    processes: int = 1
    flags: str = (
        "--link count:2 --layers 2 --width 16 --heads 2 --seq-len 32 --batch 4 --microbatches 2 "
        "--save-every 3 --ema 0.99 --accumulate 2 --heldout-bytes 4096"
    )

    @property
    def layout(self) -> str:
        """Two stages, and a replica for each two processes."""
        replicas = max(1, self.processes // 2)
        return f"--devices {2 * replicas} --layout {f'data:{replicas}+' if replicas > 1 else ''}pipeline:2"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=Experiment.kills)
    parser.add_argument("--seed", type=int, default=Experiment.seed)
    parser.add_argument("--steps", type=int, default=Experiment.steps)
    parser.add_argument("--processes", type=int, default=Experiment.processes)
    experiment = Experiment(**vars(parser.parse_args()))
    with tempfile.TemporaryDirectory() as folder:
        compare(experiment, Path(folder))


def compare(experiment: Experiment, folder: Path) -> None:
    """Runs both runs and prints what differs; exits with 1 if anything does."""
    whole, killed = folder / "whole", folder / "killed"
    logging.getLogger("absl").setLevel(logging.ERROR)
    wait(started(experiment, whole, folder))
    kill_often(experiment, killed, folder)
    wait(started(experiment, killed, folder))
    result = json.loads((killed / "result.json").read_text())
    kept = sum("not used" in note for note in result["training"]["notes"])
    print(f"resumed at steps {result['training']['resumed_at']}; {kept} checkpoints were not used")
    differences = different(whole, killed)
    print(
        "\n".join(differences)
        or "identical: every array of the last checkpoint, every line of the metrics, the quality"
    )
    print(json.dumps(dataclasses.asdict(experiment) | {"differences": differences}))
    sys.exit(bool(differences))


def started(experiment: Experiment, out: Path, folder: Path) -> subprocess.Popen:
    """The command line; compiled programs are kept, so that a resumed run compiles nothing twice."""
    program = [sys.executable, "-m", "snap_jax"]
    launch = [*program, "launch", "-n", str(experiment.processes), "--"] if experiment.processes > 1 else []
    command = [*launch, *program, "train", "language", *experiment.flags.split(), *experiment.layout.split()]
    command += ["--steps", str(experiment.steps), "--out", str(out), "--requeue"]
    cache = {"JAX_COMPILATION_CACHE_DIR": str(folder / "programs"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1"}
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | cache)


def wait(process: subprocess.Popen) -> None:
    """Until it is done, which must be well."""
    if code := process.wait():
        raise SystemExit(f"the run ended with {code}")


def kill_often(experiment: Experiment, out: Path, folder: Path) -> None:
    """Starts, kills, and says where that found the run."""
    moments = random.Random(experiment.seed)
    for number in range(1, experiment.kills + 1):
        process = started(experiment, out, folder)
        if number % 2 == 0:
            wait_for_step(process, out)
        after = moments.uniform(0, experiment.longest_s)
        time.sleep(after)
        if process.poll() is not None:
            raise SystemExit(f"kill {number} came too late: give more --steps")
        which = kill_one(experiment, process, moments)
        where = "its first step" if number % 2 == 0 else "its start"
        print(f"kill {number:2}: {which}{after:.2f} s after {where}; {state_of(out)}", flush=True)


def kill_one(experiment: Experiment, process: subprocess.Popen, moments: random.Random) -> str:
    """Kill the run, or one of its processes, and wait until all have ended; return which one it was."""
    if experiment.processes == 1:
        process.kill()
        process.wait()
        return ""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    which = moments.randrange(experiment.processes)
    os.kill(int(children[which]) if which < len(children) else process.pid, signal.SIGKILL)
    killed = time.monotonic()
    if process.wait() == 0:
        raise SystemExit("the run ended well though one of its processes was killed")
    return f"process {which}, the others gone {time.monotonic() - killed:.1f} s later; "


def wait_for_step(process: subprocess.Popen, out: Path) -> None:
    """Until the run saves a checkpoint it did not have."""
    before = saved(out)
    while process.poll() is None and saved(out) <= before:
        time.sleep(0.01)


def saved(out: Path) -> set[str]:
    """The names of its checkpoints, those under way included."""
    return {path.name for path in (out / "checkpoints").glob("*")}


def state_of(out: Path) -> str:
    """What the run has on disk."""
    last = max((line["step"] for line in lines(out / "metrics.jsonl")), default=0)
    under_way = sorted(name for name in saved(out) if not name.isdecimal())
    whole = sorted((int(name) for name in saved(out) if name.isdecimal()), reverse=True)
    return f"logged to step {last}, checkpoints {whole}" + (f", half-written {under_way}" if under_way else "")


def different(whole: Path, killed: Path) -> list[str]:
    """What is not the same in both."""
    arrays = [last_arrays(out) for out in (whole, killed)]
    found = [f"array {name}" for name in arrays[0] if not np.array_equal(arrays[0][name], arrays[1][name])]
    print(f"{len(arrays[0])} arrays of {sum(a.size for a in arrays[0].values()):,} numbers compared")
    logs = [[{**line, "seconds": 0} for line in lines(out / "metrics.jsonl")] for out in (whole, killed)]
    results = [json.loads((out / "result.json").read_text()) for out in (whole, killed)]
    found += ["the names of the arrays"] * (arrays[0].keys() != arrays[1].keys())
    found += ["metrics.jsonl"] * (logs[0] != logs[1])
    return found + ["quality"] * (results[0]["quality"] != results[1]["quality"])


def last_arrays(out: Path) -> dict[str, np.ndarray]:
    """Every array of the last checkpoint."""
    path, _ = checkpoints.last_good(out / "checkpoints")
    assert path is not None
    return checkpoints.arrays(path)


if __name__ == "__main__":
    main()
