"""What a process keeps of each block: its stages, its parts along `tensor`, and no memory for the rest."""

import jax
import numpy as np
import pytest
from flax import nnx

from snap_jax.models.own_blocks import own_blocks
from snap_jax.models.transformer import Transformer, TransformerConfig
from snap_jax.parallel.mesh import auto_mesh

CONFIG = TransformerConfig(layers=4, width=8, heads=2)


def _model(*keep):
    return Transformer(CONFIG, rngs=nnx.Rngs(0), **dict(zip(["each_block"], keep, strict=False)))


def _takes_memory(array) -> bool:
    return not isinstance(array, np.ndarray) or any(array.strides)


@pytest.fixture(scope="module")
def whole():
    return _model()


def test_blocks_of_other_stages_take_no_memory(whole):
    """Of four stages the third device holds the third block, and both ends of the model, as in the whole model."""
    mesh = auto_mesh({"stage": 4})
    own = own_blocks(_model, mesh, mesh.devices[2:3].tolist())
    model = _model(own)
    for number, block in enumerate(model.blocks):
        for parameter in jax.tree.leaves(nnx.state(block)):
            assert _takes_memory(parameter) == (number == 2)
    for part in ("embed", "norm_in", "head"):
        jax.tree.map(np.testing.assert_array_equal, *(nnx.state(getattr(m, part)) for m in (model, whole)))
    jax.tree.map(np.testing.assert_array_equal, nnx.state(model.blocks[2]), nnx.state(whole.blocks[2]))


def test_of_a_divided_parameter_the_part_of_the_device_is_kept(whole):
    """The second of two devices reads the second half of what makes features; of the first half nothing is there."""
    mesh = auto_mesh({"stage": 1, "tensor": 2})
    own = own_blocks(_model, mesh, mesh.devices[0, 1:].tolist())
    up, theirs = (model.blocks[0].mlp.up.kernel.get_value() for model in (_model(own), whole))
    half = theirs.shape[1] // 2
    assert (up.shape, _takes_memory(up)) == (theirs.shape, False)
    second = slice(0, 8), slice(half, 2 * half)
    np.testing.assert_array_equal(own.read(up, second), theirs[second])
    with pytest.raises(KeyError):
        own.read(up, (slice(0, 8), slice(0, half)))
