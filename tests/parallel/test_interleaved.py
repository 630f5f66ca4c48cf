"""Interleaved stages: the same as one stage per device, and fewer idle ticks."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from snap_jax.boundary.boundary import Boundary
from snap_jax.codecs.link_spec import as_codec
from snap_jax.models.split import split
from snap_jax.parallel.gpipe import GPipe
from snap_jax.parallel.interleaved import Interleaved
from snap_jax.parallel.mesh import auto_mesh
from tests.support import toy


def mean_nats(logits, microbatch):
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, microbatch.labels)
    return nats.mean() / 4, nats


def run(schedule, stages, params, data):
    """Loss, what is reported, and the gradient."""

    def loss(params, data):
        work = stages.work(mean_nats, observe=True)
        total, (nats, _), seen = schedule.run(work, params, data)
        return total, (jax.lax.psum(nats, "stage"), jax.lax.psum(seen, "stage"))

    both = jax.value_and_grad(loss, has_aux=True)
    out_specs = ((P(), P()), P("stage"))
    mesh = auto_mesh({"stage": schedule.stages})
    return jax.jit(jax.shard_map(both, mesh=mesh, in_specs=(P("stage"), P()), out_specs=out_specs))(params, data)


@pytest.mark.parametrize(("link", "grad_link"), [(None, None), ("count:3", "bf16")])
def test_two_stages_per_device_compute_what_four_devices_compute(link, grad_link):
    boundaries = [Boundary(as_codec(link), toy.WIDTH, grad_codec=as_codec(grad_link)) for _ in range(4)]
    stages, params = split(toy.build(4), boundaries)
    params = stages.raise_thresholds(params, 0.2 * jnp.arange(4.0)) if link else params
    schedule, data = Interleaved(microbatches=4, stages=2, chunks=2), toy.batch(4)
    order = np.array(schedule.order)
    (loss, (nats, seen)), gradient = run(schedule, stages, jax.tree.map(lambda p: p[order], params), data)
    (expected, (theirs, counted)), reference = run(GPipe(4, 4), stages, params, data)
    assert float(loss) == pytest.approx(float(expected), rel=1e-6)
    np.testing.assert_allclose(nats, theirs, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(seen), jax.device_get(counted))
    for ours, whole in zip(jax.tree.leaves(gradient), jax.tree.leaves(reference), strict=True):
        np.testing.assert_allclose(ours, whole[order], atol=1e-6)


def test_more_stages_per_device_leave_it_idle_for_less_of_the_time():
    """n - 1 of M k + n - 1 ticks; each microbatch passes the stages of the model in order, one tick each."""
    assert [round(Interleaved(8, 4, chunks=k).idle_share, 4) for k in (1, 2, 4)] == [
        round(3 / (8 * k + 3), 4) for k in (1, 2, 4)
    ]
    assert Interleaved(8, 4, chunks=1).idle_share == GPipe(8, 4).idle_share
    schedule = Interleaved(4, 2, chunks=3)
    at = {}
    for t in range(schedule.ticks):
        for device in range(2):
            m, chunk = schedule.turn(t, device)
            if 0 <= m < 4:
                at[m, chunk * 2 + device] = t
    assert len(at) == 4 * 6
    assert all(at[m, stage + 1] == at[m, stage] + 1 for m in range(4) for stage in range(5))


def test_mistakes_are_named():
    with pytest.raises(snap.UsageError, match="Interleaved: microbatches=3, stages=2, chunks=2: use a multiple of"):
        Interleaved(3, 2)
