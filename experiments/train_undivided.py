"""Train a divided language model on one device, whose boundaries quantize and send nothing.

    python -m experiments.train_undivided --out runs/mine --devices 4 --link ternary+radix --init-from runs/dense

The flags are those of `snap-jax train language`, the numbers too, to float rounding (invariant 2). Emulated devices
that wait for each other took seven times the processor time at width 1024. `snap-jax eval` uses the run over its
devices. The directory has no `result.json`: nothing was sent while it trained.
"""

import json
import math
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import optax
import tyro
from jaxtyping import Array, PyTree

from snap_jax import training
from snap_jax.inference import evaluate, load
from snap_jax.inference.undivided import forward, undivided
from snap_jax.models.base import Network
from snap_jax.training import checkpoints, run_dir
from snap_jax.training.config import LanguageConfig
from snap_jax.training.optimizer import clipped, optimizer
from snap_jax.training.tasks.losses import Batch, teacher_logits

_FLAT = tyro.conf.arg(name="")
_EVERY = 50  # steps between lines
Step = Any


def main(out: Path, config: Annotated[LanguageConfig, _FLAT]) -> None:
    """Train, and write the run directory.

    Args:
      out: Where to write it.
      config: As for `snap-jax train language`.
    """
    plain = LanguageConfig(**vars(config) | {"distill": None, "teacher": None})
    job, params = undivided(divided := training.prepare(plain), divided.params)
    assert isinstance(divided, training.language.LanguageJob)
    run_dir.claim(out, plain, divided.fingerprint(), overwrite=True)
    rule, teacher = optimizer(config, job.decayed), _teacher(config)
    state, step = rule.init(params), _step(job, rule, teacher, config.distill)
    for done in range(1, config.steps + 1):
        params, state, loss = step(params, state, job.batch(done - 1))
        if done % _EVERY == 0:
            line = {"step": done, "loss_bits": float(loss) / math.log(2)}
            line |= job.evaluate_some(params) if done % config.evaluate_every == 0 else {}
            with (out / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(line | {"seconds": 0.0}) + "\n")
    checkpoints.save_weights(out / "checkpoints" / "final", divided.task.place(params))
    print(json.dumps(evaluate(load(out))._asdict(), indent=1))


def _teacher(config: LanguageConfig) -> Network | None:
    """The dense model that teaches, on one device."""
    if config.distill is None:
        return None
    run = load(Path(config.teacher or config.init_from or ""), devices=1)
    return run.job.task.stages.join(run.params)[0]


def _step(job: Any, rule: optax.GradientTransformation, teacher: Network | None, weight: float | None) -> Step:
    def loss(params: PyTree, batch: Batch) -> tuple[Array, Array]:
        inputs, labels = (jnp.asarray(a).reshape(-1, a.shape[-1]) for a in (batch.inputs, batch.classes))
        model, boundaries = job.task.stages.join(params)
        logits, _ = forward(model, boundaries, inputs)
        own = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        if teacher is None:
            return own, own
        targets = teacher_logits(teacher(inputs), labels, weight or 0.0)
        return optax.softmax_cross_entropy(logits, jax.lax.stop_gradient(targets)).mean(), own

    @jax.jit
    def step(params: PyTree, state: PyTree, batch: Batch) -> tuple[PyTree, PyTree, Array]:
        (_, own), gradient = jax.value_and_grad(loss, has_aux=True)(params, batch)
        gradient = clipped(gradient, optax.tree.norm(gradient))
        updates, state = rule.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, own

    return step


if __name__ == "__main__":
    tyro.cli(main)
