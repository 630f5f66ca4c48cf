"""A Linen model whose blocks became NNX modules computes what its authors' class computes."""

import jax.numpy as jnp
import pytest

from examples.outside_models.linen import GPT2
from tests.support.packages import require

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of these packages


def test_bridged_blocks_give_the_logits_of_the_original():
    require("transformers")
    from transformers import FlaxGPT2LMHeadModel, GPT2Config

    original = FlaxGPT2LMHeadModel(GPT2Config(vocab_size=64, n_positions=16, n_embd=32, n_layer=2, n_head=4), seed=0)
    ids = (7 * jnp.arange(24) % 64).reshape(2, 12)
    assert jnp.array_equal(GPT2(original)(ids), original(ids).logits)
