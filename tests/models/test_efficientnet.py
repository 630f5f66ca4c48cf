"""EfficientNet: as many parameters as published, images that do not see each other, blocks that start silent."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from snap_jax.errors import UsageError
from snap_jax.models import efficientnet
from snap_jax.models.efficientnet import SCALINGS, EfficientNet, EfficientNetConfig, StageSpec

SMALL = EfficientNetConfig(
    stages=(StageSpec(3, 4, 16, 1, 2),), stem=16, stem_stride=1, features=32, classes=10, channels=1
)


def small(time_steps=0):
    config = EfficientNetConfig(
        SMALL.stages, 16, stem_stride=1, features=32, classes=10, channels=1, time_steps=time_steps
    )
    return EfficientNet(config, rngs=nnx.Rngs(0))


def awake(model):
    """The model with every parameter moved off its start, so that no branch is silent."""
    rng = np.random.default_rng(0)
    nnx.update(model, jax.tree.map(lambda p: p + 0.1 * rng.standard_normal(p.shape), nnx.state(model, nnx.Param)))
    return model


def pixels(batch=4, channels=1):
    return jnp.asarray(np.random.default_rng(1).standard_normal((batch, 8, 8, channels)), jnp.float32)


def parameters(config):
    shapes = jax.eval_shape(lambda: nnx.state(EfficientNet(config, rngs=nnx.Rngs(0)), nnx.Param))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


@pytest.mark.parametrize(
    ("variant", "millions", "exactly"),
    [
        # Table 2 of the paper; and torchvision's documented counts, which take a norm to have two numbers a channel.
        ("b0", 5.3, 5_288_548),
        ("b1", 7.8, 7_794_184),
        ("b2", 9.2, 9_109_994),
        ("b3", 12, 12_233_232),
        ("b4", 19, 19_341_616),
    ],
)
def test_parameters_are_as_many_as_published(variant, millions, exactly):
    count = parameters(efficientnet.efficientnet(variant))
    assert count == exactly
    assert count == pytest.approx(millions * 1e6, rel=0.02)


def test_one_block_counted_by_hand():
    """16 -> 64 -> 16, kernel 3: three convolutions, three norms, and a gate through 16 / 4 = 4 numbers."""
    state = jax.eval_shape(lambda: nnx.state(small().blocks[0], nnx.Param))
    convolutions, norms = 16 * 64 + 3 * 3 * 64 + 64 * 16, 2 * (64 + 64 + 16)
    gate = 64 * 4 + 4 + 4 * 64 + 64
    assert sum(p.size for p in jax.tree.leaves(state)) == convolutions + norms + gate


def test_b0_has_the_resolutions_of_table_1():
    def run(x):
        model, seen = EfficientNet(EfficientNetConfig(), rngs=nnx.Rngs(0)), []
        x = model.enter(x)
        for block in model.blocks:
            seen.append(x)
            x = block(x)
        return [*seen, x], model.leave(x)

    seen, logits = jax.eval_shape(run, jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32))
    # What each stage reads, and what the head does; 1, 2, 2, 3, 3, 4, 1 blocks.
    expected = [(112, 32), (112, 16), (56, 24), (28, 40), (14, 80), (14, 112), (7, 192), (7, 320)]
    assert [(seen[i].shape[1], seen[i].shape[3]) for i in (0, 1, 3, 5, 8, 11, 15, 16)] == expected
    assert logits.shape == (2, 1000)


@pytest.mark.parametrize("time_steps", [0, 3])
def test_an_image_does_not_see_its_batch(time_steps):
    model, x = awake(small(time_steps)), pixels()
    one, every = jax.jit(lambda image: model(image[None])[0]), jax.jit(model)
    alone = jnp.stack([one(image) for image in x])
    np.testing.assert_allclose(every(x), alone, atol=1e-4)
    np.testing.assert_allclose(every(x[::-1])[::-1], alone, atol=1e-4)


@pytest.mark.parametrize("time_steps", [0, 2])
def test_one_stage_makes_a_stream_of_one_shape_and_starts_as_the_identity(time_steps):
    model = small(time_steps)
    x, body = jax.jit(lambda x: model.enter(x))(pixels()), jax.jit(lambda model, x: model.body(x))
    assert x.shape == (4 * max(time_steps, 1), 8, 8, 16)
    np.testing.assert_array_equal(body(model, x), x)
    assert np.abs(body(awake(model), x) - x).max() > 0.1


def test_with_ticks_it_is_spikes_that_the_depthwise_convolution_reads():
    model = awake(small(time_steps=2))
    hidden = jax.jit(lambda x: model.blocks[0].act(model.blocks[0].expand(model.enter(x))))(pixels())
    assert set(np.unique(hidden)) == {0.0, 1.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stages": ()}, "use 1 or more of everything, in one stage or more"),
        ({"stages": (StageSpec(3, 0, 16, 1, 1),)}, "expand=0.*use 1 or more of everything"),
        ({"classes": 0}, "classes=0"),
        ({"time_steps": -1}, "efficientnet.EfficientNetConfig: time_steps=-1: use 0 for dense activations, or more"),
    ],
)
def test_configs_that_make_no_network_are_refused(change, message):
    with pytest.raises(UsageError, match=message):
        EfficientNetConfig(**change)


def test_errors():
    with pytest.raises(UsageError, match=f"efficientnet: variant='b9': use one of {', '.join(SCALINGS)}"):
        efficientnet.efficientnet("b9")
    with pytest.raises(UsageError, match=r"EfficientNet.enter: images of shape \(4, 8, 8, 3\), channels=1: make"):
        small().enter(pixels(channels=3))
