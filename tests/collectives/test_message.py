"""One message per codec: spikes are computed once, the arrays of a pytree travel together, and the invariants hold."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax
from jax.extend import core
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from snap_jax.encodings import surrogates
from snap_jax.traffic.trip_count import open_jaxpr
from tests.support.messages import LADDER, on_mesh, varying
from tests.support.programs import PAIRS, sample

MOVED = ("all_gather", "ppermute", "all_to_all", "psum_scatter", "psum", "pmean")


RANS = snap.Rans(ratio=2.0)


def equations(jaxpr):
    """Every equation of a jaxpr and of those inside; custom rules are not entered, they are for the backward pass."""
    for equation in open_jaxpr(jaxpr).eqns:
        yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                if isinstance(inner, core.Jaxpr | core.ClosedJaxpr):
                    yield from equations(inner)


def count(function, *args):
    """How often each primitive occurs."""
    names = [equation.primitive.name for equation in equations(jax.make_jaxpr(function)(*args))]
    return {name: names.count(name) for name in names}


@pytest.mark.parametrize("collective", MOVED)
def test_spikes_are_computed_and_coded_once_per_message(collective):
    """The staircase is the one `floor`; rANS encodes in one reverse scan; one pmax agrees on the size; sums: again."""
    codec, x = snap.Codec(snap.Count(3, 0.5), RANS), sample((16, 4096))
    program = on_mesh(lambda x: varying(PAIRS[collective].coded(x, "x", codec)))
    jaxpr = jax.make_jaxpr(program)(x)
    scans = [e for e in equations(jaxpr) if e.primitive.name == "scan"]
    names = [e.primitive.name for e in equations(jaxpr)]
    messages = 2 if collective in ("psum", "pmean") else 1
    assert len([scan for scan in scans if scan.params["reverse"]]) == messages
    assert names.count("pmax") == messages
    assert names.count("floor") == 1


def test_what_was_sent_comes_back_and_costs_no_second_message():
    codec, x = snap.Codec(snap.Count(3, 0.5), RANS), sample((4, 4096))

    def program(x, return_sent):
        found = snap.ppermute(x, "x", [(0, 1)], codec=codec, return_sent=return_sent)
        y, sent = found if return_sent else (found, None)
        return y[None], varying(sent)

    once, alone = (count(on_mesh(functools.partial(program, return_sent=b)), x) for b in (True, False))
    assert once["scan"] == alone["scan"]
    assert once["pmax"] == alone["pmax"] == 1
    _, sent = jax.jit(on_mesh(functools.partial(program, return_sent=True)))(x)
    np.testing.assert_array_equal(sent.spikes.values.reshape(x.shape), codec.spikes(x))
    assert sent.spikes.finite.all()
    needed = max(int(codec.sent_bytes(row)) for row in x)  # all devices take the size of the largest
    assert [codec.payload_sizes((4096,))[i] for i in sent.rung] == [needed] * 4


def test_no_gradient_goes_through_what_was_sent():
    def loss(x):
        y, sent = snap.all_gather(x, "x", codec="int8:absmax", return_sent=True)
        return jnp.sum(y) + 100 * jnp.sum(sent.spikes.side[0])

    gradient = jax.jit(on_mesh(jax.grad(loss)))(sample((8, 3)))
    np.testing.assert_allclose(gradient, np.full((8, 3), 4.0), rtol=1e-6)  # each element is seen by four devices


def test_return_sent_is_for_one_array():
    with pytest.raises(snap.UsageError, match=r"psum: return_sent=True needs a single array, got 2: call it for each"):
        jax.make_jaxpr(on_mesh(lambda x: snap.psum([x, x], "x", codec="ternary", return_sent=True)))(sample((4, 2)))


def tree_of(x):
    return {"kernel": x, "bias": 3 * x[0, :5], "scale": (x[0, 0], x[:, :1], x[:0])}


@pytest.mark.parametrize("collective", ["all_gather", "ppermute", "psum", "pmean"])
@pytest.mark.parametrize("name", ["count:3", "int8:absmax", "ladder"])
def test_a_pytree_is_one_message(collective, name):
    """Every array equals what it is alone, side arrays and NaNs are its own, and one payload carries them all."""
    if collective in ("psum", "pmean") and "absmax" in name:
        pytest.skip("steps of several devices do not add up")
    codec = snap.codec("count:3", LADDER) if name == "ladder" else snap.codec(name)
    x = sample((16, 40)).at[0, 20].set(jnp.nan)
    coded = lambda t: PAIRS[collective].coded(t, "x", codec)
    together = on_mesh(lambda x: varying(coded(tree_of(x))))
    plain = on_mesh(lambda x: varying(PAIRS[collective].plain(jax.tree.map(codec.quantize, tree_of(x)), "x")))
    a, b = jax.jit(together)(x), jax.jit(plain)(x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), a, b)
    assert np.isnan(a["kernel"]).any()
    assert not np.isnan(a["bias"]).any()
    one, many = count(together, x), count(on_mesh(lambda x: varying(coded(x))), x)
    if len(codec.sizes(1000)) == 1:
        moved = {"all_gather": "all_gather", "ppermute": "ppermute"}.get(collective, "all_to_all")
        assert one[moved] == many[moved] == 1
    else:
        assert one["pmax"] == many["pmax"] == (2 if collective in ("psum", "pmean") else 1)


def test_each_array_of_a_pytree_may_have_its_own_threshold():
    """And other codecs, or none, travel apart."""
    codecs = {"a": snap.Codec(snap.Count(3, 0.5)), "b": snap.Codec(snap.Count(3, 0.25)), "c": "int8:absmax", "d": None}

    def program(x):
        return varying(snap.all_gather(dict.fromkeys(codecs, x), "x", codec=codecs))

    x = sample((4, 7))
    result = jax.jit(on_mesh(program))(x)
    for name, codec in codecs.items():
        codec = snap.codec(codec) if isinstance(codec, str) else codec
        rows = x if codec is None else jnp.stack([codec.quantize(row) for row in x])
        for seen in result[name]:
            np.testing.assert_array_equal(seen.reshape(4, 7), rows)
    assert count(on_mesh(program), x)["all_gather"] == 3  # a and b together


def test_arrays_that_vary_over_other_axes_travel_apart():
    """The sum over y of what does not vary over x is typed so: else `out_specs` would refuse it."""
    mesh = jax.make_mesh((2, 2), ("x", "y"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    codec, x = snap.codec("count:3"), sample((2, 2, 5))

    def program(x, z):
        return snap.psum((x, z), "y", codec=codec)

    run = jax.shard_map(program, mesh=mesh, in_specs=(P("x", "y"), P("y")), out_specs=(P("x"), P()))
    a, b = jax.jit(run)(x, x[0])
    np.testing.assert_allclose(a[:, 0], codec.quantize(x).sum(1), atol=1e-6)
    np.testing.assert_allclose(b[0], codec.quantize(x[0]).sum(0), atol=1e-6)


def test_a_wire_with_little_room_sends_every_array_alone():
    """Two arrays that each fire in a tenth of their elements, rounded up, may together fire in more than a tenth."""
    codec, x = snap.codec("topk:0.1"), sample((4, 11))
    program = on_mesh(lambda x: varying(snap.all_gather((x, x), "x", codec=codec)))
    assert count(program, x)["all_gather"] == 2
    a, b = jax.jit(program)(x)
    np.testing.assert_array_equal(a[0], jnp.stack([codec.quantize(row[None]) for row in x]))
    np.testing.assert_array_equal(a, b)


def test_the_gradients_of_a_model_are_a_handful_of_collectives():
    """33 parameters: their sizes in one all_gather, their spikes in one all_to_all, the sums in one all_gather."""
    shapes = [(8, 3), (5,), ()] * 11
    gradients = [sample((4, *shape), seed=i) for i, shape in enumerate(shapes)]
    feedback = snap.error_feedback("ternary", "x")

    def program(gradients):
        local = [g[0] for g in gradients]
        updates, _ = feedback.update(local, feedback.init(local))
        return varying(updates)

    found = count(on_mesh(program), gradients)
    crossing = ("psum", "psum_invariant", "psum2", "all_to_all", "all_gather", "all_gather_invariant", "ppermute")
    assert sum(found.get(name, 0) for name in crossing) == 3
    updates = jax.jit(on_mesh(program))(gradients)

    @jax.jit
    def expected(g):
        ternary = snap.codec("ternary").encoding
        return jax.vmap(ternary.with_threshold(ternary.threshold * jnp.abs(g).mean()).quantize)(g).mean(0)

    for g, update in zip(gradients, updates, strict=True):
        np.testing.assert_allclose(update[0], expected(g), atol=1e-6)


@pytest.mark.parametrize("collective", ["psum", "pmean", "psum_scatter"])
def test_a_sum_that_overflows_is_infinite_as_in_lax(collective):
    """Four times 60,000: past 65,504, the largest number of f16."""
    codec, x = snap.Codec(snap.Count(3, 20000.0)), jnp.full((16, 4), 60000, jnp.float16)
    pair = PAIRS[collective]
    program = lambda x: varying((pair.coded(x, "x", codec), pair.plain(codec.quantize(x), "x")))
    coded, plain = jax.jit(on_mesh(program))(x)
    np.testing.assert_array_equal(coded, plain)
    assert np.isposinf(coded.astype(np.float32)).all()


@pytest.mark.parametrize("wire", [LADDER, RANS], ids=["ladder", "rans"])
def test_a_payload_that_does_not_fit_is_nan(wire):
    """All 4096 elements fire: none of the smaller sizes holds them."""
    codec, x = snap.Codec(snap.Count(3), wire), 3 * sample((4096,))
    first, last = jnp.uint8(0), jnp.uint8(len(codec.sizes(4096)) - 1)
    back = lambda rung: codec.decode(codec.encode(x, rung), shape=x.shape, dtype=x.dtype, rung=rung)
    assert np.isnan(back(first)).all()
    np.testing.assert_array_equal(back(last), codec.quantize(x))


def test_strings_are_codecs_everywhere():
    def program(x):
        y = snap.ppermute(x, "x", [(0, 1)], codec="count:3", grad_codec="bf16")
        return varying((y, snap.psum(x, "x", codec="int4:absmax", sum_codec="int8:absmax")))

    y, _ = jax.jit(on_mesh(program))(sample((4, 8)))
    np.testing.assert_array_equal(y[1, 0], snap.codec("count:3").quantize(sample((4, 8))[:1])[0])
    floats = on_mesh(lambda x: snap.all_gather(x, "x", codec="fp32", tiled=True))
    assert count(floats, sample((4, 8)))["all_gather"] == 1


def test_python_numbers_are_arrays():
    total = jax.jit(on_mesh(lambda x: varying(snap.psum(1.0, "x", codec=snap.Codec(snap.Count(3, 0.5))))))
    assert total(sample((4,))).tolist() == [4.0] * 4


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (lambda x: snap.all_gather(x, "x", to="reduced", codec="ternary"), r"all_gather: to='reduced' cannot be coded"),
        (
            lambda x: snap.all_gather(x[:, :1], "x", codec=snap.Codec(snap.Ternary(jnp.ones(16)))),
            r"all_gather: a threshold of shape \(16,\) does not broadcast against an input of shape \(1, 1\)",
        ),
        (lambda x: snap.psum(x, "x", sum_codec="ternary"), r"psum: sum_codec= needs a codec= for the first shot"),
        (lambda x: snap.ppermute(x, "x", [], codec=snap.Codec(snap.Ternary(-1.0))), r"threshold=-1.0 is not positive"),
    ],
)
def test_errors_name_the_value_and_the_fix(program, message):
    with pytest.raises(snap.UsageError, match=message):
        jax.make_jaxpr(on_mesh(program))(sample((4, 8)))


def test_second_derivatives_are_those_of_lax():
    encoding = snap.Ternary(0.5, surrogate=surrogates.ATan())
    codec, x = snap.Codec(encoding), sample((4, 6))

    def second(gather):
        loss = lambda x: jnp.sum(jnp.sin(gather(x)) ** 2)
        return jax.jit(on_mesh(jax.grad(lambda x: jnp.sum(jax.grad(loss)(x) ** 2))))(x)

    coded = second(lambda x: snap.all_gather(x, "x", codec=codec))
    np.testing.assert_allclose(coded, second(lambda x: lax.all_gather(codec.quantize(x), "x")), atol=1e-5)


def test_optax_takes_the_transformation():
    """A chain, in one program, with an optimizer after it."""
    optimizer = optax.chain(snap.error_feedback("count:3", "x"), optax.sgd(1.0))
    params = {"w": jnp.zeros(3)}

    def step(g):
        state = optimizer.init(params)
        return varying(optimizer.update({"w": g[0]}, state, params)[0]["w"])

    updates = jax.jit(on_mesh(step))(jnp.ones((4, 3)))
    assert (np.asarray(updates) < 0).all()
