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
from snap_jax.wires import (
    frequency_tables,
    interleaved_ans,
    pack,
    rans_payload,
    size_grid,
    table_choice,
    unpack,
)
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
    """24 bits in 2560 packed ones for a lane, 2 % for the book, 15 % between neighboring sizes, and that is all."""
    s = spikes(size, width)
    bits = 8 * pack(Rans(), s, SEVEN).size / size
    assert entropy(s) < bits <= 1.02 * 1.15 * (entropy(s) + 24 * 3 / 2560)


def test_channels_that_differ_have_their_own_tables():
    """Means from -2 to 2: the channels' own entropy is far below that of all symbols together."""
    s = spikes((512, 64), 0.6, np.linspace(-2, 2, 64))
    own = np.mean([entropy(s[:, i]) for i in range(64)])
    bits = 8 * pack(Rans(), s, SEVEN).size / s.size
    assert own < bits <= 1.02 * 1.15 * (own + 8 * (8 / 2048 + 1 / 512)) < 0.8 * entropy(s)


def test_what_has_no_order_falls_back_to_packed():
    s = jnp.asarray(np.random.default_rng(0).integers(-4, 4, 2**14), jnp.int8)
    wire, symbols = Rans(), range(-4, 4)
    np.testing.assert_array_equal(pack(wire, s, symbols), pack(Packed(), s, symbols))


def test_default_sizes_are_those_of_a_grid_from_a_32nd_of_packed_on():
    *_, most = Packed().sizes(2**14, SEVEN)
    assert Rans().sizes(2**14, SEVEN) == tuple(n for n in size_grid.sizes(most, size_grid.DENSE) if n >= most // 32)


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


EDGES = jnp.asarray([[0, 4092, 4095, 4096]], jnp.uint16)  # widths 4092, 3 and 1, which is as rare as can be


@functools.partial(jax.jit, static_argnums=1)
def there_and_back(symbols, lanes):
    """Four lanes or so, coded with one table."""
    entries = frequency_tables.entries(EDGES).reshape(-1)
    coded = interleaved_ans.encode(entries[symbols.reshape(-1, lanes)])
    string = interleaved_ans.gather(coded, symbols.size)
    find = functools.partial(frequency_tables.search, entries, levels=3)
    rows = jnp.zeros(lanes, jnp.uint32), jnp.uint32(0), jnp.uint32(1)
    steps = symbols.size // lanes
    return interleaved_ans.decode(coded.states, jnp.cumsum(coded.counts), string, steps, find, rows), coded, string


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=48, max_size=48))
def test_lanes_against_python(symbols):
    """Four lanes of 12; each as Python's own whole numbers have it."""
    again, coded, string = there_and_back(jnp.asarray(symbols), 4)
    np.testing.assert_array_equal(again.reshape(-1), symbols)
    begin, width, words = (0, 4092, 4095), (4092, 3, 1), []
    for lane in range(4):
        x = 0
        for symbol in reversed(symbols[lane::4]):
            if x >= width[symbol] << 20:
                words.append(x % 2**16)
                x >>= 16
            x = (x // width[symbol] << 12) + x % width[symbol] + begin[symbol]
        assert int(coded.states[lane]) == x
    np.testing.assert_array_equal(string[: coded.counts.sum()], words)


def test_division_by_floats_is_exact():
    """Dividends next to multiples, where a float may round to the wrong side, up to the largest quotient."""
    rng = np.random.default_rng(0)
    width = np.concatenate([rng.integers(1, 4097, 10_000), np.arange(1, 4097)])
    quotient = np.where(rng.random(width.size) < 0.5, 2**20 - 1, rng.integers(0, 2**20, width.size))
    for rest in (0 * width, width - 1, rng.integers(0, width)):
        x = jnp.asarray(quotient * width + rest, jnp.uint32)
        found = interleaved_ans._divide(x, jnp.asarray(width, jnp.uint32))
        np.testing.assert_array_equal(found, np.stack([quotient, rest]))


@pytest.mark.parametrize(("levels", "lowest"), [(2, 0), (3, -1), (7, -3), (255, -127), (256, 0)])
def test_every_place_belongs_to_the_symbol_whose_interval_holds_it(levels, lowest):
    tables = frequency_tables.edges(levels, lowest)[::50].astype(np.int32)
    entries = frequency_tables.entries(jnp.asarray(tables, jnp.uint16)).reshape(-1)
    row, slot = np.divmod(np.arange(len(tables) * 4096), 4096)
    row_and_slot = jnp.asarray(levels * row, jnp.uint32), jnp.asarray(slot, jnp.uint32)
    found = frequency_tables.search(entries, *row_and_slot, levels)
    level = np.concatenate([np.repeat(np.arange(levels), np.diff(table)) for table in tables])
    np.testing.assert_array_equal(found & 255, level)
    np.testing.assert_array_equal(frequency_tables.begin_of(found), tables[row, level])
    np.testing.assert_array_equal(frequency_tables.width_of_entry(found), tables[row, level + 1] - tables[row, level])


@pytest.mark.parametrize(("shape", "together", "levels"), [((70, 5), 1, 7), ((20, 5), 3, 3), ((200, 3), 1, 40)])
def test_histogram(shape, together, levels):
    """Rows that are few are counted all, but for those that fill no fold of 64 columns."""
    codes = np.random.default_rng(0).integers(0, levels, shape)
    found = table_choice.histogram(jnp.asarray(codes, jnp.uint8), together, levels)
    fold = min(shape[0], -(-64 // shape[1]))
    counts = np.stack([(codes[: shape[0] // fold * fold] == level).sum(0) for level in range(levels)], -1)
    assert found.sum() > 0.6 * codes.size
    for table, expected in zip(found, range(0, shape[1], together), strict=True):
        np.testing.assert_array_equal(table, counts[expected : expected + together].sum(0))


def test_long_tensors_are_sampled():
    """All channels count equally, and the sample is as large as it should be, but no more than twice."""
    codes = jnp.asarray(np.random.default_rng(0).integers(0, 3, (2**15, 8)), jnp.uint8)
    found = table_choice.histogram(codes, 1, 3).sum(1)
    assert (found == found[0]).all()
    assert table_choice.SAMPLE <= found.sum() * 1.5 <= 3 * table_choice.SAMPLE


def test_a_lane_with_more_words_than_a_byte_counts_is_packed():
    """64 lanes: every 64th spike is random, 854 of them in one lane at 7 bits; the rest is silent."""
    s = np.zeros((854, 64), np.int8)
    s[:, 0] = np.random.default_rng(0).choice([-3, 3], 854)
    for shape, packed in ((-1, True), (s.shape, False)):  # with tables for channels that one is cheap
        each = jnp.asarray(s.reshape(shape))
        payload = pack(Rans(), each, SEVEN)
        assert (payload.size == Packed().sizes(s.size, SEVEN)[0]) == packed
        np.testing.assert_array_equal(unpack(Rans(), payload, each.shape, SEVEN), each)


@pytest.mark.parametrize("shape", [(4096,), (2**14, 2), (300, 7), (128, 40), (3, 1000)])
def test_every_way_to_find_symbols(shape):
    """One table, a table per channel in few and many, channels that share one, and lanes that do not divide them."""
    s = spikes(shape, 0.8, np.linspace(-2, 2, shape[-1]) if len(shape) > 1 else 0.0)
    payload = pack(Rans(), s, SEVEN)
    assert payload.size < Packed().sizes(s.size, SEVEN)[0]
    np.testing.assert_array_equal(unpack(Rans(), payload, s.shape, SEVEN), s)


@pytest.mark.parametrize("shape", [(4096,), (512, 64)])
def test_exactly_the_bytes_counted_matter(shape):
    """The count decides on the size: a byte past it may be anything, and the last one may not."""
    s, book, (most,) = (
        spikes(shape, 0.6, np.linspace(-2, 2, shape[-1])),
        Rans().book(SEVEN),
        Packed().sizes(4096, SEVEN),
    )
    draft = rans_payload.code(s, book)
    payload = rans_payload.lay_out(draft, shape, 7, 8 * most)
    assert 0 < draft.nbytes < payload.size
    place, nbytes = jnp.arange(payload.size), int(draft.nbytes)
    for spoilt, same in ((place >= nbytes, True), (place == nbytes - 1, False)):
        found = rans_payload.read(jnp.where(spoilt, payload ^ 255, payload), shape, book)
        assert bool((found == s).all()) == same


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
