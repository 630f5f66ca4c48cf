"""Delta streams: both ends agree bit for bit, and errors never add up."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from snap_jax._compat import as_varying
from snap_jax.parallel import delta_stream
from tests.support.feedback import ar1, on

RING = [(0, 1), (1, 2), (2, 3), (3, 0)]


MOVES = {
    "ppermute": functools.partial(snap.ppermute, axis_name="x", perm=RING[:3]),
    "all_gather": functools.partial(snap.all_gather, axis_name="x"),
}


GRAPES = snap.Codec(snap.Count(3, threshold=0.137), snap.Packed())


def run_stream(collective, xs, codec):
    """All ticks of a stream: what was heard at each, and the stream at the end."""

    def tick(stream, x):
        y, stream = delta_stream.send(collective, stream, x, codec=codec)
        return stream, y

    return lax.scan(tick, delta_stream.DeltaState.init(collective, xs[0]), xs)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_both_ends_of_a_stream_agree_bit_for_bit(dtype):
    """And the receiver is never further off than half a spike, but for the first ticks, which catch up 3 spikes each.

    |x_0| < 4.5 needs 4.5 / (3 * 0.137) = 11 ticks if the signal stands still; it moves by 0.6 at most here.
    """
    xs = ar1(60, 4, 33, rho=0.995).astype(dtype)

    def run(xs):
        xs, out = xs[:, 0], {}
        for name, move in MOVES.items():
            stream, ys = run_stream(move, xs, GRAPES)
            out[name] = stream.received, move(stream.sent), ys
        out["sent"] = stream.sent
        total = functools.partial(snap.psum, axis_name="x")
        stream, _ = run_stream(total, xs, GRAPES)
        out["psum"] = as_varying(stream.received - lax.psum(stream.sent, "x"), ("x",))
        return jax.tree.map(lambda a: a[None], out)

    out = jax.tree.map(np.asarray, on(4, run, xs, in_specs=P(None, "x")))
    for name in MOVES:
        heard, expected, ys = out[name]
        np.testing.assert_array_equal(heard, expected)
        assert ys.dtype == dtype
        np.testing.assert_array_equal(ys[:, -1], heard.astype(dtype))
    assert np.abs(np.diff(xs.astype(jnp.float32), axis=0)).max() < 0.6
    error = np.asarray(xs[-1], np.float32) - out["sent"]
    assert np.abs(error).max() <= 0.137 / 2 * (1 + 1e-5)
    assert np.abs(out["psum"]).max() < 1e-5


def test_a_closed_loop_gains_what_an_open_one_lets_add_up():
    """Errors of rounding are uniform, variance D^2 / 12; in an open loop t of them add up, (T + 1) / 2 on average.

    For T = 200: 10 log10(100.5) = 20.0 dB, at the same bits.
    """
    ticks, step = 200, 0.25
    xs = ar1(ticks, 2, 1000)
    codec = snap.Codec(snap.Count(7, threshold=step), snap.Packed())
    swap = functools.partial(snap.ppermute, axis_name="x", perm=[(0, 1), (1, 0)])

    def run(xs):
        xs = xs[:, 0]
        start = delta_stream.DeltaState(xs[0], lax.ppermute(xs[0], "x", [(0, 1), (1, 0)]))  # both know the first tensor

        def closed(stream, x):
            return delta_stream.send(swap, stream, x, codec=codec)[::-1]

        def opened(carry, x):
            before, heard = carry
            heard = heard + swap(x - before, codec=codec)
            return (x, heard), heard

        return lax.scan(closed, start, xs[1:])[1][:, None], lax.scan(opened, (xs[0], start.received), xs[1:])[1][
            :, None
        ]

    heard = on(2, run, xs, in_specs=P(None, "x"), out_specs=P(None, "x"))
    closed, opened = (np.mean((np.asarray(y) - np.asarray(xs[1:, ::-1])) ** 2) for y in heard)
    assert closed == pytest.approx(step**2 / 12, rel=0.03)
    assert 10 * np.log10(opened / closed) == pytest.approx(10 * np.log10(ticks / 2), abs=1)


def test_gradients_are_those_of_the_collective_of_the_quantised_stream():
    """Invariant 2: sending moves what a stream that talks to itself makes of `x`."""
    xs = 0.3 * ar1(3, 4, 5)

    def here(x, codec):
        return x if codec is None else codec.quantize(x)

    def run(xs):
        def loss(xs, threshold, how):
            _, ys = how(xs[:, 0], snap.Codec(snap.Count(3, threshold), snap.Packed()))
            weight = jnp.sin(jnp.arange(ys.size, dtype=jnp.float32)).reshape(ys.shape)
            return jnp.sum(jnp.tanh(ys) * weight) * (1.0 + lax.axis_index("x"))

        def oracle(xs, codec):
            return (), lax.all_gather(run_stream(here, xs, codec)[1], "x", axis=1)

        coded = functools.partial(run_stream, MOVES["all_gather"])
        both = [jax.value_and_grad(loss, (0, 1))(xs, jnp.float32(0.1), how) for how in (coded, oracle)]
        return jax.tree.map(lambda a: as_varying(a, ("x",))[None], both)

    coded, plain = on(4, run, xs, in_specs=P(None, "x"))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), coded, plain)
    assert np.abs(coded[1][0]).max() > 0.1
    assert np.abs(coded[1][1]).max() > 0.1


def test_a_nan_stays_at_every_receiver_until_a_key_frame():
    xs = jnp.ones((4, 2, 3)).at[1, 0, 2].set(jnp.nan)
    gather, codec = MOVES["all_gather"], snap.Codec(snap.Ternary(1.0), snap.Packed())

    def run(xs):
        stream, ys = delta_stream.DeltaState.init(gather, xs[0, 0]), []
        for x, c in zip(xs[:, 0], (codec, codec, codec, None), strict=True):
            y, stream = delta_stream.send(gather, stream, x, codec=c)
            ys.append(y)
        y, stream = delta_stream.send(gather, stream, 2 * xs[3, 0], codec=codec)
        return jnp.stack([*ys, y])[None]

    ys = np.asarray(on(2, run, xs, in_specs=P(None, "x")))  # receiver, tick, sender, element
    np.testing.assert_array_equal(ys[:, 0], 1)
    assert np.isnan(ys[:, 1:3, 0]).all()  # the whole tensor of who sent it
    np.testing.assert_array_equal(ys[:, :, 1], [[[1] * 3] * 4 + [[2] * 3]] * 2)  # and of nobody else
    np.testing.assert_array_equal(ys[:, 3], 1)
    np.testing.assert_array_equal(ys[:, 4], 2)
