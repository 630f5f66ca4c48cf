"""Time inference or training steps of a language model whose stages are on different hosts, over slow links.

`benchmarks/linklab/lab --hosts 4 --rate unlimited -- python -m benchmarks.linklab.model_steps inference`

A link may change other settings of the run: `ternary,width=512,grad_link=int4`. With `--run DIR` the model is that of a
trained run, and the link `trained` is its own. The others send the whole stream of an untrained model of the same
shapes: no time depends on the weights.
"""

import argparse
import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path

import jax
from jaxtyping import PyTree

import snap_jax as snap
from benchmarks.linklab import hosts, options
from snap_jax import training
from snap_jax.inference import load
from snap_jax.parallel import processes
from snap_jax.training import train_step
from snap_jax.training.config import LanguageConfig
from snap_jax.training.optimizer import optimizer
from snap_jax.training.parallel_job import ParallelJob

TRAINED = "trained"
LINKS = ("fp32,grad_link=fp32", "bf16", "int8,grad_link=int8", "int4,grad_link=int4", "ternary,grad_link=ternary")


def main() -> None:
    asked = _asked()
    hosts.join()
    runs, facts = {}, {}
    for link in asked.links:
        runs[link], facts[link] = compiled(asked, link)
    for rate in asked.rates:
        hosts.set_rate(rate)
        times = hosts.timed(runs, asked.rounds)
        shared = {"program": "model_steps", "kind": asked.kind, "hosts": processes.count(), "rate": rate}
        rows = [hosts.row(times[link], **shared, spec=link, config=asked.config, **facts[link]) for link in runs]
        hosts.write(asked.out, rows)
        if processes.is_first():
            for one in rows:
                against = rows[0]["seconds"] / one["seconds"]
                print(f"{rate:9} {one['spec']:40} {1e3 * one['seconds']:9.2f} ms, {against:.2f}x", flush=True)


def settings(config: str, link: str, devices: int) -> LanguageConfig:
    """Return the settings of a run: those of a JSON object, changed by what stands after the link.

    Any link but `trained` replaces that of the object, and what was trained for it.

    >>> found = settings('{"width": 32, "link": "ternary"}', "int4,grad_link=int8,batch=16", 4)
    >>> found.link, found.grad_link, found.batch, found.width
    ('int4', 'int8', 16, 32)
    >>> settings('{"link": "ternary"}', "trained", 4).link
    'ternary'
    """
    name, *changes = link.split(",")
    own: dict = json.loads(config) | {"devices": devices}
    if name != TRAINED:
        own |= {"link": name} | dict.fromkeys({"link_streams", "init_from"} & own.keys())
    kinds = {field.name: field.type for field in dataclasses.fields(LanguageConfig)}
    for change in changes:
        key, _, value = change.partition("=")
        own[key] = int(value) if "int" in str(kinds[key]) else value
    return LanguageConfig(**own)


def config_of(run: Path) -> str:
    """Return the settings of a run directory, as a JSON object."""
    config = json.loads((run / "run.json").read_text(encoding="utf-8"))["config"]
    return json.dumps({key: value for key, value in config.items() if key != "task"})


def compiled(asked: argparse.Namespace, link: str) -> tuple[Callable, dict]:
    """Return a call of one step, and what it claims to send."""
    config = settings(asked.config, link, processes.count())
    if asked.kind == "training":
        return _training(training.prepare(config), config)
    if asked.run is None or link != TRAINED:
        job = training.prepare(config)
        return _inference(job, job.params)
    loaded = load(asked.run)
    return _inference(loaded.job, loaded.params)


def _inference(job: ParallelJob, params: PyTree) -> tuple[Callable, dict]:
    batch = job.batch(0)
    program = jax.jit(job.task.loss)
    traffic = snap.collective_traffic(program, schedule=job.task.schedule_of(batch))(params, batch)
    ready = program.lower(params, batch).compile()
    run = functools.partial(ready, params, batch)
    return run, _facts(run, traffic)


def _training(job: ParallelJob, config: LanguageConfig) -> tuple[Callable, dict]:
    rule = job.optimizer(optimizer(config, job.decayed))
    kept = [train_step.start(job, config, rule)]
    step, batches = train_step.compile_step(job, config, rule, kept[0]), train_step.batches_of(job, config, 0)
    both = jax.jit(job.task.loss_and_gradient)
    traffic = snap.collective_traffic(both, schedule=job.task.schedule_of(batches))(job.params, batches)

    def run():
        kept[0], measured = step(kept[0], batches)
        return kept[0], measured

    return run, _facts(run, traffic)


def _facts(run: Callable, traffic: snap.Traffic) -> dict:
    """What is claimed, and what crosses in fact; a pipeline's first run also connects the hosts."""
    jax.block_until_ready(run())
    return {
        "claimed_bytes": traffic.sent_bytes,
        "interface_bytes": hosts.crossed(run, times=2),
        "messages": sum(t.times for t in traffic),
        "traffic": json.loads(traffic.to_json()),
    }


def _asked() -> argparse.Namespace:
    parser = options.parser(__doc__)
    parser.add_argument("kind", choices=("inference", "training"))
    parser.add_argument("--config", default="{}", help="settings of the run, as a JSON object")
    parser.add_argument("--run", type=Path, help="directory of a trained run, instead of --config")
    parser.add_argument("--links", nargs="+", default=LINKS, help="codecs, or `trained` for that of the run")
    asked = parser.parse_args()
    if asked.run is not None:
        asked.config = config_of(asked.run)
    return asked


if __name__ == "__main__":
    hosts.run(main)
