"""Text token by token: logits of the full forward pass, for both models and with transforms in the boundaries."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from snap_jax.boundary.transforms import LearnedTransform, SentStreams
from snap_jax.codecs.link_spec import as_codec
from snap_jax.errors import UsageError
from snap_jax.inference.decoding import decoder_of
from snap_jax.inference.undivided import forward
from snap_jax.models import rwkv, transformer
from snap_jax.training.tasks import assemble
from snap_jax.training.tasks.layout import Layout

TOKENS = jnp.asarray(np.random.default_rng(0).integers(0, 256, (2, 8)), jnp.int32)


def divided(name, transform=None, **layout):
    """A model of two layers and two streams, moved by noise, over two stages."""
    sizes = {"layers": 2, "width": 16, "heads": 2, "streams": 2}
    if name == "rwkv":
        model = rwkv.RWKV(rwkv.RWKVConfig(**sizes, chunk=4), rngs=nnx.Rngs(0))
    else:
        model = transformer.Transformer(transformer.TransformerConfig(**sizes), rngs=nnx.Rngs(0))
    place, around = Layout(**({"pipeline": 2} | layout)), transform and (lambda _: transform)
    task, params = assemble.build(model, place, as_codec("count:3"), None, transform=around)
    draw = np.random.default_rng(1)
    noisy = jax.tree.map(lambda a: np.asarray(a + 0.1 * draw.normal(size=a.shape), np.float32), params)
    return task, task.place(noisy)


@pytest.mark.parametrize(
    ("name", "transform"),
    [
        ("rwkv", None),
        ("transformer", None),
        ("rwkv", LearnedTransform(rank=8, context_tokens=3)),
        ("transformer", SentStreams(2, kept=1, context_tokens=2)),
    ],
)
def test_prefill_and_decode_steps_give_the_logits_of_the_full_pass(name, transform):
    """Five tokens at once, then one at a time."""
    task, params = divided(name, transform)
    model, boundaries = task.stages.join(assemble.on_one_device(params))
    full, _ = jax.jit(lambda x: forward(model, boundaries, x))(TOKENS)
    decoder = decoder_of(task, params)
    step = jax.jit(functools.partial(decoder.step, finish=lambda logits: logits))
    state, found = decoder.start(params, 2, 8), []
    for part in (TOKENS[:, :5], TOKENS[:, 5:6], TOKENS[:, 6:7], TOKENS[:, 7:]):
        logits, state = step(params, state, part)
        found.append(logits)
    np.testing.assert_allclose(jnp.concatenate(found, 1), full, atol=2e-4)
    assert int(state.position) == 8


def test_what_cannot_be_kept_token_by_token_is_refused():
    task, params = divided("rwkv", LearnedTransform(rank=8, token_groups=2))
    with pytest.raises(UsageError, match=r"TokenGroups orders the vectors of a whole .*: use a run with --token"):
        decoder_of(task, params)
    task, params = divided("rwkv", pipeline=1, tensor=2)
    with pytest.raises(UsageError, match=r"devices share more than the layers \(tensor\): use a run of a pipeline"):
        decoder_of(task, params)
