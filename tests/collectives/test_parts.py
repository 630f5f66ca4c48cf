"""How arrays are cut: parts join to what was cut, and mixed parts are alike."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from snap_jax.collectives.parts import flattened, mixed


def on(devices, function, *args):
    """`function` where an axis "x" of so many devices is, on one of them."""
    return jax.jit(jax.vmap(lambda _: function(*args), axis_name="x"))(jnp.arange(devices))[0]


@pytest.mark.parametrize(("devices", "shape"), [(3, ()), (2, (0,)), (4, (7,)), (1, (5, 5)), (5, (2, 3, 7))])
@pytest.mark.parametrize("kind", [flattened, mixed])
def test_parts_join_to_what_was_cut(kind, devices, shape):
    x = jnp.arange(np.prod(shape, dtype=int)).reshape(shape) + 1

    def cut(x):
        parts = kind("x").cut(x)
        assert parts.shape == (devices, -(-x.size // devices))
        return jnp.concatenate([parts.reshape(-1), kind("x").join(parts, x.shape).reshape(-1)])

    found = on(devices, cut, x)
    np.testing.assert_array_equal(found[found.size - x.size :], x.reshape(-1))
    assert sorted(found[: found.size - x.size]) == [0] * (-x.size % devices) + list(range(1, x.size + 1))


@pytest.mark.parametrize("clustered", ["rows", "channels"])
@pytest.mark.parametrize("devices", [8, 32])
def test_mixed_parts_fire_alike(clustered, devices):
    """256 x 256 elements; one row or channel in 16 fires everywhere, the others nowhere.

    A part of k elements is one in 16 of them, to within four standard deviations of as many independent draws.
    """
    fired = jnp.broadcast_to(jnp.arange(256) % 256 < 16, (256, 256)).astype(jnp.int32)
    fired = fired.T if clustered == "rows" else fired
    counts = on(devices, lambda x: mixed("x").cut(x).sum(1), fired)
    part = 256 * 256 / devices
    assert np.abs(counts - part / 16).max() < 4 * (part / 16 * 15 / 16) ** 0.5
    assert counts.sum() == 256 * 16
