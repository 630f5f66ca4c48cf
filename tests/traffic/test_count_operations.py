"""Every equation counts once for each time it runs; what only the run decides raises."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

from snap_jax.cost import HOROWITZ_45NM
from snap_jax.errors import UsageError
from snap_jax.traffic.count_operations import count


def counts(fn, *args):
    return {(c.kind, c.dtype): c.times for c in count(fn)(*args).counts}


def ones(*shape, dtype=jnp.float32):
    return jnp.ones(shape, dtype)


@pytest.mark.parametrize(
    ("equation", "shapes", "macs"),
    [
        ("ij,jk->ik", [(2, 3), (3, 4)], 2 * 3 * 4),
        ("bij,bjk->bik", [(5, 2, 3), (5, 3, 4)], 5 * 2 * 3 * 4),
        ("i,i->", [(7,), (7,)], 7),
        ("i,j->ij", [(7,), (3,)], 21),
        ("bhqd,bhkd->bhqk", [(2, 3, 5, 4), (2, 3, 6, 4)], 2 * 3 * 5 * 6 * 4),
    ],
)
def test_products_of_matrices(equation, shapes, macs):
    found = counts(lambda a, b: jnp.einsum(equation, a, b), *(ones(*shape) for shape in shapes))
    assert found.get(("mac", "float32"), found.get(("multiply", "float32"))) == macs


@pytest.mark.parametrize(
    ("groups", "kernel", "context_tokens"),
    [(1, (8, 2, 3, 3), 2 * 9), (2, (8, 1, 3, 3), 9), (1, (8, 2, 1, 1), 2)],
)
def test_convolutions(groups, kernel, context_tokens):
    def convolve(x, k):
        return lax.conv_general_dilated(x, k, (1, 1), "SAME", feature_group_count=groups)

    # 8 output channels on 6 x 6 positions, each a sum of `context_tokens` products.
    assert counts(convolve, ones(1, 2, 6, 6), ones(*kernel)) == {("mac", "float32"): 8 * 36 * context_tokens}


@pytest.mark.parametrize(
    ("fn", "expected"),
    [
        (lambda x: x + 1.0, {("add", "float32"): 12}),
        (lambda x: x - x, {("add", "float32"): 12}),
        (lambda x: x * 2.0, {("multiply", "float32"): 12}),
        (lambda x: x**3, {("multiply", "float32"): 24}),
        (lambda x: x.sum(), {("add", "float32"): 11}),
        (lambda x: x.sum(axis=1), {("add", "float32"): 9}),  # three lines of four: three additions each
        (lambda x: jnp.cumsum(x, axis=1), {("add", "float32"): 9}),
        (lambda x: x.max(), {("other", "float32"): 12}),
        (lambda x: jnp.exp(x), {("other", "float32"): 12}),
        (lambda x: x.T.reshape(-1)[:5], {}),
        (lambda x: x.at[0].add(x[1]), {("add", "float32"): 4}),
        (lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 2), (1, 2), "VALID"), {("add", "float32"): 6}),
        (lambda x: x.astype(jnp.int32) + 1, {("add", "int32"): 12}),
    ],
)
def test_arithmetic_of_twelve_elements(fn, expected):
    assert counts(fn, ones(3, 4)) == expected


def test_sums_of_nothing_take_nothing():
    assert counts(lambda x: x.sum(), ones(0)) == {}


def test_scans_multiply():
    def layers(x, weights):
        return lax.scan(lambda h, w: (h @ w, None), x, weights)[0]

    assert counts(layers, ones(2, 8), ones(5, 8, 8)) == {("mac", "float32"): 5 * 2 * 8 * 8}


def test_loops_with_a_known_trip_count_multiply():
    found = counts(jax.jit(lambda x: lax.fori_loop(0, 7, lambda _, v: v * 2.0, x)), ones(3))
    assert found["multiply", "float32"] == 7 * 3


def test_loops_that_only_the_run_decides_are_refused():
    with pytest.raises(UsageError, match=r"count: only the run decides .* lax\.scan"):
        count(lambda x: lax.while_loop(lambda v: v.sum() < 9, lambda v: v * 2, x))(ones(3))


def test_of_a_cond_the_costliest_branch_counts():
    def choose(flag, x):
        return lax.cond(flag, lambda v: v @ v, lambda v: v, x)

    assert counts(choose, True, ones(4, 4))["mac", "float32"] == 64


def test_every_device_of_a_mesh_counts():
    mesh = jax.make_mesh((4,), ("die",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:4])
    split = jax.shard_map(lambda x, w: x @ w, mesh=mesh, in_specs=(P("die"), P()), out_specs=P("die"))
    whole = counts(lambda x, w: x @ w, ones(8, 4), ones(4, 3))
    assert counts(split, ones(8, 4), ones(4, 3)) == whole == {("mac", "float32"): 8 * 4 * 3}
    # What is not split is computed four times.
    twice = jax.shard_map(lambda w: w @ w, mesh=mesh, in_specs=P(), out_specs=P(), check_vma=True)
    assert counts(twice, ones(3, 3)) == {("mac", "float32"): 4 * 27}


def test_collectives_compute_nothing_here_and_their_bytes_are_counted_elsewhere():
    mesh = jax.make_mesh((4,), ("die",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:4])
    gather = jax.shard_map(
        lambda x: lax.all_gather(x, "die", tiled=True), mesh=mesh, in_specs=P("die"), out_specs=P("die")
    )
    assert counts(gather, ones(8)) == {}


def test_gradients_take_two_more_products_a_layer():
    def loss(w, x):
        return (x @ w).sum()

    forward = counts(loss, ones(4, 3), ones(2, 4))["mac", "float32"]
    both = counts(jax.grad(loss, argnums=(0, 1)), ones(4, 3), ones(2, 4))["mac", "float32"]
    assert both == 2 * forward  # the value itself is not needed and is left out


def test_calls_and_remat_are_looked_into():
    @jax.checkpoint
    def inner(x):
        return jax.jit(lambda v: v @ v)(x)

    assert counts(inner, ones(3, 3)) == {("mac", "float32"): 27}


def test_random_numbers_are_counted_and_keys_are_not():
    assert counts(lambda key: jax.random.key_data(jax.random.split(key)), jax.random.key(0)) == {}
    assert counts(lambda key: jax.random.bits(key, (5,)), jax.random.key(0)) == {("other", "uint32"): 5}


def test_bytes_moved_are_operands_and_results():
    # Two operands of 6 and 12 floats, a result of 8.
    assert count(lambda a, b: a @ b)(ones(2, 3), ones(3, 4)).bytes_moved == (6 + 12 + 8) * 4


def test_a_model_stands_on_one_table_as_ann_and_snn():
    def model(w, x):
        return jax.nn.relu(x @ w) @ w

    work, left_out = HOROWITZ_45NM.split(count(model)(ones(16, 16), ones(1, 16)))
    assert left_out.times("other") == 16  # relu is a comparison: no published energy
    dense, spiking = (HOROWITZ_45NM.energy(w).high for w in (work, work.spiking(0.1)))
    assert dense / spiking == pytest.approx(4.6 / (0.1 * 0.9))
