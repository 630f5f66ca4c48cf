"""`assert_no_float_collectives`: what it lets pass, what it finds, and what it says."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from snap_jax.codecs import Codec
from snap_jax.collectives import psum
from snap_jax.encodings import Ternary
from snap_jax.errors import UsageError
from snap_jax.traffic.check import FloatCollectiveError, assert_no_float_collectives
from snap_jax.wires import Packed

ROWS = P("x")
X = jnp.ones((8, 16))


def mesh():
    return jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))


def sharded(f, out=ROWS):
    return jax.shard_map(f, mesh=mesh(), in_specs=ROWS, out_specs=out)


@jax.custom_jvp
def coded(v):
    """Forward as bytes; its derivative, and so the backward pass, as floats."""
    return lax.all_gather(v.astype(jnp.uint8), "x", axis=0, tiled=True)[:1].astype(v.dtype)


coded.defjvp(lambda p, t: (coded(*p), lax.all_gather(*t, "x", axis=0, tiled=True)[:1]))


@jax.custom_vjp
def coded_both_ways(v):
    return coded(v)


def coded_backward(_, ct):
    sent = lax.ppermute(ct.astype(jnp.int8), "x", [(i, (i + 1) % 8) for i in range(8)])
    return (sent.astype(ct.dtype),)


coded_both_ways.defvjp(lambda v: (coded(v), None), coded_backward)


def loss_of(f):
    """A loss that crosses as a scalar, and the gradient."""
    scope = jax.named_call(f, name="net")
    loss = sharded(lambda v: lax.psum((scope(v) ** 2).sum(), "x"), out=P())
    return jax.value_and_grad(loss)


def failure(fn, *args, **how):
    with pytest.raises(FloatCollectiveError) as caught:
        assert_no_float_collectives(fn, *args, **how)
    return str(caught.value)


def test_coded_both_ways_passes_and_scalars_are_exempt():
    assert_no_float_collectives(loss_of(coded_both_ways), X)


def test_dense_gradient_is_found_and_the_fix_is_grad_codec():
    message = failure(loss_of(coded), X)
    asked, sent = message.split("and on this backend it sends")
    lines = asked.splitlines()
    assert lines[0] == "assert_no_float_collectives(<lambda>): float tensors cross between devices uncoded."
    # reduce-scatter of the gathered cotangent: 8 rows of 16 floats
    expected = ["psum_scatter", "x", "(8)", "float32[8,16]", "512", "x", "1", "backward", "net"]
    assert lines[3].split() == [*expected, "give", "the", "all_gather", "grad_codec="]
    assert len(lines) == 4
    assert sent.splitlines()[2].split()[:4] == ["psum_scatter", "x", "(8)", "float32[8,16]"]


def test_dense_gradient_may_be_allowed():
    assert_no_float_collectives(loss_of(coded), X, directions=("forward",))


def loss_with_replicated_parameters(w, v):
    """The gradient of `w`, which every device holds, is summed over the devices."""
    inside = jax.named_call(lambda w, v: (coded_both_ways(v @ w) ** 2).sum(), name="net")
    loss = lambda w, v: lax.psum(inside(w, v), "x")
    return jax.shard_map(loss, mesh=mesh(), in_specs=(P(), ROWS), out_specs=P())(w, v)


def test_the_sum_of_gradients_of_replicated_parameters_is_explained():
    message = failure(jax.grad(loss_with_replicated_parameters), jnp.eye(16), X)
    assert "psum  x (8)  float32[16,16]      1,024 x 1  backward   net   see below" in message
    assert "gradient of a value that is the same on all devices, such as replicated parameters" in message
    assert "grad_codec=" not in message


def test_the_advice_for_replicated_parameters_works():
    codec = Codec(Ternary(threshold=1.0), Packed())

    def step(w, v):
        loss = lambda w: (coded_both_ways(v @ w) ** 2).sum()
        return psum(jax.grad(loss)(lax.pcast(w, "x", to="varying")), "x", codec=codec)

    f = jax.shard_map(step, mesh=mesh(), in_specs=(P(), ROWS), out_specs=P())
    assert_no_float_collectives(f, jnp.eye(16), X)


@pytest.mark.parametrize("allow", [("psum",), ("net",), ("n*", "all_gather")])
def test_what_is_allowed_may_cross(allow):
    assert_no_float_collectives(jax.grad(loss_with_replicated_parameters), jnp.eye(16), X, allow=allow)


def test_only_what_is_allowed_may_cross():
    assert "see below" in failure(jax.grad(loss_with_replicated_parameters), jnp.eye(16), X, allow=("pmax", "ne"))


def test_one_pattern_may_be_a_text():
    """Not a list of letters, among which a star would allow everything."""
    assert "see below" in failure(jax.grad(loss_with_replicated_parameters), jnp.eye(16), X, allow="head*")
    assert_no_float_collectives(jax.grad(loss_with_replicated_parameters), jnp.eye(16), X, allow="psum")


def test_an_op_without_a_coded_form_is_to_be_allowed():
    f = sharded(lambda v: lax.pmax(v, "x"), out=P())
    assert 'no codec for it: allow=("pmax",)' in failure(f, X)
    assert_no_float_collectives(f, X, allow=("pmax",))


def test_dense_forward_is_found_and_the_fix_is_codec():
    def dense(v):
        return lax.scan(lambda c, _: (lax.all_gather(c, "x", axis=0, tiled=True)[:1], None), v, None, length=5)[0]

    message = failure(sharded(dense), X)
    assert "all_gather  x (8)  float32[1,16]         64 x 5  forward          give it codec=" in message


def test_rematerialised_forward_needs_codec_not_grad_codec():
    dense = jax.checkpoint(lambda v: jnp.sin(lax.all_gather(jnp.sin(v), "x", axis=0, tiled=True)[:1]))
    lines = failure(loss_of(dense), X, directions=("backward",)).splitlines()
    [again] = [line for line in lines if line.split()[0] == "all_gather" and "give" in line]
    assert "rematted_computation" in again
    assert again.endswith("give it codec=")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "complex64", "float8_e4m3fn"])
def test_every_float_is_found(dtype):
    f = sharded(lambda v: lax.ppermute(v, "x", [(0, 1)]))
    assert f"{dtype}[1,16]" in failure(f, X.astype(dtype))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "uint32", "int32", "bool"])
def test_every_integer_passes(dtype):
    assert_no_float_collectives(sharded(lambda v: lax.ppermute(v, "x", [(0, 1)])), X.astype(dtype))


def test_one_element_is_not_a_scalar():
    f = sharded(lambda v: coded(v) + lax.psum(v.sum(keepdims=True), "x"))
    assert "psum  x (8)  float32[1,1]          4 x 1" in failure(f, X)


def test_gathered_scalar_is_a_scalar_though_xla_sends_an_array_of_one():
    assert_no_float_collectives(sharded(lambda v: coded(v) + lax.all_gather(v.sum(), "x").sum()), X)


def test_scalars_combined_with_tensors_by_xla_are_told_apart():
    f = sharded(lambda v: coded(v) + sum(lax.psum((v.sum(), v.astype(jnp.int32), (v * v).sum()), "x")))
    assert_no_float_collectives(f, X)


def test_floats_in_a_branch_not_counted_are_found():
    def ladder(v):
        dense = lambda u: lax.ppermute(u, "x", [(0, 1)])
        return lax.cond(lax.pmax(v.sum(), "x") > 0, coded, dense, v)

    message = failure(sharded(ladder), X)
    assert "ppermute  x (8)  float32[1,16]" in message
    assert "all_gather" not in message


def test_what_the_compiler_adds_is_found():
    put = lambda *spec: NamedSharding(mesh(), P(*spec))
    f = jax.jit(
        lambda v, w: sharded(coded)(v) @ w,
        in_shardings=(put("x"), put("x")),
        out_shardings=put("x"),
    )
    message = failure(f, X, jnp.ones((16, 8)))
    assert "The program asks for none: the compiler widened a type, or added collectives" in message
    assert "float32" in message
    assert "codec=" not in message


def test_one_element_that_the_compiler_adds_is_not_a_scalar():
    put = lambda *spec: NamedSharding(mesh(), P(*spec))
    f = jax.jit(
        lambda v, a, b: (sharded(coded)(v), a @ b),
        in_shardings=(put("x"), put(None, "x"), put("x")),
        out_shardings=(put("x"), put()),
    )
    assert "float32[1,1]" in failure(f, X, jnp.ones((1, 8)), jnp.ones((8, 1)))


def test_floats_asked_for_are_found_even_where_this_compiler_drops_them():
    def f(v):
        dense = lambda u: lax.ppermute(u, "x", [(0, 1)])
        return lax.cond(jnp.zeros(()) > 1, dense, coded, v)

    message = failure(sharded(f), X)
    assert "ppermute" in message
    assert "and on this backend it sends" not in message


def test_bytes_of_a_bfloat16_are_passed_as_integers_only():
    send = lambda v: lax.ppermute(v, "x", [(0, 1)])
    cast = lambda v: lax.bitcast_convert_type(
        send(lax.bitcast_convert_type(v.astype(jnp.bfloat16), jnp.uint16)), jnp.bfloat16
    )
    assert_no_float_collectives(sharded(cast), X)
    widened = failure(sharded(lambda v: send(v.astype(jnp.bfloat16))), X)
    assert "bfloat16[1,16]         32 x 1" in widened
    assert "float32[1,16]         64 x 1" in widened


@pytest.mark.parametrize(
    "fn",
    [
        lambda v: v @ v.T,
        sharded(lambda v: v + 1),
        sharded(lambda v: v + lax.psum(v.sum(), "x")),
        sharded(lambda v: (coded(v), v)[1]),
        jax.shard_map(
            coded,
            mesh=jax.make_mesh((1,), ("x",), axis_types=(AxisType.Auto,)),
            in_specs=ROWS,
            out_specs=ROWS,
        ),
    ],
    ids=["no shard_map", "no collective", "only a scalar", "result unused", "one device"],
)
def test_nothing_crosses(fn):
    message = failure(fn, X)
    assert "nothing but scalars crosses between devices forward or backward: pass the function" in message


def test_nothing_crosses_backward():
    assert "crosses between devices backward:" in failure(sharded(coded), X, directions=("backward",))


def test_unknown_direction_raises():
    with pytest.raises(UsageError, match=r"directions=\('up',\) holds \['up'\]: use 'forward' and 'backward'"):
        assert_no_float_collectives(sharded(coded), X, directions=("up",))


def test_static_arguments_of_a_jitted_function():
    f = jax.jit(lambda v, how: sharded(how)(v), static_argnums=1)
    assert_no_float_collectives(f, X, coded)


def test_long_lists_are_cut():
    def many(v):
        for _ in range(25):
            v = lax.ppermute(v, "x", [(0, 1)]) + 1
        return v

    lines = failure(sharded(many), X).splitlines()
    assert sum("give it codec=" in line for line in lines) == 20
    assert lines.count("  ... and 5 more") == 2
