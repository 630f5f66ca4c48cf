"""Computing in bfloat16: the stream and the products are, parameters and gradients are not, and the loss is near."""

import dataclasses

import jax
import numpy as np
import pytest

from snap_jax import training
from snap_jax.training.config import LanguageConfig


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    data = tmp_path_factory.mktemp("data") / "text.txt"
    data.write_bytes(bytes(range(32, 127)) * 40)
    return LanguageConfig(
        data=str(data), link="count:2", layers=2, devices=2, width=8, heads=2, seq_len=8, batch=2, microbatches=2
    )


@pytest.mark.parametrize(("compute", "stream"), [("f32", "f32[1,8,8]"), ("bf16", "bf16[1,8,8]")])
def test_the_stream_crosses_as_computed_and_gradients_are_f32(config, compute, stream):
    """One window of 8 bytes and 8 channels a microbatch."""
    job = training.prepare(dataclasses.replace(config, compute=compute, link="fp32", grad_link="fp32"))
    crossing = jax.make_jaxpr(job.loss_and_gradient)(job.params, job.batch(0), job.extra()).pretty_print(
        use_color=False
    )
    sent = [line.split("=")[0] for line in crossing.splitlines() if " ppermute[" in line]
    assert len(sent) == 2  # forward and backward
    assert all(f":{stream}" in line for line in sent)
    (loss, _), gradient = jax.eval_shape(job.loss_and_gradient, job.params, job.batch(0), job.extra())
    assert {leaf.dtype for leaf in jax.tree.leaves((loss, gradient))} == {np.dtype("float32")}


def test_the_loss_is_near(config):
    """8 significant bits: each product is off by at most 2^-8; over a model so shallow the loss by about 1 %."""
    losses = []
    for compute in ("f32", "bf16"):
        job = training.prepare(dataclasses.replace(config, compute=compute))
        losses.append(float(jax.jit(job.task.loss)(job.params, job.batch(0))))
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
