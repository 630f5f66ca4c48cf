"""Test a claim: dense chips that exchange spikes take 5.3 times less energy and have 15.2 times lower latency.

    python -m experiments.paper_claims                  # train what is missing, then print the tables
    python -m experiments.paper_claims --show           # the tables of what is there
    python -m experiments.paper_claims --task digits    # images in place of text
    python -m experiments.paper_claims --scale 2        # twice the steps, twice the width

The claim is that of *Learnable Sparsification of Die-to-Die Communication via Spike-Based Encoding* (arXiv:2501.08645,
abstract): "up to" these factors, against dense-only and spiking-only models.

All models have the same data, steps, optimizer and seeds, and four devices in a row with one block each. Bytes are
those of the compiled training step, with payload sizes as measured on held-out data. Systems are those of
`snap-jax cost --list`; what has no source has no number.
"""

import argparse
import dataclasses
import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
from flax import nnx

from experiments import claim_tables, one_device
from experiments.settings import DIGITS, TEXT, coded, quick, ranked, spikes
from experiments.sweep import Line, load, parser, reseeded, seeds, sweep
from snap_jax import training
from snap_jax.parallel.mesh import STAGE
from snap_jax.traffic import Traffic, Transfer
from snap_jax.traffic.count_operations import count
from snap_jax.training.config import LanguageConfig, Settings
from snap_jax.training.result_json import as_sent

BASES = {
    "text": dataclasses.replace(TEXT, steps=240, microbatches=4),
    "digits": dataclasses.replace(DIGITS, microbatches=4),
}
BASELINE = "ANN, bf16 links"


def models(base: Settings) -> dict[str, Settings]:
    """Return the models that are compared, by name."""
    text = isinstance(base, LanguageConfig)
    wide, usual = (20 / 64, 40 / 64) if text else (12 / 32, 20 / 32)
    tokens: dict[str, Any] = {"context_tokens": 4} if text else {}
    plain = {"token_groups": 1} if text else {}
    hybrid = partial(spikes, base, link="count:31+rans", grad_link="bf16", **plain)
    link = partial(coded, base, grad_link="bf16")
    return {
        BASELINE: link("bf16"),
        "ANN, int8 links": link("int8"),
        "hybrid, 1 bit": hybrid(1.0, rank=ranked(base, wide)),
        "SNN, 4 time steps": link("rate:4+bitplanes" if text else "ternary+bitplanes", mode="spiking", time_steps=4),
        "hybrid, 1 bit, fixed size": link("ternary+radix", ranked(base, usual), **tokens),
        "hybrid, 1/2 bit": hybrid(0.5, rank=ranked(base, 10 / 64 if text else 8 / 32)),
        "ANN, int4 links": link("int4"),
        "ANN, int4 bottleneck": link("int4", ranked(base, 1 / 4)),
    }


def measured(trained: training.Trained) -> Line:
    """Return what the model sends and computes: traffic of a forward pass, a training step, one token or image."""
    job, result = trained.job, trained.result
    config = job.config
    model, boundaries = one_device.joined(trained)
    rows = job.batch(0).inputs[0]
    graph, params = nnx.split((model, boundaries))

    def logits(params: Any, rows: jax.Array) -> jax.Array:
        return one_device.run(*nnx.merge(graph, params), rows)[0]

    codec = boundaries[0].codec
    step = _step(trained, result["wire"]["bits_per_element"])
    one = codec.payload_bytes((1, boundaries[0].channels)) if codec is not None else 4 * config.width
    traffic = {
        "step": step,
        "pass": step.where(lambda t: t.direction == "forward"),
        "smallest": _smallest(one, job.mesh.shape[STAGE]),
    }
    return {
        "traffic": {name: json.loads(each.to_json()) for name, each in traffic.items()},
        "operations": [[c.kind, c.dtype, c.times * config.parts] for c in count(logits)(params, rows).counts],
        "inner_rate": one_device.firing_rate(model, rows[:2]) if config.mode == "spiking" else None,
    }


def _step(trained: training.Trained, sent_bits: float) -> Traffic:
    """Traffic between stages in one step, with measured payload sizes and the tokens that both ends need.

    Thresholds are left out, since a deployed model sends them once.
    """
    job, mesh = trained.job, trained.job.mesh.shape
    whole = as_sent(trained.traffic, mesh, job.crossing_elements, sent_bits) or trained.traffic
    floats = job.config.sent_link == "fp32"
    between = whole.where(lambda t: "boundary" in t.path and (floats or t.dtype != "float32"))
    messages = (job.config.parts + mesh[STAGE] - 1) * (mesh[STAGE] - 1)
    tokens = round(job.context_bits * job.crossing_elements / messages / 8)
    return Traffic(tuple(_with_tokens(t, tokens) for t in between))


def _with_tokens(transfer: Transfer, nbytes: int) -> Transfer:
    if (transfer.op, transfer.direction) != ("ppermute", "forward"):
        return transfer
    return dataclasses.replace(transfer, bytes=transfer.bytes + nbytes)


def _smallest(nbytes: int, stages: int) -> Traffic:
    """Return the traffic of one vector that passes all stages: one message per boundary and pipeline slot."""
    perm = tuple((i, i + 1) for i in range(stages - 1))
    message = Transfer("ppermute", (STAGE,), stages, "uint8", nbytes, times=stages, pairs=len(perm), perm=perm)
    return Traffic((message,))


def options(about: str | None, default: int = 1) -> argparse.ArgumentParser:
    """Return the options of the experiments that compare these models."""
    asking = parser(about)
    asking.add_argument("--task", choices=tuple(BASES), default="text", help="What to train. The default is text.")
    asking.add_argument("--seeds", type=int, default=default, help=f"Number of seeds. The default is {default}.")
    asking.add_argument("--scale", type=float, default=1.0, help="Factor of the steps, and of the width if 2 or more.")
    return asking


def base_of(asked: argparse.Namespace) -> Settings:
    """Return the task at the size that the command line asks for."""
    base = BASES[asked.task]
    base = dataclasses.replace(
        base, steps=max(4, round(base.steps * asked.scale)), width=base.width * max(1, int(asked.scale))
    )
    return (
        dataclasses.replace(quick(dataclasses.replace(base, microbatches=1)), microbatches=2) if asked.quick else base
    )


def groups(named: dict[str, Settings], asked: argparse.Namespace) -> dict[str, list[Line]]:
    """Train what is missing, and return the lines of each model that has any."""
    if not asked.show:
        every = [reseeded(config, seed) for seed in range(asked.seeds) for config in named.values()]
        sweep(every[:2] if asked.quick else every, asked.file, measured)
    lines = load(asked.file)
    return {name: found for name, config in named.items() if (found := seeds(config, lines, asked.seeds))}


def main(arguments: Sequence[str] | None = None) -> None:
    asked = options(__doc__).parse_args(arguments)
    found = groups(models(base_of(asked)), asked)
    print(claim_tables.page(found, BASELINE) if BASELINE in found else f"no line of {BASELINE!r} in {asked.file} yet")


if __name__ == "__main__":
    main()
