"""How often the body of a `while` in a jaxpr runs, if the jaxpr says so."""

from typing import Any

import jax.numpy as jnp
from jax.extend import core


def open_jaxpr(jaxpr: Any) -> core.Jaxpr:
    """Return an open jaxpr; before jax 0.11 a `ClosedJaxpr` holds it, later the two are one class."""
    return getattr(jaxpr, "jaxpr", jaxpr)


def trip_count(eqn: core.JaxprEqn) -> int | None:
    """Return how often `while i < limit: i = i + step` runs, all three literal integers; None for any other loop.

    None also for a counter that would pass the largest number of its dtype: it wraps around, and the loop goes on. A
    counter of floats is rounded at every step, so that only the run decides.
    """
    condition, body = open_jaxpr(eqn.params["cond_jaxpr"]), open_jaxpr(eqn.params["body_jaxpr"])
    skipped = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    before, after = condition.invars[skipped[0] :], body.invars[skipped[1] :]
    test = _definition(condition, condition.outvars[0], "lt")
    if test is None or test.invars[0] not in before:
        return None
    counter = before.index(test.invars[0])
    update = _definition(body, body.outvars[counter], "add")
    if update is None or after[counter] not in update.invars:
        return None
    step = update.invars[1 - update.invars.index(after[counter])]
    return _rounds(eqn.invars[sum(skipped) + counter], test.invars[1], step)


def _definition(jaxpr: core.Jaxpr, variable: Any, primitive: str) -> core.JaxprEqn | None:
    found = (e for e in jaxpr.eqns if variable in e.outvars and e.primitive.name == primitive)
    return next(found, None)


def _rounds(*literals: Any) -> int | None:
    if not all(isinstance(v, core.Literal) for v in literals):
        return None
    dtype = literals[0].aval.dtype
    if not jnp.issubdtype(dtype, jnp.integer):
        return None
    start, limit, step = (int(v.val) for v in literals)
    if step <= 0:
        return None
    rounds = max(0, -(-(limit - start) // step))
    largest = jnp.iinfo(dtype).max
    return rounds if start + rounds * step <= largest else None
