"""The ladder: the smallest rung that holds every spike, on all devices alike, and only its bytes cross."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from snap_jax import Bitmap, Codec, Events, Ladder, Packed, Ternary, UsageError
from snap_jax.traffic.hlo import compiled_traffic
from snap_jax.traffic.jaxpr import collective_traffic
from snap_jax.wires import size_grid

TERNARY = range(-1, 2)
RUNGS = (Events(0.02), Bitmap(0.3), Packed())
LADDER = Ladder(RUNGS)
SIZE = 640  # on each device


def mesh_of(**axes: int) -> jax.sharding.Mesh:
    return jax.make_mesh(tuple(axes.values()), tuple(axes), axis_types=(AxisType.Auto,) * len(axes))


def firing(counts: list[int], size: int = SIZE) -> jax.Array:
    """One row a device, of which so many fire with either sign."""
    rng = np.random.default_rng(sum(counts))
    x = np.full((len(counts), size), 0.1, np.float32)
    for row, count in zip(x, counts, strict=True):
        row[rng.permutation(size)[:count]] = rng.choice([-1, 1], count) * rng.uniform(0.6, 3, count)
    return jnp.asarray(x)


@pytest.mark.parametrize("size", [1000, 2**14, 2**20, 2**24])
@pytest.mark.parametrize("symbols", [TERNARY, range(0, 2), range(-3, 4), range(-128, 128)], ids=repr)
def test_each_default_size_has_the_wire_with_the_most_slots(size, symbols):
    """Slots rise with bytes, and one slot more would not fit: with any number of low bits, nor in a bitmap."""
    ladder, width = Ladder(), (len(symbols) - 2).bit_length()
    steps, sizes = ladder.steps(size, symbols), ladder.sizes(size, symbols)
    (most,) = Packed().sizes(size, symbols)
    assert sizes == size_grid.sizes(most, size_grid.SPARSE)[-len(sizes) :]
    assert all(a.slots(size) < b.slots(size) for a, b in itertools.pairwise(steps))
    for wire, nbytes in zip(steps[:-1], sizes[:-1], strict=True):
        assert wire.sizes(size, symbols)[-1] <= nbytes
        slots = wire.slots(size) + 1
        assert all(slots * (1 + low + width) + math.ceil(size / 2**low) > 8 * nbytes for low in range(24))
        assert not width or math.ceil(size / 8) + slots * width / 8 > nbytes


@pytest.mark.parametrize("ladder", [LADDER, Ladder()], ids=["three rungs", "default"])
def test_eager_takes_the_smallest_rung_that_holds(ladder):
    codec = Codec(Ternary(), ladder)
    wires = zip(ladder.steps(SIZE, TERNARY), ladder.sizes(SIZE, TERNARY), strict=True)
    room = [(wire.slots(SIZE), nbytes) for wire, nbytes in wires]
    for count in (0, 12, 13, 14, 192, 193, SIZE):
        x = firing([count])[0]
        least = min(nbytes for slots, nbytes in room if slots >= count)
        payload = codec.encode(x)
        assert payload.size == least + 1 == int(jax.jit(codec.sent_bytes)(x))
        np.testing.assert_array_equal(codec.decode(payload, shape=x.shape, dtype=x.dtype), codec.quantize(x))
    assert codec.payload_bytes((SIZE,)) == Packed().sizes(SIZE, TERNARY)[-1] + 1


def test_a_useless_rung_is_never_taken():
    # A full bitmap of ternary spikes is as long as the two bits of Packed, and two ticks too.
    steps = Ladder((Bitmap(), Packed(), snap.Bitplanes(), Events(1.0), Events(0.1))).steps(800, TERNARY)
    assert [wire.sizes(800, TERNARY)[-1] for wire in steps] == [Events(0.1).sizes(800, TERNARY)[-1], 200]


def test_a_small_tensor_has_one_rung():
    assert Ladder().sizes(252, TERNARY) == (63,)
    assert Ladder().sizes(253, TERNARY) == (32, 64)


def test_malformed_ladders():
    with pytest.raises(UsageError, match=r"add Packed\(\)"):
        Ladder((Events(0.1), Bitmap(0.5)))
    with pytest.raises(UsageError, match="none of them a wire of several sizes"):
        Ladder((Ladder(), Packed()))


def gather(x, codec):
    return snap.all_gather(x, "x", codec=codec)


@pytest.fixture(scope="module")
def gathered():
    """A compiled all-gather of rows, one on each of 8 devices, and its traffic."""
    codec = Codec(Ternary(), LADDER)
    function = jax.shard_map(lambda x: gather(x[0], codec)[None], mesh=mesh_of(x=8), in_specs=P("x"), out_specs=P("x"))
    x = firing([0] * 8)
    return jax.jit(function).lower(x).compile(), collective_traffic(function)(x)


@pytest.mark.parametrize("most", [12, 13, 192, 193, SIZE])
def test_devices_agree_when_densities_differ(gathered, most):
    x = firing([0, 1, most, 5, 12, 0, 3, 2])
    everywhere = gathered[0](x)
    assert everywhere.shape == (8, 8, SIZE)
    for seen in everywhere:
        np.testing.assert_array_equal(seen, Ternary().quantize(x))


def test_claimed_bytes_of_each_rung_are_those_of_its_branch(gathered):
    program, traffic = gathered
    sizes = [wire.sizes(SIZE, TERNARY)[-1] + 1 for wire in RUNGS]
    for each in (traffic, compiled_traffic(program)):
        assert {t.dtype for t in each.possible()} == {"uint8"}
        (choice,) = (c for c in each.choices if any(c.branches))
        assert [[t.bytes for t in branch] for branch in choice.branches] == [[size] for size in sizes]
        assert sum(t.bytes for t in each if t.op == "pmax") == 1


def test_nan_reaches_every_receiver(gathered):
    x = firing([3] * 8).at[5, 17].set(jnp.nan)
    for seen in gathered[0](x):
        np.testing.assert_array_equal(jnp.isnan(seen), jnp.zeros((8, SIZE), bool).at[5].set(True))


COLLECTIVES = {
    "all_gather": lambda c, x, axis, **k: c.all_gather(x, axis, **k),
    "psum_scatter": lambda c, x, axis, **k: c.psum_scatter(x, axis, tiled=True, **k),
    "psum": lambda c, x, axis, **k: c.psum(x, axis, **k),
    "ppermute": lambda c, x, axis, **k: c.ppermute(x, axis, [(0, 1), (1, 3)], **k),
}


def loss(collective, mesh, axis, coded, x, threshold):
    def on_device(x, threshold):
        threshold = lax.pcast(threshold, mesh.axis_names, to="varying")
        codec = Codec(Ternary(threshold), LADDER)
        y = collective(snap, x, axis, codec=codec) if coded else collective(lax, codec.quantize(x), axis)
        weight = 1 + sum(lax.axis_index(name) * 3**i for i, name in enumerate(mesh.axis_names))
        return lax.psum(jnp.sum(jnp.sin(y + jnp.arange(y.shape[-1]))) * weight, mesh.axis_names)

    spec = P(mesh.axis_names)
    return jax.shard_map(on_device, mesh=mesh, in_specs=(spec, P()), out_specs=P())(x, threshold)


@pytest.mark.parametrize(
    ("name", "axes", "axis"),
    [
        ("all_gather", {"x": 2, "y": 4}, "y"),
        ("psum_scatter", {"x": 2, "y": 4}, ("x", "y")),
        ("psum", {"x": 8}, "x"),
        ("ppermute", {"x": 8}, "x"),
    ],
)
def test_equals_the_plain_collective_of_what_was_quantised(name, axes, axis):
    """In every size; the table of invariant 2 has the other meshes."""
    run = functools.partial(loss, COLLECTIVES[name], mesh_of(**axes), axis)
    step = jax.jit(lambda *args: [jax.value_and_grad(run, argnums=(1, 2))(coded, *args) for coded in (True, False)])
    for counts in ([3] * 8, [3, 40, 0, 9, 1, 2, 3, 4], [400, 0, 0, 0, 0, 0, 0, 640]):
        coded, plain = step(firing(counts).reshape(-1), jnp.float32(1.0))
        for a, b in zip(jax.tree.leaves(coded), jax.tree.leaves(plain), strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-4)


def test_inside_scan_remat_and_vmap():
    mesh, codec = mesh_of(x=8), Codec(Ternary(), LADDER)

    def on_device(x, coded):
        @jax.checkpoint
        def body(carry, _):
            both = jnp.stack([carry, 0.2 * carry])
            one = functools.partial(snap.all_gather, axis_name="x", codec=codec) if coded else plain
            return carry + 0.1 * jax.vmap(one)(both).sum((0, 1)), None

        return lax.psum(jnp.sum(jnp.sin(lax.scan(body, x, None, length=2)[0])), "x")

    def plain(x):
        return lax.all_gather(codec.quantize(x), "x")

    def run(coded):
        function = functools.partial(on_device, coded=coded)
        return jax.jit(jax.value_and_grad(jax.shard_map(function, mesh=mesh, in_specs=P("x"), out_specs=P())))

    coded, dense = run(True), run(False)
    for counts in ([3] * 8, [600] * 8):
        for a, b in zip(coded(firing(counts).reshape(-1)), dense(firing(counts).reshape(-1)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_a_cotangent_may_climb_too():
    mesh, codec = mesh_of(x=8), Codec(Ternary(), LADDER)

    def on_device(x, y):
        def sent(x):
            return jnp.vdot(snap.ppermute(x, "x", [(0, 1)], codec=codec, grad_codec=codec), y)

        return jax.grad(sent)(x)

    function = jax.jit(jax.shard_map(on_device, mesh=mesh, in_specs=P("x"), out_specs=P("x")))
    cotangent = firing([5] * 8)
    received = function(firing([0] * 8).reshape(-1), cotangent.reshape(-1)).reshape(8, SIZE)
    np.testing.assert_array_equal(received[0], Ternary().quantize(cotangent[1]))
