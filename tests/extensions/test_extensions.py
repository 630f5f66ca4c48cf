"""An encoding, a wire and a collective of a third party: one short file each, and every invariant holds."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import snap_jax as snap
from snap_jax.training.config import LanguageConfig
from snap_jax.training.link_setup import links_of
from snap_jax.wires import pack, spike_dtype, unpack
from tests.extensions.pshuffle import pshuffle
from tests.extensions.run_length import RunLength
from tests.extensions.sign import Sign
from tests.support.programs import PAIRS, PER_CHANNEL, Pair, assert_same, both, sample

SHUFFLE = [1, 3, 0, 2]


@pytest.mark.parametrize(("name", "most"), [("sign", 30), ("run_length", 60), ("pshuffle", 25)])
def test_an_extension_is_short(name, most):
    lines = (Path(__file__).parent / f"{name}.py").read_text().splitlines()
    assert len([line for line in lines if line.strip()]) <= most


@pytest.mark.parametrize("wire", ["packed", "radix", "rans"])
def test_sign_decodes_to_what_it_quantized(wire):
    """Two symbols: one bit per element, the header besides."""
    codec, x = snap.codec(Sign(0.5), wire), jnp.array([0.3, -2.0, 0.0, -0.1, 5.0, -1.0, 1.0, 1.0])
    expected = [0.5, -0.5, 0.5, -0.5, 0.5, -0.5, 0.5, 0.5]
    assert codec.quantize(x).tolist() == expected
    payload = codec.encode(x)
    assert codec.decode(payload, shape=x.shape, dtype=x.dtype).tolist() == expected
    if wire == "packed":
        assert payload.size == 1 + 1


@pytest.mark.parametrize("collective", PAIRS)
def test_sign_in_every_collective(collective):
    """Sums of eight signs are -8, -6, ..., 8: nine levels."""
    codec_of = lambda t: snap.Codec(Sign(t))
    assert_same(collective, *both(PAIRS[collective], codec_of, sample((64, 16)), PER_CHANNEL))


@pytest.mark.parametrize("symbols", [range(-1, 2), range(0, 2), range(0, 300)], ids=repr)
@pytest.mark.parametrize("shape", [(), (0, 3), (1000,), (7, 333)], ids=repr)
def test_run_length_is_exact(shape, symbols):
    rng = np.random.default_rng(0)
    for density in (0.0, 0.02, 1.0):
        values = np.where(rng.random(shape) < density, rng.integers(symbols.start, symbols.stop, shape), 0)
        spikes = jnp.asarray(values, spike_dtype(symbols))
        payload = pack(RunLength(), spikes, symbols)
        assert payload.size in RunLength().sizes(spikes.size, symbols)
        np.testing.assert_array_equal(unpack(RunLength(), payload, shape, symbols), spikes)


@pytest.mark.parametrize("collective", ["all_gather", "psum"])
def test_run_length_in_a_collective(collective):
    codec_of = lambda t: snap.Codec(snap.Ternary(t * 4), RunLength())
    assert_same(collective, *both(PAIRS[collective], codec_of, sample((16, 640)), jnp.float32(0.7), mesh_name="2"))


def test_pshuffle_equals_lax():
    pair = Pair(lambda x, axis, c: pshuffle(x, axis, SHUFFLE, codec=c), lambda q, axis: lax.pshuffle(q, axis, SHUFFLE))
    codec_of = lambda t: snap.Codec(snap.Count(3, t))
    assert_same("ppermute", *both(pair, codec_of, sample((64, 16)), PER_CHANNEL, mesh_name="4"))


def test_words_name_what_is_defined_elsewhere():
    codec = snap.codec("tests.extensions.sign.Sign+tests.extensions.run_length.RunLength")
    assert codec == snap.Codec(Sign(), RunLength()) == snap.codec(Sign(), RunLength())
    with pytest.raises(snap.UsageError, match=r"link 'tests.extensions.sign.jnp' is a module: use an instance of Enco"):
        snap.codec("tests.extensions.sign.jnp")
    with pytest.raises(snap.UsageError, match=r"link 'no_such.SIGN': No module named .*: use MODULE.NAME"):
        snap.codec("no_such.SIGN")


def test_the_command_line_keeps_the_case_of_an_import_path():
    own = "tests.extensions.sign.Sign+tests.extensions.run_length.RunLength"
    assert links_of(LanguageConfig(link=own)).codec == snap.Codec(Sign(), RunLength())
    assert LanguageConfig(link=" Count:3+RANS ").sent_link == "count:3+rans"
    assert LanguageConfig(link="FP32").backward_link == "fp32"
