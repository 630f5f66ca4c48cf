"""MS-ResNet: images do not see each other, blocks start as the identity, and its size is that of a ResNet-18."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from snap_jax.data import image_loader
from snap_jax.errors import UsageError
from snap_jax.models import resnet

ISOTROPIC = resnet.ResNetConfig(stages=(1, 1), width=16, downsample=False)


def build(config, seed=0):
    return resnet.ResNet(config, rngs=nnx.Rngs(seed))


def awake(model):
    """The model with every parameter moved off its start, so that no branch is silent."""
    rng = np.random.default_rng(0)
    nnx.update(model, jax.tree.map(lambda p: p + 0.1 * rng.standard_normal(p.shape), nnx.state(model, nnx.Param)))
    return model


def pixels(batch=4, size=8, channels=1):
    return jnp.asarray(np.random.default_rng(1).standard_normal((batch, size, size, channels)), jnp.float32)


def parameters(config):
    shapes = jax.eval_shape(lambda: nnx.state(build(config), nnx.Param))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


@pytest.mark.parametrize("time_steps", [0, 3])
def test_an_image_does_not_see_its_batch(time_steps):
    model, x = awake(build(resnet.ResNetConfig(stages=(1, 1), width=16, time_steps=time_steps))), pixels()
    one, all_ = jax.jit(lambda image: model(image[None])[0]), jax.jit(model)
    alone = jnp.stack([one(image) for image in x])
    np.testing.assert_allclose(all_(x), alone, atol=1e-4)
    np.testing.assert_allclose(all_(x[::-1])[::-1], alone, atol=1e-4)


@pytest.mark.parametrize("time_steps", [0, 2])
def test_blocks_of_one_shape_start_as_the_identity(time_steps):
    model = build(resnet.ResNetConfig(stages=(1, 1), width=16, downsample=False, time_steps=time_steps))
    x, body = jax.jit(lambda x: model.enter(x))(pixels()), jax.jit(lambda model, x: model.body(x))
    assert x.shape == (4 * max(time_steps, 1), 8, 8, 16)
    np.testing.assert_array_equal(body(model, x), x)
    assert np.abs(body(awake(model), x) - x).max() > 0.1


def test_a_block_by_hand():
    """Every 3x3 kernel the identity on its centre: the branch is norm(relu(norm(relu(x)))), added to x itself."""
    block = build(ISOTROPIC).blocks[0]
    centre = jnp.zeros((3, 3, 16, 16)).at[1, 1].set(jnp.eye(16))
    block.conv1.kernel[...] = block.conv2.kernel[...] = centre
    block.norm2.scale[...] = jnp.ones(16)
    x = pixels(channels=16)

    def norm(a):  # one group of 16 channels; per image
        return (a - a.mean((1, 2, 3), keepdims=True)) / np.sqrt(a.var((1, 2, 3), keepdims=True) + 1e-6)

    relu = lambda a: np.maximum(a, 0)
    np.testing.assert_allclose(block(x), x + norm(relu(norm(relu(np.asarray(x))))), atol=1e-4)


def test_resnet18_has_the_parameters_of_a_resnet18():
    """By layer, 1000 classes: a convolution has no bias, a norm a scale and a bias a channel.

    Stem 7x7x3x64; then 4 stages of 2 blocks of two 3x3 convolutions, 3 projections; the norm before the head, 512; the
    head 512 x 1000 + 1000. Without that one norm it is torchvision's count for ResNet-18, 11,689,512.
    """
    conv = lambda size, a, b: size * size * a * b + 2 * b
    count = conv(7, 3, 64) + 4 * conv(3, 64, 64)
    for width in (128, 256, 512):
        count += conv(3, width // 2, width) + 3 * conv(3, width, width) + conv(1, width // 2, width)
    count += 512 * 1000 + 1000
    assert count == 11_689_512
    assert parameters(resnet.resnet18()) == count + 2 * 512


@pytest.mark.parametrize(
    ("config", "image", "streams"),
    [
        (resnet.resnet18(), (224, 224, 3), [(56, 56, 64)] * 2 + [(28, 28, 128)] * 2 + [(14, 14, 256)] * 2),
        (
            resnet.ResNetConfig(width=8),
            (8, 8, 1),
            [(8, 8, 8)] * 2 + [(4, 4, 16)] * 2 + [(2, 2, 32)] * 2 + [(1, 1, 64)] * 2,
        ),
        (resnet.ResNetConfig(width=8, downsample=False), (8, 8, 1), [(8, 8, 8)] * 8),
    ],
)
def test_each_stage_halves_the_image_and_doubles_the_width(config, image, streams):
    def shapes(x):
        model = build(config)
        x, seen = model.enter(x), []
        for block in model.blocks:
            x = block(x)
            seen.append(x)
        return seen, model.leave(x)

    seen, logits = jax.eval_shape(shapes, jax.ShapeDtypeStruct((2, *image), jnp.float32))
    assert [s.shape[1:] for s in seen][: len(streams)] == streams
    assert logits.shape == (2, config.classes)


@pytest.mark.parametrize("time_steps", [0, 2])
def test_it_learns_sixteen_digits(time_steps):
    data = image_loader.load("digits")
    x, labels = image_loader.normalise(data, data.train_images[:16]), data.train_labels[:16]
    graph, params = nnx.split(build(resnet.ResNetConfig(stages=(1,), width=16, time_steps=time_steps)))
    optimizer = optax.adam(2e-2)

    def loss(params):
        logits = nnx.merge(graph, params)(jnp.asarray(x))
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    @jax.jit
    def step(params, state):
        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    state, losses = optimizer.init(params), []
    for _ in range(60):
        params, state, value = step(params, state)
        losses.append(float(value))
    assert losses[0] > 2 > 0.3 > losses[-1]  # chance is log 10 = 2.3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stages": ()}, "use 1 or more of everything, in one stage or more"),
        ({"stages": (2, 0)}, r"stages=\(2, 0\).*use 1 or more of everything"),
        ({"classes": 0}, "classes=0"),
        ({"time_steps": -1}, "time_steps=-1: use 0 for dense activations, or more"),
        ({"stem": "huge"}, "stem='huge': use 'small' or 'large'"),
    ],
)
def test_configs_that_make_no_network_are_refused(change, message):
    with pytest.raises(UsageError, match=message):
        resnet.ResNetConfig(**change)


def test_errors():
    with pytest.raises(UsageError, match=r"norm: width=12 is no multiple of 8: use one that is, e\.g\. 16"):
        build(resnet.ResNetConfig(width=12))
    with pytest.raises(UsageError, match=r"ResNet.enter: images of shape \(4, 8, 8, 3\), channels=1: make the last"):
        build(ISOTROPIC)(pixels(channels=3))
