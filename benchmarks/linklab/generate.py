"""Time how fast a language model whose stages are on different hosts writes text, over slow links.

`benchmarks/linklab/lab --hosts 4 --rate unlimited -- python -m benchmarks.linklab.generate`

Prints bytes of text per second and milliseconds to the first one, from the first host, for each rate and link. With
`--run DIR` the model is that of a trained run, whose own link is `trained`; other links then start from its weights.
Without, models of the same shapes are untrained: no time depends on the weights.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks.linklab import hosts, options
from benchmarks.linklab.model_steps import TRAINED, settings
from snap_jax import training
from snap_jax.inference import load
from snap_jax.inference.generation import DecodePrograms, Written, compile_for, generate
from snap_jax.inference.trained_run import TrainedRun
from snap_jax.parallel import processes

LINKS = ("fp32", "bf16", "int8", "ternary")
PROMPT = b"def main(argv):\n    "


def main() -> None:
    asked = _asked()
    hosts.join()
    prompts = [(PROMPT * asked.prompt)[: asked.prompt]] * asked.texts
    runs = {link: _loaded(asked, link) for link in asked.links}
    programs = {link: compile_for(run, prompts, tokens=asked.tokens) for link, run in runs.items()}
    for link, run in runs.items():  # connects the hosts
        generate(run, prompts, tokens=asked.tokens, programs=programs[link])
    for rate in asked.rates:
        hosts.set_rate(rate)
        rows = _rows(asked, rate, runs, programs, prompts)
        hosts.write(asked.out, rows)
        for one in rows if processes.is_first() else ():
            print(_line(one, rows[0]), flush=True)


def _loaded(asked: argparse.Namespace, link: str) -> TrainedRun:
    if asked.run is not None:
        return load(asked.run, link=None if link == TRAINED else link)
    job = training.prepare(settings(asked.config, link, processes.count()))
    return TrainedRun(Path("untrained"), job, job.params, "none", link, None)


def _rows(
    asked: argparse.Namespace,
    rate: str,
    runs: dict[str, TrainedRun],
    programs: dict[str, DecodePrograms],
    prompts: list,
) -> list[dict]:
    """A row per link; they take turns."""
    found: dict[str, list[Written]] = {link: [] for link in runs}
    for _ in range(asked.rounds):
        for link, run in runs.items():
            processes.from_each(None)
            found[link].append(generate(run, prompts, tokens=asked.tokens, programs=programs[link]))
    shared = {"program": "generate", "hosts": processes.count(), "rate": rate, "texts": len(prompts)}
    shared |= {"config": asked.config, "prompt": asked.prompt, "tokens": asked.tokens}
    return [_row(link, each, shared) for link, each in found.items()]


def _row(link: str, each: Sequence[Written], shared: dict) -> dict:
    """Seconds are those of a step, which writes a byte of each text."""
    steps = [statistics.mean(one.step_seconds) for one in each]
    first = statistics.median(one.first_token_seconds for one in each)
    sent = {"bytes_per_token": each[0].bytes_per_token}
    return hosts.row(steps, **shared, spec=link, first_token_seconds=first, **sent)


def _line(one: dict, base: dict) -> str:
    second, first = one["texts"] / one["seconds"], 1e3 * one["first_token_seconds"]
    against = base["seconds"] / one["seconds"], base["first_token_seconds"] / one["first_token_seconds"]
    return (
        f"{one['rate']:9} {one['spec']:20} {second:8.1f} bytes/s ({against[0]:.2f}x), first after {first:8.1f} ms "
        f"({against[1]:.2f}x), {one['bytes_per_token']:,.0f} bytes between stages per byte of text"
    )


def _asked() -> argparse.Namespace:
    parser = options.parser(__doc__, rates=("unlimited", "200mbit", "50mbit"))
    parser.add_argument("--config", default="{}", help="settings of the run, as a JSON object")
    parser.add_argument("--run", type=Path, help="directory of a trained run, instead of --config")
    parser.add_argument("--links", nargs="+", default=LINKS, help="codecs, or `trained` for that of the run")
    parser.add_argument("--prompt", type=int, default=128, help="bytes of each prompt")
    parser.add_argument("--tokens", type=int, default=32, help="bytes to write")
    parser.add_argument("--texts", type=int, default=8, help="that are written at once")
    asked = parser.parse_args()
    if asked.run is not None:
        asked.config = json.dumps({"run": str(asked.run)})
    return asked


if __name__ == "__main__":
    hosts.run(main)
