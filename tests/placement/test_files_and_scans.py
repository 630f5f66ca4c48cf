"""Stacked layers taken apart, files of weights, and calibration at placed boundaries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import snap_jax as snap
from tests.support.outside_models import WIDTH, Scanned, ScannedModel, TiedLanguageModel, token_loss

X = jax.random.normal(jax.random.key(1), (4, WIDTH))


def assert_equal_states(a, b):
    jax.tree.map(np.testing.assert_array_equal, nnx.state(a), nnx.state(b))


def test_a_scan_in_parts_is_the_scan_and_can_be_cut():
    model = ScannedModel(rngs=nnx.Rngs(0))
    parts = snap.unstack(model, "decoder.layers", 2)
    np.testing.assert_allclose(parts(X), model(X), rtol=1e-6)
    assert nnx.graphdef(snap.restack(parts)) == nnx.graphdef(model)
    assert_equal_states(snap.restack(parts), model)
    stages = snap.split_stages(parts, lambda model, x: model(x).sum(), X, at=["decoder.parts.0"])
    assert stages.structure.plan.messages == (((0, 0),),)
    assert_equal_states(snap.restack(snap.unplace(stages.join())), model)


def test_scans_that_cannot_be_divided_are_named():
    with pytest.raises(snap.UsageError, match="3 parts do not divide the 4 layers of decoder"):
        snap.unstack(ScannedModel(rngs=nnx.Rngs(0)), "decoder.layers", 3)
    with pytest.raises(snap.UsageError, match="the model itself runs the scan over layers"):
        snap.unstack(Scanned(2, rngs=nnx.Rngs(0)), "layers", 2)


def test_weights_go_through_a_file(tmp_path):
    """A placed model takes a file of the original; mistakes are named."""
    file, model = tmp_path / "model.safetensors", ScannedModel(rngs=nnx.Rngs(0))
    snap.save_safetensors(file, model, {"made by": "a test"})
    other = snap.place(ScannedModel(rngs=nnx.Rngs(1)), [snap.Rule("head", "boundary", "count:3")])
    with pytest.raises(snap.UsageError, match=r"no head\.snap_hooks\.0.*give strict=False"):
        snap.load_safetensors(file, other)
    snap.load_safetensors(file, other, strict=False)
    assert_equal_states(snap.unplace(other), model)
    with pytest.raises(snap.UsageError, match=r"the model has no decoder"):
        snap.load_safetensors(file, nnx.Dict(head=model.head))
    small = nnx.Dict(head=nnx.Linear(WIDTH, 2, rngs=nnx.Rngs(0)), decoder=Scanned(2, rngs=nnx.Rngs(0)))
    with pytest.raises(snap.UsageError, match=r"has shape \[4, 8\], that of the model is \[2, 8\]"):
        snap.load_safetensors(file, small)


def test_calibration_sees_what_crosses_before_anything_is_coded():
    """Three boundaries in a row: each threshold is that of a sample of floats, whatever stands in front of it."""
    model, tokens = TiedLanguageModel(rngs=nnx.Rngs(0)), jax.random.randint(jax.random.key(0), (64, 5), 0, 16)
    rule = snap.Rule("layers.*", "boundary", "count:7", output=1)
    placed = snap.place(model, [rule], sample=(tokens,))
    snap.calibrate(placed, lambda model: token_loss(model, tokens), bits=2.0)
    alone = snap.place(model, [snap.Rule("layers.3", "boundary", "count:7", output=1)], sample=(tokens,))
    snap.calibrate(alone, (tokens,), bits=2.0)
    thresholds = lambda model: model.layers[3].snap_hooks[0].crossing[0].log_threshold[...]
    np.testing.assert_array_equal(thresholds(placed), thresholds(alone))
    assert float(jnp.abs(thresholds(placed)).max()) > 0


def test_what_has_no_boundary_is_refused():
    model = ScannedModel(rngs=nnx.Rngs(0))
    with pytest.raises(snap.UsageError, match="calibrate: the model has no boundary"):
        snap.calibrate(model, (X,), bits=1.0)
    with pytest.raises(snap.UsageError, match="budget: the model has no boundary"):
        snap.budget(1.0).init(model)
