"""Models that somebody else wrote, in stages: the numbers of one device, whatever the blocks are made of."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import snap_jax as snap
from snap_jax.parallel.gpipe import GPipe
from snap_jax.parallel.mesh import auto_mesh
from snap_jax.parallel.one_f_one_b import OneFOneB
from tests.support.outside_models import (
    WIDTH,
    Funnel,
    MixedTypes,
    Scanned,
    TiedLanguageModel,
    funnel_loss,
    token_loss,
)
from tests.support.small_models import run

TOKENS = jax.random.randint(jax.random.key(0), (4, 5), 0, 16)
X = jax.random.normal(jax.random.key(1), (4, WIDTH))


def alone(loss, batch, rows, model):
    """The mean over microbatches, on one device, each from the variables before the step."""
    graph, params, state = nnx.split(model, nnx.Param, ...)

    def mean(params):
        copy = lambda: jax.tree.map(lambda a: a, state)  # a model changes the variables that it is made of
        parts = [loss(nnx.merge(graph, params, copy()), batch[i : i + rows]) for i in range(0, len(batch), rows)]
        return jnp.mean(jnp.stack([part[0] if isinstance(part, tuple) else part for part in parts]))

    return run(jax.value_and_grad(mean), params)


def assert_same(stages, mesh, loss, batch, schedule=GPipe, atol=1e-6, **options):
    """Value and gradient of the pipeline are those of the joined model on one device."""
    step = stages.value_and_grad(mesh, microbatches=2, schedule=schedule, **options)
    (value, aux, _), gradient = run(step, stages.params, stages.state, batch)
    model = stages.join()
    whole, true = alone(loss, batch, stages.rows, model)
    np.testing.assert_allclose(value, whole, rtol=1e-5)
    found = nnx.state(stages.join(gradient), nnx.Param)
    assert nnx.to_flat_state(found).paths == nnx.to_flat_state(true).paths
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), found, true)
    return aux


@pytest.mark.parametrize(("codec", "schedule"), [(None, OneFOneB), ("count:7", GPipe)])
def test_a_tied_language_model_with_masks_caches_and_remat(codec, schedule):
    """The embedding is read by both stages: its gradient is summed once. Without a codec it is the original's."""
    model = TiedLanguageModel(rngs=nnx.Rngs(0))
    stages = snap.split_stages(model, token_loss, TOKENS[:2], stages=2, codec=codec)
    aux = assert_same(stages, auto_mesh({"stage": 2}), token_loss, TOKENS, schedule)
    assert aux.tolist() == [int(TOKENS[:2].sum()), int(TOKENS[2:].sum())]
    assert set(stages.params["shared"]) == {"embed.embedding"}
    assert stages.structure.plan.messages == (((1, 1),),)  # the stream; the caches of the blocks are not read
    original = snap.unplace(stages.join())
    assert nnx.graphdef(original) == nnx.graphdef(model)
    jax.tree.map(np.testing.assert_array_equal, nnx.state(original), nnx.state(model))


def test_blocks_of_different_shapes_a_skip_and_a_loss_of_each_block():
    """What crosses is what is read later: the skip crosses both cuts."""
    model = Funnel(rngs=nnx.Rngs(0), rate=0.0)
    stages = snap.split_stages(model, funnel_loss, X[:2], at=["blocks.0", "blocks.1"])
    assert stages.structure.plan.messages == (((0, 0),), ((0, 0), (1, 0)))
    assert_same(stages, auto_mesh({"stage": 3}), funnel_loss, X, atol=1e-4)


def test_running_statistics_and_dropout_inside_stages():
    """Statistics are averaged over microbatches, counters go on, and masks differ between microbatches and steps."""
    model = Funnel(rngs=nnx.Rngs(0))
    program = lambda model, x: (0.0 * jnp.sum(model.stem(x)), model.blocks[1](model.blocks[0](model.stem(x))))
    stages = snap.split_stages(model, program, X[:2], at=["blocks.0"])
    step = jax.jit(stages.value(auto_mesh({"stage": 2}), microbatches=2))
    twice = jnp.concatenate([X[:2], X[:2]])
    _, first, state = step(stages.params, stages.state, twice)
    _, second, _ = step(stages.params, state, twice)
    zeros = [np.asarray(y) == 0 for y in (first[0], first[1], second[0])]
    assert not (zeros[0] == zeros[1]).all()
    assert not (zeros[0] == zeros[2]).all()
    after, again = stages.join(state=state), Funnel(rngs=nnx.Rngs(0))
    again.stem(again.stem(X[:2]))
    np.testing.assert_allclose(after.blocks[1].dropout.rngs.count[...], 1)
    single = Funnel(rngs=nnx.Rngs(0))
    single.stem(X[:2])
    single.stem(X[:2])
    # Twice in one program, so the statistics move twice; both microbatches are the same, so is their mean.
    np.testing.assert_allclose(after.stem.mean[...], single.stem.mean[...], atol=1e-6)
    assert float(jnp.abs(after.blocks[1].norm.mean[...]).max()) > 0


def test_scanned_layers_in_a_stream_of_two_arrays_of_different_types():
    model, loss = MixedTypes(rngs=nnx.Rngs(0)), lambda model, x: model(x) / x.size
    stages = snap.split_stages(model, loss, X[:2], at=["parts.0"], grad_codec="bf16")
    assert stages.params["own"]["parts.0.narrow.kernel"][...].dtype == jnp.bfloat16
    assert_same(stages, auto_mesh({"stage": 2}), loss, X, atol=1e-2)
    assert "bfloat16[2, 4] coded" in str(stages)


def test_boundaries_that_were_placed_are_the_cuts():
    model = TiedLanguageModel(rngs=nnx.Rngs(0), layers=2)
    placed = snap.place(model, [snap.Rule("layers.0", "boundary", "count:3", output=1)], sample=(TOKENS,))
    stages = snap.split_stages(placed, token_loss, TOKENS[:2])
    thresholds = lambda model: nnx.state(model, snap.Threshold)
    jax.tree.map(np.testing.assert_array_equal, thresholds(stages.join()), thresholds(placed))
    assert str(snap.placements(stages.join())) == str(snap.placements(placed))


def test_replicas_and_layers_that_are_divided_too():
    """Two stages of two replicas each, whose layers two devices divide; no axis has a name of ours."""
    model = TiedLanguageModel(rngs=nnx.Rngs(0), layers=2)
    loss = lambda model, tokens: token_loss(model, tokens)[0]
    divided = snap.place(model, [snap.Rule("layers.*.linear", "column", axis="tp"),
                                 snap.Rule("layers.*.linear", "all_gather", axis="tp")])  # fmt: skip
    stages = snap.split_stages(divided, loss, TOKENS[:1], stages=2, codec="count:7", axis="pp")
    mesh = auto_mesh({"dp": 2, "pp": 2, "tp": 2})
    specs = stages.specs(stages.params)["own"]["layers.0.linear.kernel"].get_value()
    assert tuple(specs) == ("pp", None, "tp")
    assert_same(stages, mesh, loss, TOKENS, batch_axis="dp")


def test_no_float_crosses_where_a_codec_was_asked_for():
    stages = snap.split_stages(
        nnx.Sequential(*[Scanned(1, rngs=nnx.Rngs(i)) for i in range(2)]),
        lambda model, x: jnp.mean(model(x) ** 2),
        X[:2],
        stages=2,
        codec="count:3",
        grad_codec="int8:channel",
    )
    step = stages.value_and_grad(auto_mesh({"stage": 2}), microbatches=2)
    snap.assert_no_float_collectives(step, stages.params, stages.state, X)
    snap.assert_no_deadlocks(step, stages.params, stages.state, X)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"at": ["layer.0"]}, r"no module has the path 'layer\.0'; the nearest are layers\.\d"),
        ({"at": ["layers"]}, r"layers is called 0 times by the program"),
        ({}, r"where to cut\? give at="),
        ({"stages": 5}, r"stages=5 of 2 blocks: use 1 to 2"),
    ],
)
def test_cuts_that_cannot_be_made_are_named(options, message):
    model = TiedLanguageModel(rngs=nnx.Rngs(0), layers=2)
    with pytest.raises(snap.UsageError, match=message):
        snap.split_stages(model, token_loss, TOKENS[:2], **options)


def test_a_cut_inside_a_scan_is_refused():
    with pytest.raises(snap.UsageError, match=r"layers is called inside a transformation"):
        snap.split_stages(Scanned(2, rngs=nnx.Rngs(0)), lambda model, x: model(x).sum(), X[:2], at=["layers"])


def test_a_mesh_and_a_batch_that_do_not_fit_are_named():
    model = TiedLanguageModel(rngs=nnx.Rngs(0), layers=2)
    stages = snap.split_stages(model, token_loss, TOKENS[:2], stages=2)
    with pytest.raises(snap.UsageError, match=r"needed is 'stage' of 2 devices"):
        stages.value(auto_mesh({"stage": 4}), microbatches=2)
    step = functools.partial(stages.value(auto_mesh({"stage": 2}), microbatches=3), stages.params, stages.state)
    with pytest.raises(snap.UsageError, match=r"a batch of 4 rows is not 3 microbatches of 2 rows"):
        step(TOKENS)
