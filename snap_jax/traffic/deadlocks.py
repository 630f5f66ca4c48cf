"""`assert_no_deadlocks`: fail if some devices reach a collective that others of their group do not."""

import textwrap
from collections.abc import Callable
from typing import Any

from jax.interpreters import partial_eval

from snap_jax.traffic.jaxpr import lowerable
from snap_jax.traffic.text import table
from snap_jax.traffic.trip_count import open_jaxpr
from snap_jax.traffic.varying import Divergence, divergences

_HEAD = ("op", "over", "direction", "path", "inside", "decided by a value that differs over")
_FIX = (
    "Run the collective on every device and select its result with jnp.where, or make the decision the same on all "
    "devices, for example with lax.pmax over that axis."
)
_REPLICATED = (
    "A psum in the backward pass sums the gradient of a value that is the same on all devices, such as replicated "
    "parameters: give the branch jax.lax.pcast(params, axis, to='varying') from outside, and the sum moves there."
)


class DeadlockError(AssertionError):
    """Devices would wait for each other forever."""


def assert_no_deadlocks(fn: Callable[..., Any], *args: Any) -> None:
    """Raise if devices of one group may disagree on whether a collective of `fn(*args)` runs, or how often.

    Every device of a group must reach a collective, or those that do wait forever. So none may stand inside a
    `lax.cond` or `lax.switch` whose branch, or a `lax.while_loop` whose number of rounds, depends on a value that
    differs over its axes. What differs is read from the program, forward and backward, with `check_vma` on or off;
    nothing runs. Collectives that the compiler adds outside `shard_map` are not seen.

    Args:
      fn: the function that calls `shard_map`, jitted or not, for example a training step.
      *args: its arguments; only shapes and dtypes matter.

    Raises:
      DeadlockError: listing each such collective, what it stands in, and the fix.

    >>> from jax.sharding import PartitionSpec as P
    >>> def receive(v):  # only the devices that receive something take part
    ...     ring = lambda u: jax.lax.ppermute(u, "x", [(0, 1)])
    ...     return jax.lax.cond(jax.lax.axis_index("x") > 0, ring, lambda u: u, v)
    >>> mesh = jax.sharding.AbstractMesh((2,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    >>> step = jax.shard_map(receive, mesh=mesh, in_specs=P("x"), out_specs=P("x"))
    >>> assert_no_deadlocks(step, jax.numpy.ones(8))
    Traceback (most recent call last):
    snap_jax.traffic.deadlocks.DeadlockError: assert_no_deadlocks(receive): devices of one group disagree on ...
    """
    alive, _ = partial_eval.dce_jaxpr(open_jaxpr(lowerable(fn).trace(*args).jaxpr), True)
    if found := divergences(alive):
        name = getattr(fn, "__name__", repr(fn))
        rows = [_HEAD, *dict.fromkeys(map(_row, found))]
        lines = [
            f"assert_no_deadlocks({name}): devices of one group disagree on whether these collectives run:",
            textwrap.indent(table(rows), "  "),
            _FIX,
        ]
        lines += [_REPLICATED] if any(d.op == "psum" and d.direction == "backward" for d in found) else []
        raise DeadlockError("\n".join(lines))


def _row(d: Divergence) -> tuple[str, ...]:
    inside = f"{d.control} at {d.control_path!r}" if d.control_path else d.control
    return d.op, ",".join(d.axes), d.direction, d.path, inside, ",".join(d.over)
