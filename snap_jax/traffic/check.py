"""`assert_no_float_collectives`: fail if a float tensor crosses between devices where a coded one was asked for."""

import fnmatch
import math
import textwrap
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from snap_jax.errors import UsageError
from snap_jax.traffic.hlo import compiled_traffic
from snap_jax.traffic.jaxpr import lowerable, traffic_of
from snap_jax.traffic.program_mesh import mesh_of_program
from snap_jax.traffic.program_text import names_in_cache_key
from snap_jax.traffic.text import table
from snap_jax.traffic.transfer import Transfer

_FLOATS = ("float", "bfloat", "complex")
_BOTH = ("forward", "backward")


class FloatCollectiveError(AssertionError):
    """A float tensor crosses between devices uncoded, or nothing crosses at all."""


def assert_no_float_collectives(
    fn: Callable[..., Any], *args: Any, directions: Sequence[str] = _BOTH, allow: str | Sequence[str] = ()
) -> None:
    """Raise unless everything that `fn(*args)` moves between devices is coded.

    Reads the program as written and as compiled for this backend, with every branch of every `cond`; runs nothing.
    Scalars (rank 0: a loss, a metric) may cross as floats. The error lists what is left:

        op            over   operand         bytes x times  direction  path    fix
        psum_scatter  x (4)  float32[8,512]     16,384 x 6  backward   net/up  give the all_gather grad_codec=

    Args:
      fn: the function that calls `shard_map`, jitted or not, for example a training step.
      *args: its arguments; only shapes and dtypes matter.
      directions: passes to check; `("forward",)` lets the gradients cross as floats.
      allow: one or several names of ops, such as "psum", and patterns of `jax.named_scope` paths, such as "head/*",
        that may cross as floats (`fnmatch` syntax).

    Raises:
      FloatCollectiveError: a float tensor crosses, or no tensor crosses in these directions.
      UsageError: an unknown direction; otherwise as `collective_traffic` and `compiled_traffic`.

    >>> import jax
    >>> assert_no_float_collectives(lambda v: v + 1, jax.numpy.ones(8))
    Traceback (most recent call last):
    snap_jax.traffic.check.FloatCollectiveError: assert_no_float_collectives(<lambda>): nothing but scalars...
    """
    if unknown := [d for d in directions if d not in _BOTH]:
        raise UsageError(
            f"assert_no_float_collectives: directions={directions!r} holds {unknown}: use 'forward' and 'backward'"
        )
    allow = (allow,) if isinstance(allow, str) else allow
    asked, sent = _tensors(fn, args, directions)
    name = getattr(fn, "__name__", repr(fn))
    if not asked and not sent:
        raise FloatCollectiveError(
            f"assert_no_float_collectives({name}): nothing but scalars crosses between devices "
            f"{' or '.join(directions)}: "
            "pass the function that calls shard_map, on a mesh axis of two devices or more; "
            "a collective whose result is not used does not count"
        )
    floats = [[t for t in part if t.dtype.startswith(_FLOATS) and not _allowed(t, allow)] for part in (asked, sent)]
    if any(floats):
        raise FloatCollectiveError(_message(name, *floats))


def _allowed(t: Transfer, allow: Sequence[str]) -> bool:
    return any(pattern == t.op or fnmatch.fnmatchcase(t.path, pattern) for pattern in allow)


def _tensors(
    fn: Callable[..., Any], args: Iterable[Any], directions: Sequence[str]
) -> tuple[list[Transfer], list[Transfer]]:
    """Return what crosses besides scalars: as the program asks, and as the compiled program sends."""
    traced = lowerable(fn).trace(*args)
    with names_in_cache_key():
        compiled = traced.lower().compile()
        programs = traffic_of(traced.jaxpr), compiled_traffic(compiled, mesh_of_program(traced.jaxpr, compiled))
    asked, sent = ([t for t in p.possible() if t.direction in directions] for p in programs)
    scalars = {(t.op, t.group_size) for t in asked if not t.shape}
    return [t for t in asked if t.shape], [t for t in sent if not _is_scalar(t, scalars)]


def _is_scalar(t: Transfer, scalars: Collection[tuple[str, int]]) -> bool:
    """Return whether it is a scalar; the compiler may send one as an array of one element."""
    return not t.shape or (math.prod(t.shape) == 1 and (t.op, t.group_size) in scalars)


def _message(name: str, asked: list[Transfer], sent: list[Transfer]) -> str:
    parts = [f"assert_no_float_collectives({name}): float tensors cross between devices uncoded."]
    if asked:
        parts += ["The program asks for", _table((*_HEAD, "fix"), [(*_row(t), _fix(t)) for t in asked])]
    if any(_fix(t) == _SUM_FIX for t in asked):
        parts += [_REPLICATED]
    if sent:
        heading = "and on this backend it sends" if asked else _COMPILER
        parts += [heading, _table(_HEAD, [_row(t) for t in sent])]
    return "\n".join(parts)


_HEAD = ("op", "over", "operand", "bytes x times", "direction", "path")
_COMPILER = (
    "The program asks for none: the compiler widened a type, or added collectives for arrays that it divides itself "
    "(Auto and Explicit mesh axes). Make every mesh axis manual, with in_specs of shard_map that say how arrays lie, "
    "or run the block that needs them with snap.island. It sends"
)
_SHOWN = 20
_CODED = ("all_gather", "psum", "psum_scatter", "all_to_all", "ppermute")
# Op of the backward pass -> the op whose gradient it is.
_TRANSPOSED = {
    "all_gather": "psum_scatter",
    "psum_scatter": "all_gather",
    "all_to_all": "all_to_all",
    "ppermute": "ppermute",
}
_SUM_FIX = "see below"
_REPLICATED = (
    "A psum in the backward pass sums the gradient of a value that is the same on all devices, such as replicated "
    "parameters (in_specs=P()). To code it, take the gradient inside shard_map with respect to "
    "jax.lax.pcast(params, axis, to='varying'), then reduce it with snap.psum(..., codec=) or snap.error_feedback. "
    'To let it cross as floats: allow=("psum",).'
)


def _row(t: Transfer) -> tuple[str, ...]:
    operand = f"{t.dtype}[{','.join(map(str, t.shape))}]"
    over = f"{','.join(t.axes)} ({t.group_size})".strip()
    return t.op, over, operand, f"{t.bytes:,} x {t.times}", t.direction, t.path


def _fix(t: Transfer) -> str:
    # A collective that remat runs again in the backward pass is a forward one.
    if t.direction == "forward" or "rematted_computation" in t.path:
        return "give it codec=" if t.op in _CODED else 'no codec for it: allow=("' + t.op + '",)'
    return f"give the {_TRANSPOSED[t.op]} grad_codec=" if t.op in _TRANSPOSED else _SUM_FIX


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    text = table([head, *rows[:_SHOWN]], right=(_HEAD.index("bytes x times"),))
    hidden = [f"... and {len(rows) - _SHOWN} more"] if len(rows) > _SHOWN else []
    return textwrap.indent("\n".join([text, *hidden]), "  ")
