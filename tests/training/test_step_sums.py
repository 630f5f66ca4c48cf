"""Loss and norm of a step are one small sum over devices, and so are the counts of telemetry."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from snap_jax.parallel.mesh import auto_mesh
from snap_jax.training.config import LanguageConfig
from snap_jax.training.plan import plan
from snap_jax.training.tasks.step_sums import loss_and_norm, psum_together

SMALL = {"layers": 2, "width": 8, "heads": 2, "seq_len": 16, "batch": 4, "microbatches": 2, "steps": 2}
GRADIENT = {
    "stacked": np.arange(8.0, dtype=np.float32).reshape(2, 4),
    "divided": np.arange(16.0, dtype=np.float32).reshape(2, 2, 4) - 5,
    "shared": np.float32([3.0, -4.0]),
}
SPECS = {"stacked": P("stage"), "divided": P("stage", "tensor"), "shared": P()}
SQUARES = {name: float(np.square(array).sum()) for name, array in GRADIENT.items()}


def mesh():
    return auto_mesh({"data": 2, "stage": 2, "tensor": 2})


def run(*args, **kwargs):
    return jax.tree.map(np.asarray, jax.jit(lambda *a: loss_and_norm(mesh(), SPECS, *a, **kwargs))(*args))


def test_every_number_counts_once_however_it_is_divided():
    """Two replicas with losses of 1 + 2 and 3 + 6 over their stages: a mean of 6."""
    loss, norm = run(GRADIENT, jnp.array([[1.0, 2.0], [3.0, 6.0]]))
    assert (float(loss), float(norm)) == (6.0, pytest.approx(sum(SQUARES.values()) ** 0.5, rel=1e-6))


def test_rows_of_replicas_have_a_root_mean_square_or_a_norm_each():
    """The second row is three times the first: 1 + 9 squares over 2 rows, or norms of 1 and 3."""
    specs = {name: P("data", *spec) for name, spec in SPECS.items()}
    both = {name: jnp.stack([array, 3 * array]) for name, array in GRADIENT.items()}
    losses, one = jnp.array([[1.0, 2.0], [3.0, 6.0]]), sum(SQUARES.values()) ** 0.5
    total = jax.jit(lambda g, n: loss_and_norm(mesh(), specs, g, n))(both, losses)
    assert [float(n) for n in total] == pytest.approx([6.0, 5**0.5 * one], rel=1e-6)
    each = jax.jit(lambda g, n: loss_and_norm(mesh(), specs, g, n, alone=True))(both, losses)
    np.testing.assert_allclose(np.stack(each), [[3.0, 9.0], [one, 3 * one]], rtol=1e-6)


def test_arrays_of_a_dtype_are_summed_together():
    tree = {"a": jnp.arange(6, dtype=jnp.uint32).reshape(2, 3), "b": jnp.ones((2,), jnp.uint32), "c": jnp.ones((2, 2))}
    both = jax.jit(
        jax.shard_map(
            lambda t: psum_together(t, "data"), mesh=auto_mesh({"data": 2}), in_specs=P("data"), out_specs=P()
        )
    )
    for name, total in both(tree).items():
        np.testing.assert_array_equal(total, np.asarray(tree[name]).sum(0, keepdims=True), strict=False)
    assert both.lower(tree).as_text().count("all_reduce") == 2


@pytest.mark.parametrize(("layout", "counts"), [("pipeline", 0), ("data", 1)])
def test_a_step_sends_one_sum_of_two_numbers_besides_the_model_and_its_gradients(tmp_path, layout, counts):
    """Whatever the number of parameters; replicas also add up what their telemetry counted, in one sum."""
    (tmp_path / "text").write_bytes(bytes(range(32, 127)) * 40)
    found = plan(LanguageConfig(data=str(tmp_path / "text"), devices=2, layout=layout, heldout_bytes=64, **SMALL))
    kept = lambda t: "boundary" not in t.path and "gradients" not in t.path.split("/")
    rest = found.traffic.where(kept)
    assert len(found.traffic) > len(rest) > 0
    assert sorted((t.op, t.dtype, t.shape, t.times) for t in rest if t.dtype == "float32") == [
        ("psum", "float32", (2,), 1)
    ]
    assert len(rest) == 1 + counts
    assert {"bookkeeping" in t.path.split("/") for t in rest} == {True}
