"""Gradients: which direction a collective of the jaxpr belongs to, and its path."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec as P

from snap_jax.traffic import Transfer
from snap_jax.traffic.jaxpr import collective_traffic
from tests.support.jaxpr_programs import ROW, SHIFT, X, gathered, mesh_of, sharded


def loss(f):
    return lambda v: (f(v) ** 2).sum()


def test_gradient_has_both_directions_and_paths():
    net = jax.named_call(
        sharded(lambda v: lax.scan(lambda c, _: (gathered(c), None), v, None, length=5)[0]), name="net"
    )
    forward, backward = collective_traffic(jax.jit(jax.grad(loss(net))))(X)
    assert forward == Transfer("all_gather", ("x",), 4, "float32", ROW, 5, "net/up", "forward", (1, 16), 2)
    assert backward == Transfer("psum_scatter", ("x",), 4, "float32", 4 * ROW, 5, "net/up", "backward", (4, 16), 2)


def test_gradient_inside_shard_map():
    f = lambda v: jax.grad(lambda u: (gathered(u) ** 2).sum())(v)
    assert [(t.op, t.direction) for t in collective_traffic(sharded(f))(X)] == [
        ("all_gather", "forward"),
        ("psum_scatter", "backward"),
    ]


def test_gradient_of_a_replicated_parameter_is_a_psum():
    def step(theta, v):
        f = jax.shard_map(lambda w, u: w * u, mesh=mesh_of(), in_specs=(P(), P(("y", "x"))), out_specs=P(("y", "x")))
        return (f(theta, v) ** 2).sum()

    [t] = collective_traffic(jax.grad(step))(jnp.ones((1, 16)), X)
    assert (t.op, t.axes, t.shape, t.direction) == ("psum", ("y", "x"), (1, 16), "backward")


def test_remat_gathers_again_in_the_backward_pass():
    f = jax.checkpoint(lambda v: jnp.sin(gathered(jnp.sin(v))))
    found = [(t.op, t.direction, t.path) for t in collective_traffic(jax.grad(loss(sharded(f))))(X)]
    assert found == [
        ("all_gather", "forward", "up"),
        ("all_gather", "backward", "rematted_computation/up"),
        ("psum_scatter", "backward", "up"),
    ]


def test_custom_vjp_is_walked_in_both_directions():
    @jax.custom_vjp
    def coded(v):
        return gathered(v.astype(jnp.uint8)).astype(v.dtype)

    def backward(_, ct):
        with jax.named_scope("down"):
            return (lax.ppermute(ct.astype(jnp.bfloat16), "x", SHIFT).astype(ct.dtype),)

    coded.defvjp(lambda v: (coded(v), None), backward)
    found = [(t.op, t.dtype, t.direction, t.path) for t in collective_traffic(jax.grad(loss(sharded(coded))))(X)]
    assert found == [("all_gather", "uint8", "forward", "up"), ("ppermute", "bfloat16", "backward", "down")]


def test_custom_jvp_is_walked():
    @jax.custom_jvp
    def coded(v):
        return gathered(v.astype(jnp.uint8)).astype(v.dtype)

    coded.defjvp(lambda p, t: (coded(*p), gathered(*t)))
    assert [t.dtype for t in collective_traffic(sharded(coded))(X)] == ["uint8"]
    found = [(t.op, t.dtype) for t in collective_traffic(jax.grad(loss(sharded(coded))))(X)]
    assert found == [("all_gather", "uint8"), ("psum_scatter", "float32")]


def test_nested_jit_and_scopes_join():
    inner = jax.jit(gathered)

    def f(v):
        with jax.named_scope("net"):
            return inner(v)

    [t] = collective_traffic(jax.jit(sharded(jax.jit(f))))(X)
    assert t.path == "net/up"
