"""Invariant 3, for every wire: what is packed comes back, and the payload is as long as the wire says."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snap_jax import Bitmap, Bitplanes, Codec, Events, Packed, Ternary, UsageError
from snap_jax.wires import Ladder, Rans, Wire, bitstring, pack, spike_dtype, unpack

TERNARY = range(-1, 2)
SYMBOLS = (range(0, 2), range(-3, 4), range(-200, 200), range(0, 2**32))
MORE_SYMBOLS = (range(0, 1), range(0, 6), range(-128, 128), range(0, 2**16))
DENSE = (Packed(), Packed(radix=True), Bitplanes())
SPARSE = (Bitmap(), Events(1.0), Ladder())
CODED = (Rans(),)


@functools.lru_cache
def there_and_back(wire: Wire, shape: tuple[int, ...], symbols: range):
    """Compiled once for many values."""
    if len(wire.sizes(math.prod(shape), symbols)) > 1:  # chooses by itself when called eagerly
        return lambda s: (pack(wire, s, symbols), unpack(wire, pack(wire, s, symbols), shape, symbols))

    @jax.jit
    def both(spikes):
        payload = pack(wire, spikes, symbols)
        return payload, unpack(wire, payload, shape, symbols)

    return both


def tensor(size: int, symbols: range, density: float, seed: int) -> jax.Array:
    rng = np.random.default_rng(seed)
    values = rng.integers(symbols.start, symbols.stop, size)
    return jnp.asarray(np.where(rng.random(size) < density, values, 0).astype(spike_dtype(symbols)))


def assert_exact(wire: Wire, spikes: jax.Array, symbols: range):
    payload, again = there_and_back(wire, spikes.shape, symbols)(spikes)
    assert payload.dtype == jnp.uint8
    assert payload.size in wire.sizes(spikes.size, symbols)
    assert again.dtype == spike_dtype(symbols)
    assert again.shape == spikes.shape
    np.testing.assert_array_equal(again, spikes)


@settings(max_examples=60, deadline=None)
@given(density=st.floats(0, 1), seed=st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("wire", DENSE + SPARSE + CODED, ids=repr)
def test_exact_at_every_density(wire, density, seed):
    assert_exact(wire, tensor(1009, TERNARY, density, seed), TERNARY)


@pytest.mark.parametrize("size", [1, 31, 32, 64, 100])
@pytest.mark.parametrize("wire", [*DENSE, *SPARSE[:2]], ids=repr)
def test_exact_for_every_size(wire, size):
    for density in (0.0, 0.3, 1.0):
        assert_exact(wire, tensor(size, TERNARY, density, size), TERNARY)


def wires_and_symbols():
    for wire in DENSE + SPARSE + CODED:
        for symbols in SYMBOLS if wire in SPARSE else SYMBOLS + MORE_SYMBOLS:
            slow_to_compile = isinstance(wire, Ladder) and len(symbols) > 2**16
            if not slow_to_compile and not (isinstance(wire, Bitplanes) and len(symbols) > 20):
                yield pytest.param(wire, symbols, id=f"{wire}-{symbols}")


@pytest.mark.parametrize(("wire", "symbols"), list(wires_and_symbols()))
def test_exact_for_every_range_of_symbols(wire, symbols):
    ends = jnp.asarray([symbols.start, 0, symbols.stop - 1], spike_dtype(symbols))
    for spikes in (tensor(257, symbols, 0.2, 7), tensor(257, symbols, 1.0, 7), jnp.resize(ends, 257)):
        assert_exact(wire, spikes, symbols)


@pytest.mark.parametrize("wire", DENSE + SPARSE + CODED, ids=repr)
@pytest.mark.parametrize("shape", [(), (0, 3), (3, 5)])
def test_exact_for_every_shape(wire, shape):
    assert_exact(wire, tensor(math.prod(shape), TERNARY, 0.5, 3).reshape(shape), TERNARY)


@pytest.mark.parametrize("wire", [*DENSE, Bitmap(0.3), Events(0.3), Ladder(), Rans()], ids=repr)
def test_exact_for_long_tensors(wire):
    for density in (0.0, 0.01, 0.25):
        assert_exact(wire, tensor(300_007, TERNARY, density, 5), TERNARY)


@pytest.mark.parametrize("make", [Events, Bitmap])
@pytest.mark.parametrize("capacity", [0.01, 0.77])
def test_exact_up_to_the_last_slot(make, capacity):
    wire, size = make(capacity), 1009
    slots = wire.slots(size)
    assert slots == math.ceil(capacity * size)
    last = jnp.zeros(size, jnp.int8).at[size - slots :].set(-1)
    for spikes in (last, last[::-1]):
        assert_exact(wire, spikes, TERNARY)


def test_sizes_are_the_equations():
    # 1000 elements, 50 slots, 4 low bits: 63 zeros and 50 ones of upper addresses, 50 x (4 + 1) bits.
    assert Events(0.05).sizes(1000, TERNARY)[-1] == math.ceil((63 + 50 + 50 * 5) / 8)
    assert Bitmap(0.05).sizes(1000, range(-3, 4))[-1] == 125 + math.ceil(50 * 3 / 8)
    assert Packed().sizes(1000, range(-3, 4))[-1] == 250 + 125  # 2 bits and 1 bit
    assert Packed(radix=True).sizes(1000, TERNARY)[-1] == 4 * 50  # 20 digits a word
    assert Bitplanes().sizes(1000, range(-3, 4))[-1] == 6 * 125


@pytest.mark.parametrize("density", [0.01, 0.02, 0.05, 0.1, 0.2])
def test_an_address_takes_at_most_two_bits_and_the_logarithm(density):
    size = 2**20
    address_bits = Events(density).sizes(size, range(0, 2))[-1] * 8 / (size * density)
    assert address_bits <= 2 + math.log2(1 / density) + 1e-3


@pytest.mark.parametrize("make", [Events, Bitmap])
@pytest.mark.parametrize("capacity", [0.0, -0.1, 1.1, math.nan])
def test_malformed_capacity(make, capacity):
    with pytest.raises(UsageError, match="use 0 < capacity <= 1"):
        make(capacity)


@pytest.mark.parametrize("wire", [Events(0.1), Bitmap(0.5)], ids=repr)
def test_a_codec_refuses_a_wire_that_can_overflow(wire):
    with pytest.raises(UsageError, match=r"put it into a ladder, Ladder\(\("):
        Codec(Ternary(), wire)


@pytest.mark.parametrize("wire", [Events(1.0), Bitmap()], ids=repr)
def test_symbols_without_silence(wire):
    with pytest.raises(UsageError, match="has no 0 that could mean no spike"):
        pack(wire, jnp.ones(4, jnp.int8), range(1, 3))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=3, max_size=3), st.integers(0, 31))
def test_bit_strings_against_python(words, rank):
    string = sum(word << (32 * i) for i, word in enumerate(words))
    ones = [i for i in range(96) if string >> i & 1]
    index = bitstring.index_ones(jnp.asarray(words, jnp.uint32))
    assert int(index.total) == len(ones)
    found, _ = bitstring.find_ones(index, 0, 96, jnp.int32(0))
    assert found[: len(ones)].tolist() == ones
    field = bitstring.take(jnp.asarray(words, jnp.uint32), jnp.asarray([rank]), jnp.uint32(2**13 - 1))
    assert int(field[0]) == string >> rank & (2**13 - 1)


@pytest.mark.parametrize("size", [1, 33, 40_000])
def test_running_sums_against_numpy(size):
    x = np.random.default_rng(size).integers(0, 9, size).astype(np.int32)
    np.testing.assert_array_equal(bitstring.running(jnp.sum, jnp.asarray(x)), np.cumsum(x))
    np.testing.assert_array_equal(bitstring.running(jnp.max, jnp.asarray(x)), np.maximum.accumulate(x))
