"""Experiments: what a table says is what the lines say, a sweep runs nothing twice, cotangents are coded."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import snap_jax as snap
from experiments import ablations, backward, near, pareto, probes, scaling, sweeps, tasks
from experiments.points import Point
from experiments.scaling import needed


def test_bits_needed_are_on_the_line_through_the_logarithms():
    """A loss that halves with every bit, from 8 % at one bit: 1 % takes three bits more."""
    losses = [(bits, 0.08 / 2 ** (bits - 1)) for bits in (1.0, 2.0, 3.0)]
    assert needed(losses) == pytest.approx(4.0)
    assert needed([*losses, (5.0, 0.005)]) == pytest.approx(4.0)
    assert needed([(1.0, 0.02), (2.0, 0.03)]) == np.inf
    assert needed([(1.0, 0.001), (2.0, 0.0)]) == 0.0


class Nothing(nnx.Module):
    """Two blocks that do nothing, between an entrance and an exit that do nothing."""

    def __init__(self):
        self.blocks = nnx.List([nnx.identity, nnx.identity])

    def enter(self, x):
        return x

    leave = enter


def test_a_cotangent_crosses_back_as_the_codec_says():
    codec = snap.Codec(snap.Int(2), snap.Packed())
    model = tasks.Cut(Nothing(), [snap.Boundary(None, 4, grad_codec=codec)])
    x, weights = jnp.arange(4.0), jnp.array([1.0, -0.2, 0.4, -1.0])
    value, gradient = jax.value_and_grad(lambda x: (model(x, None)[0] * weights).sum())(x)
    assert float(value) == pytest.approx(float((x * weights).sum()))
    np.testing.assert_array_equal(gradient, [1.0, 0.0, 0.0, -1.0])  # two bits, steps of max |x|


def test_noise_is_that_of_the_seed_and_the_step():
    task = tasks.digits(8, 2, batch=4, noise=0.5)
    same, again, other = task.batch(1, 2)[0], task.batch(1, 2)[0], tasks.digits(8, 2, batch=4).batch(1, 2)[0]
    np.testing.assert_array_equal(same, again)
    assert 0.3 < float(jnp.std(same - other)) < 0.7
    assert len(task.heldout) == 8 * len(tasks.digits(8, 2, batch=4).heldout)


def test_a_sweep_runs_what_is_missing_and_nothing_twice(tmp_path, monkeypatch):
    points, ran = [Point("digits", "dense", seed=seed) for seed in (0, 1, 2)], []

    def run(point, say):
        ran.append(point.seed)
        numbers = {"bits_per_byte": 1.0, "accuracy": 50.0, "wire_bits": 2.0}
        return {name: getattr(point, name) for name in Point.__dataclass_fields__} | numbers

    monkeypatch.setattr(sweeps, "run", run)
    kept = jax.config.jax_compilation_cache_dir
    try:
        sweeps.sweep(points[:2], tmp_path / "a.jsonl", lambda _: None)
        with (tmp_path / "a.jsonl").open("a") as file:
            file.write('{"task": "digits", "meth')  # killed while it wrote
        assert [line["seed"] for line in sweeps.load(tmp_path / "a.jsonl")] == [0, 1]
        assert [line["seed"] for line in sweeps.sweep(points, tmp_path / "a.jsonl", lambda _: None)] == [0, 1, 2]
    finally:
        jax.config.update("jax_compilation_cache_dir", kept)
    assert ran == [0, 1, 2]


def line(point: Point, nats: float, bits: float, **more) -> dict:
    """As `frontier.run` gives it."""
    fields = {name: getattr(point, name) for name in Point.__dataclass_fields__}
    return fields | {"nats": nats, "bits_per_byte": nats / np.log(2), "accuracy": 50.0, "wire_bits": bits} | more


def test_the_frontier_says_how_losses_compare():
    """Spikes lose 0.1 nats, the better of two rivals 0.2: half as much."""
    rivals = pareto.bottlenecks("text", 1.0)[:2]
    lines = [
        line(Point("text", "dense", steps=600), 1.0, 0.0),
        line(pareto.spikes("text", 1.0), 1.1, 1.0),
        line(rivals[0], 1.2, 1.0),
        line(rivals[1], 1.3, 1.0),
        line(dataclasses.replace(rivals[0], distill=0.5), 1.05, 1.0),  # of other experiments
        line(dataclasses.replace(rivals[0], steps=2000), 1.05, 1.0),
        line(dataclasses.replace(rivals[0], blocks=2), 1.05, 1.0),
    ]
    assert [pareto.of_frontier(one) for one in lines] == [True] * 4 + [False] * 3
    assert not pareto.of_frontier(line(pareto.spikes("text", 1.0, token_groups=1), 1.0, 1.0))
    row = pareto.table("text", lines).splitlines()[-1]
    assert "x 16 dims" in row
    assert row.endswith("| 0.50 | 0.1000 |")


def test_tables_of_the_other_experiments_hold_what_is_there():
    dense, ours, *_ = backward.all_points()
    lines = [line(dense, 1.0, 0.0), line(ours, 1.02, 2.0, grad_bits=2.0)]
    assert "| 1/8.0 | " in backward.table(lines)
    assert "+2.00 %" in backward.table(lines)
    nats = (1.0, 1.02, 1.01, 1.005)
    sizes = [line(p, n, float(i)) for i, (p, n) in enumerate(zip(scaling.points(32, 4), nats, strict=True))]
    assert "| 3.00 |" not in scaling.tables([])
    assert scaling.tables(sizes).splitlines()[2].endswith("| 2.00 |")  # 2 % at one bit, 1 % at two
    taught = near.settings()["dense teacher"]
    stands_beside = [line(near.dense_of(taught), 1.0, 0.0), line(near.dense_of(taught, distill=0.5), 0.8, 0.0)]
    assert near.table([*stands_beside, line(taught, 1.2, 1.0)]).endswith(
        f"| 1.000 | {1.2 / np.log(2):.4f} | {1 / np.log(2):.4f} | +20.00% | {0.8 / np.log(2):.4f} | +50.00% |"
    )
    settings = ablations.settings()
    named = list(settings.values())
    assert len(set(named)) == len(named)
    rows = ablations.table([line(named[0], 1.0, 1.0), line(named[1], 1.1, 1.0)]).splitlines()
    assert rows[-1].endswith(f"{0.1 / np.log(2):+.4f} |")


def test_probes_find_what_is_there_to_save():
    """Loud and quiet tokens, each an entropy of its own; 0.8 of the last value saves log2(1 / 0.6)."""
    rng = np.random.default_rng(0)
    tokens = rng.permuted(np.tile([0, 1], (40, 64)), axis=1)
    z = (rng.normal(size=(40, 128, 1)) * np.where(tokens, 8.0, 0.1)[..., None]).astype(np.float32)
    spikes = np.round(z)
    together = probes.by_channel(spikes.reshape(-1, 1), 1) / spikes.size
    apart = probes.told_apart(spikes, z, tokens, 2, 1)
    assert apart == pytest.approx(probes.entropy(spikes[20:][tokens[20:] == 1]) / 2, abs=0.05)
    assert apart < together - 0.8  # a bit says which, of what it says
    # A scale that is sent costs up to two bits a vector, and tells the loud from the quiet as well.
    assert apart < probes.with_sent_scale(spikes, z, 1) < apart + 2.05
    last = rng.normal(size=(40, 128, 1))
    now = 0.8 * last + 0.6 * rng.normal(size=last.shape)
    assert probes.gaussian_bits(last, now, 1) == pytest.approx(np.log2(1 / 0.6), abs=0.05)
