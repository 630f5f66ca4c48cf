"""The convolution of the models is that of lax, and so is its gradient, wherever it stands."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax
from jax.sharding import PartitionSpec as P

from snap_jax.models.convolution import conv, convolve, convolve_channels
from snap_jax.parallel.mesh import auto_mesh

AXES = ("NHWC", "HWIO", "NHWC")


def sample(*shape, seed):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "padding"),
    [
        (8, 3, 1, "SAME"),
        (8, 3, 2, "SAME"),
        (7, 1, 2, "SAME"),
        (9, 7, 2, "SAME"),
        (6, 3, 1, "VALID"),
        (8, 2, 3, [(0, 1), (1, 0)]),
        (9, 2, 3, "VALID"),  # a last row that no window reaches
    ],
)
def test_it_is_that_of_lax(side, kernel, stride, padding):
    x, w = sample(2, side, side + 1, 3, seed=0), sample(kernel, kernel, 3, 5, seed=1)
    strides = (stride, stride)
    wanted, back = jax.vjp(lambda x, w: lax.conv_general_dilated(x, w, strides, padding, dimension_numbers=AXES), x, w)
    found, ours = jax.vjp(lambda x, w: convolve(x, w, strides, padding), x, w)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    for a, b in zip(ours(wanted), back(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "padding"), [(8, 3, 1, "SAME"), (7, 5, 2, "SAME"), (9, 2, 3, [(0, 1), (1, 0)])]
)
def test_that_of_channels_is_that_of_lax_with_as_many_groups(side, kernel, stride, padding):
    x, w = sample(2, side, side + 1, 3, seed=0), sample(kernel, kernel, 1, 3, seed=1)
    args = {"padding": padding, "dimension_numbers": AXES, "feature_group_count": 3}
    wanted, back = jax.vjp(lambda x, w: lax.conv_general_dilated(x, w, (stride, stride), **args), x, w)
    found, ours = jax.vjp(lambda x, w: convolve_channels(x, w, (stride, stride), padding), x, w)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    for a, b in zip(ours(wanted), back(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_every_convolution_of_a_gradient_has_the_order_of_axes_that_is_fast_in_a_loop():
    layer = conv(3, 5, 3, stride=2, rngs=nnx.Rngs(0))
    graph, params = nnx.split(layer)

    def loss(params, x):
        return jnp.square(nnx.merge(graph, params)(x)).sum()

    text = str(jax.make_jaxpr(jax.grad(loss, argnums=(0, 1)))(params, jnp.ones((2, 8, 8, 3))))
    assert text.count("= conv_general_dilated") == 3
    # Image axes (0, 3, 1, 2), kernel axes (3, 2, 0, 1): channels last, output channels of the kernel last.
    assert text.count("lhs_spec=(0, 3, 1, 2), rhs_spec=(3, 2, 0, 1), out_spec=(0, 3, 1, 2)") == 3


def test_chips_that_share_a_kernel_sum_its_gradient():
    x, w = sample(4, 5, 5, 3, seed=0), sample(3, 3, 3, 4, seed=1)
    loss = lambda w, x: jnp.square(convolve(x, w, (1, 1), "SAME")).sum()
    spread = jax.shard_map(
        jax.value_and_grad(lambda w, x: lax.psum(loss(w, x), "data")),
        mesh=auto_mesh({"data": 2}),
        in_specs=(P(), P("data")),
        out_specs=P(),
    )
    for a, b in zip(jax.jit(spread)(w, x), jax.value_and_grad(loss)(w, x), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4)


def test_groups_stay_with_lax():
    layer, x = conv(4, 4, 3, groups=4, rngs=nnx.Rngs(0)), sample(1, 5, 5, 4, seed=0)
    same = lax.conv_general_dilated(x, layer.kernel[...], (1, 1), "SAME", dimension_numbers=AXES, feature_group_count=4)
    np.testing.assert_allclose(layer(x), same, rtol=1e-5, atol=1e-6)
