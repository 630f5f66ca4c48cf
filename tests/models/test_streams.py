"""Several residual streams: what a block reads and writes, and models that have them."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from snap_jax.errors import UsageError
from snap_jax.models import rwkv, transformer
from snap_jax.models.streams import StreamBlock
from snap_jax.training.config import LanguageConfig


def test_a_block_reads_a_weighted_sum_and_writes_to_all_streams():
    """h = (3 x1 + 0.5 x2), the block doubles it, so it changes it by h: x1 + 1 h, x2 + 2 h."""
    block = StreamBlock(lambda h: 2 * h, width=2, streams=2)
    block.read.weight[...] = jnp.array([[3.0], [0.5]])
    block.write[...] = jnp.array([[1.0], [2.0]])
    np.testing.assert_allclose(block(jnp.array([[[1.0, 4.0]]])), [[[1 + 5.0, 4 + 10.0]]])


@pytest.mark.parametrize("family", [rwkv, transformer])
def test_layers_have_the_width_of_one_stream(family):
    """Width 16 in 4 streams: layers and head as at width 4, the embedding as at width 16."""
    make, size = (
        (rwkv.RWKV, rwkv.RWKVConfig(layers=1, heads=2, chunk=2, vocabulary=8))
        if family is rwkv
        else (transformer.Transformer, transformer.TransformerConfig(layers=1, heads=2, vocabulary=8))
    )
    wide = make(dataclasses.replace(size, width=16, streams=4), rngs=nnx.Rngs(0))
    narrow = make(dataclasses.replace(size, width=4), rngs=nnx.Rngs(0))
    inner, plain = (nnx.state(block) for block in (wide.blocks[0].block, narrow.blocks[0]))
    assert [p.shape for p in _leaves(inner)] == [p.shape for p in _leaves(plain)]
    assert (wide.width(1), wide.head.kernel.shape) == (16, (4, 8))
    assert wide(jnp.zeros((1, 2), jnp.int32)).shape == (1, 2, 8)


def _leaves(state):
    return [leaf for _, leaf in nnx.to_flat_state(state)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"streams": 3}, "--streams 3 does not divide --width 128: use a divisor"),
        ({"streams": 32}, "--heads 4 does not divide --width 128 / 32 streams into heads of an even size: use 1, 2"),
        ({"streams": 4, "link_streams": 3}, "--link-streams 3 does not divide --streams 4: use a divisor"),
        ({"streams": 4, "link_streams": 2}, "--link-streams 2: boundaries are calibrated on .*: train one with"),
        ({"streams": 4, "link_streams": 2, "rank": 2, "init_from": "x"}, "--link-streams 2 with --rank or --token-g"),
    ],
)
def test_sizes_that_cannot_work_are_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        LanguageConfig(model="transformer", **changes)
