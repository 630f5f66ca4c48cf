"""Rate control: estimates are entropies, multipliers rest where the wire meets the budget, pruned channels are gone."""

import dataclasses
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import snap_jax as snap
from snap_jax import training
from snap_jax.boundary import telemetry
from snap_jax.boundary.boundary import Boundary
from snap_jax.boundary.channel_pruning import mask_channels, prune
from snap_jax.boundary.rate_control import RateController, control_rate, crossing, rate_loss
from snap_jax.boundary.rate_estimate import BoundaryStats, boundary_stats
from snap_jax.boundary.rate_penalties import L1, Penalty, RaiseThreshold, TargetRate
from snap_jax.boundary.transforms import LearnedTransform
from snap_jax.models import rwkv
from snap_jax.training import pruning
from snap_jax.training.config import LanguageConfig
from snap_jax.training.language import next_token
from snap_jax.training.link_setup import controller_of
from snap_jax.training.tasks import assemble
from snap_jax.training.tasks.layout import Layout
from tests.support.training_jobs import save_untrained

SIZE = rwkv.RWKVConfig(layers=4, width=16, heads=2, chunk=8)


def masked(boundary, channels):
    mask_channels(boundary, channels)
    return boundary


def sample(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def driven(budget: RateController, wants: float, steps: int) -> tuple[float, float]:
    """Bits and multiplier of a wire whose optimizer would spend `wants` bits more per step, were they free."""
    state, log_threshold = budget.init(1), jnp.zeros(1)
    for _ in range(steps):
        bits = 2.0 - log_threshold / np.log(2)
        state = budget.update(state, bits, 1.0)
        log_threshold = (
            log_threshold + budget.threshold_step(bits, jnp.zeros(1), 1.0) - wants * np.log(2) * (1 - state / 0.1)
        )
    return float(bits[0]), float(state[0])


@pytest.mark.parametrize("bits", [1.0, 3.0])
def test_thresholds_keep_to_the_budget_and_the_multiplier_is_found_at_which_they_rest(bits):
    """2 bits at first, so one budget is met from above and one from below."""
    found, multiplier = driven(RateController(bits, start_ratio=1.0), wants=0.005, steps=2000)
    assert found == pytest.approx(bits, rel=1e-3)
    assert multiplier == pytest.approx(0.1, rel=1e-2)
    soon, _ = driven(RateController(bits, start_ratio=1.0), wants=0.005, steps=60)
    assert soon == pytest.approx(bits, rel=0.05)


def test_a_multiplier_is_never_negative():
    state = RateController(1.0, start_ratio=1.0).init(1)
    for _ in range(200):
        state = RateController(1.0, start_ratio=1.0).update(state, jnp.array([0.1]), 1.0)
    assert float(state[0]) == 0.0


def test_thresholds_do_not_fall_where_that_makes_spikes_poorer():
    """Of three symbols that are all as frequent, each has a third, and finer thresholds leave fewer zeros."""
    even = jnp.array([[-2.0], [0.0], [2.0]])
    assert float(boundary_stats(snap.Ternary(1.0), even).saturation) == pytest.approx(1.0)
    assert float(telemetry.observe(snap.Codec(snap.Ternary(1.0)), even).saturation) == pytest.approx(1.0)
    rule, measured = RateController(2.0, start_ratio=1.0), jnp.array([1.5, 1.5, 2.5])
    np.testing.assert_allclose(
        rule.threshold_step(measured, jnp.array([0.9, 1.0, 1.0]), 1.0), [-0.025, 0.0, 0.025], rtol=1e-5
    )


def test_a_group_shares_one_multiplier():
    budget = RateController(1.0, groups=((0, 2),), start_ratio=1.0)
    state = budget.update(budget.init(3), jnp.array([0.5, 1.0, 1.5]), 1.0)
    np.testing.assert_allclose(state, budget.init_multiplier, rtol=1e-6)  # 0 and 2 meet it together, 1 by itself
    np.testing.assert_allclose(budget.threshold_step(jnp.array([0.5, 1.0, 1.5]), jnp.zeros(3), 1.0), 0.0, atol=1e-6)


def test_penalties_are_what_their_names_say():
    seen, none = BoundaryStats(*jnp.array([[2.0], [0.5], [0.75], [-1.0], [0.1]])), jnp.zeros(1)
    assert RateController(1.0).loss(jnp.array([0.1]), seen) == pytest.approx(0.2)
    assert Penalty(0.1).loss(none, seen) == pytest.approx(0.2)
    assert L1(0.1).loss(none, seen) == pytest.approx(0.075)
    assert TargetRate(0.2, 10.0).loss(none, seen) == pytest.approx(10 * 0.3**2)
    assert RaiseThreshold(0.1).loss(none, seen) == pytest.approx(0.1)
    np.testing.assert_array_equal(Penalty(0.1).update(none, jnp.array([9.0]), 0.5), none)
    np.testing.assert_array_equal(Penalty(0.1).threshold_step(jnp.array([9.0]), none, 0.5), none)


def test_a_training_loop_of_ones_own_meets_the_budget_of_two_boundaries():
    """Two boundaries in a row, one with a transform; the wire starts far above and far below the budget."""
    boundaries = nnx.List(
        [
            Boundary(snap.Codec(snap.Count(15, 0.02), snap.Rans()), 8),
            Boundary(snap.Codec(snap.Count(15, 4.0), snap.Rans()), 8, transform=LearnedTransform(4)),
        ]
    )
    controller, x = RateController(0.75), sample(512, 8)
    optimizer = nnx.Optimizer(boundaries, optax.sgd(1e-3), wrt=nnx.Param)

    @nnx.jit
    def step(boundaries, optimizer, multipliers, x):
        def loss(boundaries):
            seen, y = [], x
            for boundary in boundaries:
                z = boundary.prepare(y)
                seen.append(crossing(boundary, z))
                y = boundary.restore(boundary.codec.quantize(z))
            return jnp.square(y - x).mean() + rate_loss(controller, multipliers, seen), seen

        gradient, seen = nnx.grad(loss, has_aux=True)(boundaries)
        optimizer.update(boundaries, gradient)
        return control_rate(controller, multipliers, list(boundaries), seen, 1.0), seen

    multipliers = controller.init(2)
    for _ in range(120):
        multipliers, seen = step(boundaries, optimizer, multipliers, x)
    for each in seen:
        assert float(each.measured) == pytest.approx(0.75, rel=0.15)  # neighboring sizes are so far apart at most
    z = boundaries[1].prepare(boundaries[0](x))
    codec, budget = boundaries[1].codec, 0.75 * x.size / 8  # of the stream, not of what is sent
    assert codec.encode(z).size == pytest.approx(budget, rel=0.15)  # thresholds have moved once more
    with pytest.raises(snap.UsageError, match="crossing: this boundary sends floats"):
        crossing(Boundary(None, 8), x)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RateController(0.0), "bits_per_element=0.0"),
        (lambda: RateController(float("nan")), "bits_per_element=nan"),
        (lambda: RateController(1.0, start_ratio=0.5), "start_ratio=0.5"),
        (lambda: RateController(1.0, groups=((0, 1), (1,))), "one group only"),
        (lambda: LanguageConfig(budget=-1.0, init_from="run"), r"--budget -1\.0"),
        (lambda: LanguageConfig(rank=4), "give its --out as --init-from"),
        (
            lambda: controller_of(LanguageConfig(budget=0.06, init_from="run"), 0.0625),
            "the tokens that both ends of a boundary need",
        ),
        (lambda: LanguageConfig(budget=1.0, init_from="run", link="int4"), r"add \+rans"),
        (lambda: LanguageConfig(prune_below=2.0), "--prune-below 2.0: use a firing rate"),
        (lambda: LanguageConfig(prune_below=0.0, mode="dense"), "no spikes are sent"),
        (lambda: LanguageConfig(prune_below=0.0, devices=1), "pipeline with 2 devices or more"),
        (lambda: LearnedTransform(rank=0), "rank=0"),
        (lambda: Boundary(None, 4, transform=LearnedTransform(9)), "rank=9 of 4"),
        (
            lambda: Boundary(None, 4, transform=LearnedTransform(4, context_tokens=1))(jnp.ones((1, 2, 4))),
            "pass context=tokens",
        ),
        (lambda: prune([masked(Boundary(snap.Codec(snap.Ternary()), 2), [0, 1])]), "all 2 channels"),
        (lambda: mask_channels(Boundary(None, 2), [0]), "no thresholds to raise"),
    ],
)
def test_what_cannot_be_raises_and_says_so(make, message):
    with pytest.raises(snap.UsageError, match=message):
        make()


def with_transforms(chips, penalty=None):
    codec, transform = snap.Codec(snap.Count(7, 0.5)), LearnedTransform(8, context_tokens=2, hidden=12)
    model, layout = rwkv.RWKV(SIZE, rngs=nnx.Rngs(0)), Layout(pipeline=chips)
    task, params = assemble.build(
        model, layout, codec, None, transform=lambda _: transform, penalty=penalty, rngs=nnx.Rngs(1)
    )
    tokens = jnp.asarray(np.random.default_rng(0).integers(0, 256, (4, 2, 17)), jnp.int32)
    return task, assemble.calibrated(task, params, tokens.reshape(8, 17)[:, :-1], bits=1.0), tokens


def test_a_model_without_its_rarest_channels_sends_less_and_says_the_same():
    """5 steps of 2 x 16 vectors, each number in 4 bits, a header, and once 4 bytes of threshold per channel."""
    task, params, tokens = with_transforms(2)
    batch = next_token(tokens)
    spikes = np.asarray(jax.jit(task.spikes)(params, jax.tree.map(lambda a: a[:1], batch)))[0]
    rates = (spikes != 0).reshape(-1, 8).mean(0)
    least = float(np.sort(rates)[2])
    left = int((rates > least).sum())
    section = pruning.section(task, pruning.masked(task, params, batch, least_rate=least), batch)
    nbytes = [5 * (2 * 16 * channels * 4 // 8 + 1) + 4 * channels for channels in (8, left)]
    assert left < 8
    assert section == {"channels": [8, left], "payload_bytes": nbytes, "identical": True}


def test_a_pipeline_with_transforms_computes_what_one_device_computes():
    """Value and gradient, both ends of every boundary too; the receiving end lives on the next stage."""
    task, params, tokens = with_transforms(4, Penalty(0.3))
    (loss, seen), gradient = jax.jit(task.penalized_loss_and_gradient)(params, next_token(tokens), jnp.zeros(4))
    fired = seen.firing_rate
    assert fired.min() == fired[3] == 0 < fired[:3].min()  # the last stage sends to nobody
    model, boundaries = task.stages.join(jax.tree.map(np.asarray, params))

    def on_one_chip(model, boundaries):
        rows = tokens.reshape(8, -1)
        ids, x, pressed = rows[:, :-1], model.enter(rows[:, :-1]), 0.0
        for block, boundary in zip(model.blocks, boundaries, strict=True):
            x = block(x)
            if boundary is not boundaries[-1]:
                parts = boundary.prepare(x, ids).reshape(4, 2, 16, 8)
                bits = jnp.stack([boundary_stats(boundary.codec.encoding, z).bits for z in parts])
                pressed += 0.3 * bits.mean() * 8 / SIZE.width
                x = boundary(x, ids)
        logits = jax.nn.log_softmax(model.leave(x))
        own = -jnp.take_along_axis(logits, rows[:, 1:, None], -1).mean()
        return own + pressed, own

    (_, own), (by_model, by_boundary) = jax.jit(jax.value_and_grad(on_one_chip, argnums=(0, 1), has_aux=True))(
        model, nnx.List(boundaries)
    )
    assert float(loss) == pytest.approx(float(own), rel=1e-5)
    ours_model, ours = task.stages.join(jax.tree.map(np.asarray, gradient))
    close = lambda a, b: np.testing.assert_allclose(a, b, atol=5e-5)
    jax.tree.map(close, nnx.state(ours_model), nnx.state(by_model))
    for mine, theirs in itertools.islice(zip(ours, by_boundary, strict=True), 3):
        jax.tree.map(close, nnx.state(mine), nnx.state(theirs))


def test_a_budget_is_met_from_the_command_line_alone(tmp_path):
    """Random words, so that there is something to say of every byte; in fewer numbers 15 spikes could not say it."""
    words = np.random.default_rng(0).integers(97, 117, (4000, 5), dtype=np.uint8)
    words[:, 4] = ord(" ")
    (tmp_path / "text.txt").write_bytes(words.tobytes())
    dense = LanguageConfig(
        data=str(tmp_path / "text.txt"), link="fp32", devices=2, layers=2, width=32, heads=2, seq_len=32, batch=16,
        microbatches=2,
    )  # fmt: skip
    save_untrained(dense, tmp_path / "dense")
    config = dataclasses.replace(
        dense, link="count:15+rans", budget=1.0, rank=20, context_tokens=1, init_from=str(tmp_path / "dense"), steps=150
    )
    job = training.prepare(config)
    stage = nnx.merge(job.task.stages.graph, jax.tree.map(lambda p: p[0], job.params))
    assert len(stage.boundary.codec.wire.learned[0]) == 31  # tables of its own, for 15 spikes of either sign
    result = training.train(config, tmp_path / "run")
    letters, kept = 0.8 * np.log2(20 / 0.8) + 0.2 * np.log2(1 / 0.2), np.log2(4096 / (4096 - 235))  # by other bytes
    head = 8 * (2 + 4 + 1) / (8 * 32)  # table, state of the lane, rung, of a payload of 8 x 32 bytes
    assert job.context_bits * 32 == pytest.approx(letters + kept + head, rel=0.02)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    sent = np.mean([line["bits_per_element"] for line in lines[-4:]])
    assert sent + job.context_bits == pytest.approx(1.0, rel=0.05)
    assert result["wire"]["budget_bits_per_element"] == pytest.approx(1.0, rel=0.05)
    assert job.shares == (20 / 32, 20 / 32)
