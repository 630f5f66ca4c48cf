"""Write what the lab measured into docs/link-lab.md, after its heading "Measured", and draw its figure.

`python -m benchmarks.linklab.page [FILE]`
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.linklab import figure, predict, tables
from benchmarks.linklab.options import FILE
from benchmarks.linklab.predict import Model, Row

# How many times as fast as other links coded ones should be.
GOALS = {
    "inference": {"fp32": 15.2, "bf16": 8.0, "int8": 4.0},
    "training": {"bf16": 6.0},
    "gradients": {"fp32": 10.0},
}
PAGE, HEADING = Path("docs/link-lab.md"), "## Measured\n"
LAB = "benchmarks/linklab/lab --hosts {} --rate unlimited -- python -m benchmarks.linklab.{}"


def main(path: Path) -> None:
    rows = tables.latest(json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    model = predict.calibrated(rows)
    before = PAGE.read_text(encoding="utf-8").partition(HEADING)[0]
    PAGE.write_text(before + HEADING + "\n" + "\n".join(measured(rows, model)) + "\n", encoding="utf-8")
    figure.draw(rows, model, PAGE.with_name("link-lab.svg"))


def measured(rows: Sequence[Row], model: Model) -> Iterator[str]:
    """Yield the lines after the heading."""
    one = rows[0]
    yield f"{one['machine']}; commit {one['commit']}, {one['date']}. `python -m benchmarks.linklab.page` wrote this."
    yield "\n![Measured and predicted times](link-lab.svg)\n"
    yield from _predictions(rows, model)
    yield from _bytes(rows)
    yield from _collectives(rows, model)
    yield from _gradients(rows, model)
    yield from _steps(rows, model)


def _of(rows: Sequence[Row], program: str, **want: object) -> list[Row]:
    return [r for r in rows if r["program"] == program and all(r.get(k) == v for k, v in want.items())]


def _predictions(rows: Sequence[Row], model: Model) -> Iterator[str]:
    yield "### Predictions\n"
    yield tables.error_line(model, rows)
    yield (
        f"A message takes {1e6 * model.machine.latency_s:.0f} µs besides its bytes, and this machine moves "
        f"{1e-9 / model.machine.byte_s:.2f} GB/s where no link limits it. Time in links over what `price` says, fitted "
        f"to floats at {predict.FILLED_AT}: "
        + ", ".join(f"{name} {factor:.2f}" for name, factor in model.slowdown.items())
        + ".\n"
    )


def _bytes(rows: Sequence[Row]) -> Iterator[str]:
    yield "### Bytes counted over bytes claimed\n"
    yield f"2^20 elements per host; `{LAB.format('2', 'collective_speed NAME')}`, and with 4 hosts.\n"
    yield from tables.bytes_table(rows)
    constant = tables.constant_per_message(rows)
    yield f"\nWithin 3 % and {constant:.0f} bytes per collective and host, but for `psum_scatter` of floats.\n"


def _collectives(rows: Sequence[Row], model: Model) -> Iterator[str]:
    yield "### Collectives\n"
    yield f"2^20 elements per host; `{LAB.format(4, 'collective_speed NAME')}`."
    yield "Milliseconds, median and quartiles; after the semicolon what was predicted.\n"
    own = _of(rows, "collective_speed", hosts=4, elements=2**20)
    for name in dict.fromkeys(row["collective"] for row in own):
        mine = _of(own, "collective_speed", collective=name)
        yield f"`{name}`:\n"
        yield from tables.times_table(mine, model, lambda row: f"`{row['spec']}`")
        both = [dict(tables.break_even(mine, base)) for base in ("fp32", "bf16")]
        yield f"\nFaster than floats, and than bf16 bits, up to this rate (`{name}`):\n"
        lines = [[f"`{spec}`", rate, both[1].get(spec, "")] for spec, rate in both[0].items()]
        yield from tables.grid(["", "than fp32", "than bf16"], lines)
        yield ""


def _gradients(rows: Sequence[Row], model: Model) -> Iterator[str]:
    mine = _of(rows, "gradient_sum")
    peers = _of(rows, "torch_peers")
    if mine:
        yield "### Mean of gradients\n"
        yield f"{mine[0]['parameters']:,} parameters; `{LAB.format(4, 'gradient_sum')}`. Milliseconds:\n"
        yield from tables.times_table(mine, model, lambda row: f"`{row['spec']}`")
        yield ""
        yield from tables.speedups(mine, model, ("fp32",), lambda row: row["spec"])
        yield ""
        yield from _goals([row for row in mine if row["spec"] in ("fp32", "ternary")], model, GOALS["gradients"])
    if peers:
        yield f"PyTorch with Gloo in the same lab, `benchmarks/linklab/torch_peers.py`, {peers[0]['machine']}."
        yield "Its quantization hooks do not run on CPUs in this version. Milliseconds:\n"
        lines = [
            [row["spec"], row["rate"], f"{1e3 * row['seconds']:.0f} ({1e3 * row['low']:.0f}–{1e3 * row['high']:.0f})"]
            for row in peers
        ]
        yield from tables.grid(["hook", "rate", "ms"], lines)
        yield ""


def _steps(rows: Sequence[Row], model: Model) -> Iterator[str]:
    for kind in ("inference", "training"):
        mine = _of(rows, "model_steps", kind=kind)
        if mine:
            yield f"### Steps: {kind}\n"
            yield f"`{LAB.format(4, f'model_steps {kind} --run RUN')}`, a run with"
            yield f"`{_flags(json.loads(mine[0]['config']))}`. Milliseconds:\n"
            yield from tables.times_table(mine, model, lambda row: f"`{row['spec']}`")
            yield ""
            against = list(dict.fromkeys(row["spec"] for row in mine))[:4]
            yield from tables.speedups(mine, model, against, lambda row: row["spec"])
            yield ""
            yield from _goals(mine, model, GOALS[kind])


def _flags(config: Mapping[str, object]) -> str:
    """Return the settings that decide what is sent and computed, as `snap-jax train language` takes them."""
    names = ("model", "layers", "width", "streams", "heads", "batch", "microbatches", "seq_len", "link", "link_streams")
    return " ".join(f"--{name.replace('_', '-')} {config[name]}" for name in names if config.get(name) is not None)


def _goals(rows: Sequence[Row], model: Model, goals: dict[str, float]) -> Iterator[str]:
    """Yield up to which rate the last row is so many times as fast as others, by the model."""
    one = {row["spec"].split(",")[0]: row for row in rows}
    name, last = list(one.items())[-1]
    for base, factor in goals.items():
        if base in one and base != name:
            where = tables.reached(model, last, one[base], factor)
            yield f"* `{name}` is predicted to be {factor}x faster than `{base}` {where}."
    yield ""


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else FILE)
