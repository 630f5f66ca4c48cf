"""Loops and branches: what the jaxpr says of how often a collective runs."""

import jax
import pytest
from jax import lax

from snap_jax.errors import UsageError
from snap_jax.traffic.jaxpr import collective_traffic
from tests.support.jaxpr_programs import ROW, X, gathered, sharded, shifted, switch


def test_scans_multiply():
    def f(v):
        inner = lambda c, _: (gathered(c), None)
        outer = lambda c, _: (lax.scan(inner, shifted(c), None, length=3)[0], None)
        return lax.scan(outer, v, None, length=5)[0]

    assert [(t.op, t.times) for t in collective_traffic(sharded(f))(X)] == [("ppermute", 5), ("all_gather", 15)]


def test_static_fori_loop_multiplies():
    [t] = collective_traffic(sharded(lambda v: lax.fori_loop(2, 9, lambda i, c: shifted(c), v)))(X)
    assert t.times == 7


@pytest.mark.parametrize(("limit", "step", "rounds"), [(5, 1, 5), (5, 2, 3), (6, 2, 3), (1, 1, 1)])
def test_while_that_counts_to_a_literal(limit, step, rounds):
    f = lambda v: lax.while_loop(lambda c: c[0] < limit, lambda c: (c[0] + step, shifted(c[1])), (0, v))[1]
    [t] = collective_traffic(sharded(f))(X)
    assert t.times == rounds


def test_while_that_never_turns():
    f = lambda v: lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, shifted(c[1])), (3, v))[1]
    assert not collective_traffic(sharded(f))(X)


@pytest.mark.parametrize(
    ("name", "condition", "update"),
    [
        ("limit from data", lambda c: c[0] < c[1].sum(), lambda c: (c[0] + 1, shifted(c[1]))),
        (
            "step from data",
            lambda c: c[0] < 5,
            lambda c: (c[0] + 1 + (lax.pmax(c[1].sum(), ("y", "x")) > 0), c[1] + 1),
        ),
        ("no counter", lambda c: lax.pmax(c[1].sum(), ("y", "x")) < 5, lambda c: (c[0], c[1] + 1)),
        ("another comparison", lambda c: c[0] <= 5, lambda c: (c[0] + 1, shifted(c[1]))),
        ("doubles", lambda c: c[0] < 5, lambda c: (c[0] * 2, shifted(c[1]))),
        ("counts down", lambda c: c[0] < 5, lambda c: (c[0] + -1, shifted(c[1]))),
    ],
)
def test_while_of_unknown_length_raises(name, condition, update):
    def f(v):
        with jax.named_scope("decode"):
            return lax.while_loop(condition, update, (0, v))[1]

    with pytest.raises(UsageError, match=r"while loop at 'decode' holds collectives .*use lax\.scan"):
        collective_traffic(sharded(f))(X)


def test_while_of_unknown_length_without_collectives_is_fine():
    f = lambda v: shifted(lax.while_loop(lambda c: c.sum() < 50, lambda c: c * 2, v))
    assert len(collective_traffic(sharded(f))(X)) == 1


def test_switch_counts_the_costliest_branch_and_reports_all():
    traffic = collective_traffic(sharded(switch))(X)
    assert [t.op for t in traffic] == ["pmax", "all_gather"]
    [choice] = traffic.choices
    assert [b.sent_bytes for b in choice.branches] == [2 * 4 * ROW, 2 * 12 * ROW, 0]
    assert (choice.path, choice.counted) == ("ladder", 1)
    pmax_of_4_bytes = 2 * 7 * 4
    assert traffic.sent_bytes == pmax_of_4_bytes + 2 * 12 * ROW
    assert traffic.least_sent_bytes == pmax_of_4_bytes
    assert sorted(t.op for t in traffic.possible()) == ["all_gather", "pmax", "ppermute"]


def test_cond_in_cond_in_scan():
    def f(v):
        deep = lambda u: lax.cond(lax.pmax(u.sum(), ("y", "x")) > 1, gathered, shifted, u)
        step = lambda c, _: (lax.cond(lax.pmax(c.sum(), ("y", "x")) > 0, deep, lambda u: u, c), None)
        return lax.scan(step, v, None, length=5)[0]

    traffic = collective_traffic(sharded(f))(X)
    one_pmax = 2 * 7 * 4
    assert traffic.sent_bytes == 5 * (one_pmax + one_pmax + 2 * 12 * ROW)
    assert traffic.least_sent_bytes == 5 * one_pmax
    [outer] = traffic.choices
    [inner] = outer.branches[outer.counted].choices
    assert {t.op for t in inner.branches[0]} | {t.op for t in inner.branches[1]} == {"all_gather", "ppermute"}
    assert sorted(t.op for t in traffic.possible()) == ["all_gather", "pmax", "pmax", "ppermute"]


def test_cond_without_collectives_is_no_choice():
    f = lambda v: shifted(lax.cond(lax.axis_index("x") > 0, lambda u: u + 1, lambda u: u, v))
    assert collective_traffic(sharded(f))(X).choices == ()
