"""Delays of messages, on a clock that only sleeping and the test move."""

import doctest

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

from benchmarks.linklab import latency
from snap_jax.parallel.mesh import auto_mesh


class Clock:
    """A clock that stands still but when somebody sleeps."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def _receiver(bits_per_second, latency_s):
    clock = Clock()
    return latency.Receiver(bits_per_second, latency_s, clock, clock.sleep), clock


def test_example_in_docstring():
    assert doctest.testmod(latency).failed == 0


def test_messages_queue_and_an_idle_link_starts_anew():
    """1000 bits/s, 0.25 s: 125 bytes take 1.25 s. Two sent at once end at 2.5 s; one sent at 10 s ends at 11.25 s."""
    link, clock = _receiver(1000.0, 0.25)
    link.sent()
    link.wait(125)
    assert clock.now == pytest.approx(101.25)
    link.wait(125)  # sent at the same time as the first: it waits for it
    assert clock.now == pytest.approx(102.5)
    clock.now = 110.0
    link.sent()
    link.wait(125)
    assert clock.now == pytest.approx(111.25)


def test_what_took_longer_in_fact_is_not_delayed():
    link, clock = _receiver(None, 0.5)
    link.sent()
    clock.now += 0.2
    link.wait(10**9, messages=3)  # 1.5 s in all, 0.2 s of which are over
    assert clock.now == pytest.approx(101.5)
    link.sent()
    clock.now += 9.0
    link.wait(1)
    assert clock.now == pytest.approx(110.5)


def test_a_compiled_collective_is_delayed_and_has_the_same_result():
    """One device: each of two calls waits for 3 latencies of 2 s, 6 s; -0.0 stays -0.0."""
    link, clock = _receiver(None, 2.0)
    gather = lambda x: lax.all_gather(x, "x", tiled=True)
    mesh, x = auto_mesh({"x": 1}), jnp.array([1.0, -0.0, 3.0])
    on = lambda f: jax.jit(jax.shard_map(f, mesh=mesh, in_specs=P("x"), out_specs=P("x")))
    late = on(latency.delayed(gather, link, 0.0, messages=3))
    for calls in (1, 2):
        y = jax.block_until_ready(late(x))
        assert clock.now == pytest.approx(100.0 + 6.0 * calls)
    assert y.tobytes() == on(gather)(x).tobytes()
