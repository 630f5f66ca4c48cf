"""Three ways to run a model over chips: dense everywhere (ANN), spikes between chips (hybrid), spikes everywhere (SNN).

Law: all ways have the same data, steps, optimizer and seeds; a line of JSON says how good one is, what its compiled
program moves, and what it computes.
"""

import dataclasses
import functools
import json
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
from flax import nnx

from experiments import frontier, over_chips, tasks
from experiments.inside import firing_rate
from experiments.measuring import measure
from experiments.points import Point
from experiments.sweeps import load
from snap_jax.models.rwkv import RWKV
from snap_jax.traffic.count_operations import count

WIDTH = {"text": 64, "digits": 32}
STEPS = {"text": 300, "digits": 500}
PASS = {"text": (4, 2), "digits": (4, 16)}  # microbatches, and windows or images of each


@dataclasses.dataclass(frozen=True)
class Way:
    """A way to run the model.

    Attributes:
      name: of its row.
      method: as in `Point`.
      bits: as in `Point`; for other spikes, the entropy that their threshold starts with.
      share: of the width, what a basis keeps; 0 for no basis.
      context_tokens: as in `Point`.
      ticks: for which neurons inside run; 0 for floats inside.
    """

    name: str
    method: str
    bits: float = 0.0
    share: float = 0.0
    context_tokens: int = 0
    ticks: int = 0


@dataclasses.dataclass(frozen=True)
class Trial:
    """One way at one size.

    Attributes:
      task: `text` or `digits`.
      way: what is tried.
      seed: of parameters and batches.
      scale: of the experiment: steps, and from 2 on, width.
    """

    task: str
    way: Way
    seed: int = 0
    scale: float = 1.0

    @property
    def point(self) -> Point:
        """What is trained."""
        width = WIDTH[self.task] * max(1, int(self.scale))
        rank, steps = round(self.way.share * width), max(20, round(STEPS[self.task] * self.scale))
        return Point(self.task, self.way.method, self.way.bits, rank, self.way.context_tokens, self.seed, steps, width)

    @property
    def key(self) -> dict:
        """What tells its line from others."""
        return {"way": dataclasses.asdict(self.way)} | dataclasses.asdict(self.point)


def task_of(trial: Trial) -> tasks.Task:
    """Data and model."""
    make = {"text": tasks.language, "digits": tasks.digits}[trial.task]
    return make(trial.point.width, ticks=trial.way.ticks)


def run(trial: Trial, *, programs: bool = True) -> dict:
    """Trains, measures, and with `programs` looks at those over chips; a line of JSON."""
    began, task, point = time.monotonic(), task_of(trial), trial.point
    model = frontier.trained(point, task)
    line = trial.key | measure(model, task, point)
    line["inner_rate"] = firing_rate(model.net, task.heldout[0][0][:2]) if trial.way.ticks else None
    line |= over_four_chips(model, trial) if programs else {}
    return line | {"seconds": round(time.monotonic() - began, 1)} | where()


def over_four_chips(model: tasks.Cut, trial: Trial) -> dict:
    """Traffic of a pass, of the smallest pass, and of a training step; what a pass computes."""
    inputs, reads = _inputs(trial), trial.way.context_tokens > 0
    tokens = task_of(trial).token_wire if reads else None
    for boundary in over_chips.coarse(model).boundaries:
        boundary.set_grad_codec("bf16")
    whole, logits = over_chips.forward(model, inputs, tokens=tokens)
    alone = nnx.jit(lambda model, x: model(x, x if reads else None)[0])
    least = inputs[:1, :1, :1] if trial.task == "text" else inputs[:1, :1]
    traffic = {"pass": whole, "smallest": over_chips.forward(one_token(model), least, tokens=tokens)[0]}
    if trial.seed == 0:
        traffic["step"] = over_chips.training_step(model, inputs, tokens=tokens)
    return {
        "differs": max(float(jnp.abs(y - alone(model, x)).max()) for x, y in zip(inputs, logits, strict=True)),
        "elements": (len(model.net.blocks) - 1) * inputs.size * trial.point.width,
        "traffic": {name: json.loads(t.to_json()) for name, t in traffic.items()},
        "operations": computed(model, inputs, tokens=reads),
    }


def _inputs(trial: Trial) -> jax.Array:
    micro, each = PASS[trial.task]
    heldout = task_of(trial).heldout
    return jnp.stack([heldout[i][0][:each] for i in range(micro)])


def one_token(model: tasks.Cut) -> tasks.Cut:
    """The same model, for windows of any length."""
    model = nnx.clone(model)
    if isinstance(model.net, RWKV):
        for block in model.net.blocks:
            block.time_mix.chunk = 1
    return model


def computed(model: tasks.Cut, inputs: jax.Array, *, tokens: bool) -> list:
    """Operations of a pass, `[kind, dtype, times]`; what boundaries compute is in, packing bits is not."""
    graph, params = nnx.split(model)

    def logits(params, x):
        return nnx.merge(graph, params)(x, x if tokens else None)[0]

    counted = count(logits)(params, inputs[0]) * len(inputs)
    return [[c.kind, c.dtype, c.times] for c in counted.counts]


def sweep(
    trials: Sequence[Trial], file: Path, *, programs: bool = True, say: Callable[[str], None] = print
) -> list[dict]:
    """Runs what `file` does not hold yet; a line of JSON each, appended as it is done."""
    file.parent.mkdir(parents=True, exist_ok=True)
    for number, trial in enumerate(trials):
        if find(trial, load(file)) is None:
            line = run(trial, programs=programs)
            append(line, file)
            say(
                f"[{number + 1}/{len(trials)}] {trial.way.name}, seed {trial.seed}: {line['bits_per_byte']:.4f} bits, "
                f"{line['accuracy']:.2f} %, {line['wire_bits']:.3f} wire bits, {line['seconds']} s"
            )
    return [line for trial in trials if (line := find(trial, load(file))) is not None]


def append(line: dict, file: Path) -> None:
    """Adds a line, behind the last whole one: what a kill cut short goes."""
    whole = file.read_bytes() if file.exists() else b""
    with file.open("ab") as out:
        out.truncate(whole.rfind(b"\n") + 1)
        out.write(json.dumps(line).encode() + b"\n")


def find(trial: Trial, lines: Sequence[dict]) -> dict | None:
    """The line of a trial."""
    wanted = json.loads(json.dumps(trial.key))
    return next((line for line in lines if all(line.get(k) == v for k, v in wanted.items())), None)


@functools.cache
def where() -> dict:
    """Commit, versions and device."""
    asked = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {"commit": asked.stdout.strip(), "jax": jax.__version__, "device": jax.devices()[0].device_kind}
