"""A `while` is counted as often as it runs, or refused: counters of every integer dtype, floats, and wrapping ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from snap_jax.errors import UsageError
from snap_jax.traffic.count_operations import count
from snap_jax.traffic.hlo import compiled_traffic
from snap_jax.traffic.jaxpr import collective_traffic
from tests.support.hlo_text import module
from tests.support.jaxpr_programs import X, sharded, shifted

INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32)]


def loop(body, dtype, start, limit, step):
    first, last, by = (np.dtype(dtype).type(n) for n in (start, limit, step))
    return lambda x: lax.while_loop(lambda c: c[0] < last, lambda c: (c[0] + by, body(c[1])), (first, x))[1]


def rounds(dtype, start, limit, step, most=1000):
    """How often such a loop runs, counted by running it in numpy; None for more than `most`."""
    counter, last, by = (np.asarray([n], dtype) for n in (start, limit, step))
    for done in range(most):
        if not counter[0] < last[0]:
            return done
        counter = counter + by  # arrays wrap around without a warning
    return None


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("numbers", [(0, 7, 1), (0, 7, 3), (5, 100, 9), (7, 7, 1), (9, 7, 1), (1, 126, 1), (0, 127, 1)])
def test_integer_counters_are_counted(dtype, numbers):
    expected = rounds(dtype, *numbers)
    assert sum(t.times for t in collective_traffic(sharded(loop(shifted, dtype, *numbers)))(X)) == expected
    product = loop(lambda v: v @ v, dtype, *numbers)
    assert count(product)(jnp.ones((4, 4))).times("mac") == expected * 4**3


@pytest.mark.parametrize(
    ("dtype", "numbers"),
    [
        ("int8", (0, 127, 3)),  # 126 + 3 wraps to -127: 213 rounds
        ("int8", (-128, 127, 100)),
        ("uint8", (0, 255, 2)),  # 254 + 2 is 0 again: it never ends
        ("int16", (0, 2**15 - 1, 4)),
        ("int32", (0, 2**31 - 1, 2**30)),
        ("float32", (0, 1, 0.001)),  # rounded at each step: 1001 rounds
        ("float32", (0, 3, 0.3)),  # 11 rounds
        ("float16", (0, 4000, 1)),  # 2048 + 1 is 2048: it never ends
    ],
)
def test_counters_that_wrap_or_round_are_refused(dtype, numbers):
    first, last, step = (float(n) for n in numbers)
    assert rounds(dtype, *numbers) != np.ceil((last - first) / step)  # what a formula would say
    with pytest.raises(UsageError, match="only the run decides"):
        collective_traffic(sharded(loop(shifted, dtype, *numbers)))(X)
    with pytest.raises(UsageError, match="only the run decides"):
        count(loop(lambda v: v @ v, dtype, *numbers))(jnp.ones((4, 4)))


def test_compiled_loops_agree_where_they_are_counted():
    program = jax.jit(sharded(loop(shifted, "uint8", 0, 250, 10))).lower(X).compile()
    assert sum(t.times for t in compiled_traffic(program)) == 25


@pytest.mark.parametrize(("kind", "refused"), [("s8", True), ("u8", False), ("s32", False)])
def test_compiled_loops_whose_counter_wraps_are_refused(kind, refused):
    """XLA divides 127 by 3 and says 43 rounds; in int8 the loop takes 213."""
    entry = f"""
      %t = (f32[2,16]{{1,0}}, /*index=1*/{kind}[]) parameter(0)
      ROOT %w = (f32[2,16]{{1,0}}, /*index=1*/{kind}[]) while(%t), condition=%none, body=%body, backend_config={{
        "known_induction_variable":{{"tuple_index":"1"}},"known_init_step":{{"init":"0","step":"3"}},
        "known_trip_count":{{"n":"43"}}}}
    """.replace("={\n        ", "={").replace(",\n        ", ",")
    text = module(entry, BODY)
    if refused:
        with pytest.raises(UsageError, match="only the run decides"):
            compiled_traffic(text)
    else:
        assert [t.times for t in compiled_traffic(text)] == [43]


BODY = """
%none (v: f32[2,16]) -> f32[2,16] {
  ROOT %v = f32[2,16]{1,0} parameter(0)
}
%body (v: f32[2,16]) -> f32[2,16] {
  %v = f32[2,16]{1,0} parameter(0)
  ROOT %w = f32[2,16]{1,0} collective-permute(%v), source_target_pairs={{0,1}}
}
"""
