"""Rans: close to the entropy of what is sent, exact when everything is against it, and one rung on all devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from snap_jax import Packed, Rans, UsageError
from snap_jax.parallel.mesh import auto_mesh
from snap_jax.traffic.hlo import compiled_traffic
from snap_jax.wires import frequency_tables, interleaved_ans, pack, unpack
from tests.support.programs import PAIRS, assert_same, both

SEVEN = range(-3, 4)


def spikes(shape, width, mean=0.0, seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(np.clip(np.round(rng.normal(size=shape) * width + mean), -3, 3), jnp.int8)


def entropy(s):
    share = np.unique(np.asarray(s), return_counts=True)[1] / s.size
    return -np.sum(share * np.log2(share))


@pytest.mark.parametrize("width", [0.25, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("size", [2**14, 2**17])
def test_close_to_the_entropy(size, width):
    """8 bytes in 2048 elements for states, 2 % for the book, half a rung of 5 %, and that is all."""
    s = spikes(size, width)
    bits = 8 * pack(Rans(), s, SEVEN).size / size
    assert entropy(s) < bits <= 1.07 * entropy(s) + 8 * 8 / 2048


def test_channels_that_differ_have_their_own_tables():
    """Means from -2 to 2: the channels' own entropy is far below that of all symbols together."""
    s = spikes((512, 64), 0.6, np.linspace(-2, 2, 64))
    own = np.mean([entropy(s[:, i]) for i in range(64)])
    bits = 8 * pack(Rans(), s, SEVEN).size / s.size
    assert own < bits <= 1.07 * own + 8 * (8 / 2048 + 1 / 512) < 0.8 * entropy(s)


def test_what_has_no_order_falls_back_to_packed():
    s = jnp.asarray(np.random.default_rng(0).integers(-4, 4, 2**14), jnp.int8)
    wire, symbols = Rans(), range(-4, 4)
    np.testing.assert_array_equal(pack(wire, s, symbols), pack(Packed(), s, symbols))


def test_default_sizes_are_those_of_a_grid_from_a_32nd_of_packed_on():
    *_, most = Packed().sizes(2**14, SEVEN)
    assert Rans().sizes(2**14, SEVEN) == tuple(range(most // 32, most + 1, most // 128))


def test_sizes_of_a_ratio_lie_close():
    sizes = np.asarray(Rans(ratio=1.05).sizes(2**14, SEVEN))
    assert sizes[-1] == Packed().sizes(2**14, SEVEN)[-1]
    assert np.all(sizes[1:] <= 1.05 * sizes[:-1] + 1)
    assert 1 / 32 <= sizes[0] / sizes[-1] < 1.05 / 32 + 0.001


@pytest.mark.parametrize("levels", [2, 3, 7, 16, 255, 256])
@pytest.mark.parametrize("signed", [False, True])
def test_every_symbol_can_be_coded(levels, signed):
    book = frequency_tables.book(levels, -(levels // 2) if signed else 0)
    assert book.shape == (255, levels)
    assert book.min() >= 1
    np.testing.assert_array_equal(book.sum(1), frequency_tables.TOTAL)


@functools.partial(jax.jit, static_argnums=1)
def there_and_back(symbols, size):
    widths = jnp.asarray([1, 3, 4092])  # one as rare as can be
    edges = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(widths)])
    dealt = symbols.reshape(-1, size)
    coded = interleaved_ans.encode(edges[dealt], widths[dealt])
    string = jnp.zeros(symbols.size, jnp.uint16).at[jnp.where(coded.out, coded.place, symbols.size)].set(coded.words)
    rows = jnp.broadcast_to(edges, (size, 4))
    return interleaved_ans.decode(coded.states, string, jnp.int32(0), dealt.shape[0], lambda _: rows), coded.total


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=48, max_size=48))
def test_lanes_against_python(symbols):
    """Four lanes of 12; each as Python's own whole numbers have it."""
    again, count = there_and_back(jnp.asarray(symbols), 4)
    np.testing.assert_array_equal(again.reshape(-1), symbols)
    begin, width, words = (0, 1, 4), (1, 3, 4092), 0
    for lane in range(4):
        x = 2**16
        for symbol in reversed(symbols[lane::4]):
            if x >= width[symbol] << 20:
                x, words = x >> 16, words + 1
            x = (x // width[symbol] << 12) + x % width[symbol] + begin[symbol]
    assert count == words


@pytest.mark.parametrize("name", ["all_gather", "ppermute", "all_to_all", "psum", "psum_scatter"])
def test_invariant_2(name):
    """Tensors long enough for tables of their own, and of a width that two bytes a word do not divide."""
    x = jnp.asarray(np.random.default_rng(1).normal(size=(2 * 65, 34)), jnp.float32)
    codec_of = lambda threshold: snap.Codec(snap.Count(3, threshold), Rans())
    assert_same(name, *both(PAIRS[name], codec_of, x, jnp.linspace(0.3, 1.0, 34), mesh_name="2"))


def test_all_devices_take_the_rung_of_the_largest_and_only_its_bytes_cross():
    codec = snap.Codec(snap.Count(3), Rans(ratio=1.5, least=1 / 8))
    x = jnp.stack([spikes(4096, 0.2), spikes(4096, 0.5)]).astype(jnp.float32)
    on = auto_mesh({"x": 2})
    gather = jax.jit(
        jax.shard_map(lambda x: snap.all_gather(x, "x", codec=codec), mesh=on, in_specs=P("x"), out_specs=P("x"))
    )
    np.testing.assert_array_equal(gather(x).reshape(2, 2, -1)[0], x)
    choices = compiled_traffic(gather.lower(x).compile(), on).choices
    (choice,) = (c for c in choices if any(c.branches))
    rungs = [n + 1 for n in codec.sizes(4096)]
    assert [[t.bytes for t in branch] for branch in choice.branches] == [[n] for n in rungs]
    quiet, loud = (int(codec.sent_bytes(row)) for row in x)
    assert quiet < loud < rungs[-1]
    assert {quiet, loud} < set(rungs)


def test_a_nan_arrives():
    codec = snap.Codec(snap.Count(3), Rans())
    x = jnp.ones(4096).at[77].set(jnp.nan)
    assert jnp.isnan(codec.decode(codec.encode(x), shape=x.shape, dtype=x.dtype)).all()


@pytest.mark.parametrize("wrong", [{"ratio": 1.0}, {"least": 0.0}, {"least": 1.0}, {"ratio": 1.01}])
def test_malformed_grids(wrong):
    with pytest.raises(UsageError, match="Rans: "):
        Rans(**wrong)


def test_a_list_that_both_sides_hold_saves_the_names():
    """64 channels, 64 bytes of names; another number of channels, or a worse list, takes the old way."""
    s = spikes((512, 64), 0.6, np.linspace(-2, 2, 64))
    counts = np.stack([(np.asarray(s) == symbol).sum(0) for symbol in SEVEN], -1)
    book = frequency_tables.fit(counts)
    best = tuple((counts @ np.log2(frequency_tables.TOTAL / np.asarray(book)).T).argmin(-1).tolist())
    fine = functools.partial(Rans, ratio=1.004, least=0.4, learned=book)
    plain, listed, misled = fine(), fine(lists=(best,)), fine(lists=((0,) * 64,))
    size = {wire: pack(wire, s, SEVEN).size for wire in (plain, listed, misled)}
    assert abs(size[plain] - 64 - size[listed]) <= 0.004 * size[plain] < 64  # up to one rung
    assert size[misled] == size[plain]
    for wire, part in ((listed, s), (misled, s), (listed, s[:, :32])):
        np.testing.assert_array_equal(unpack(wire, pack(wire, part, SEVEN), part.shape, SEVEN), part)


def test_lists_are_of_learned_tables():
    with pytest.raises(UsageError, match="1 lists of 0 learned tables"):
        Rans(lists=((0, 1),))
