"""Law 4 as an assertion: where a coded collective was asked for, no float may cross uncoded."""

import math
import textwrap
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from snap_jax.errors import UsageError
from snap_jax.traffic.hlo import compiled_traffic
from snap_jax.traffic.jaxpr import lowerable, traffic_of
from snap_jax.traffic.text import table
from snap_jax.traffic.transfer import Transfer

_FLOATS = ("float", "bfloat", "complex")
_BOTH = ("forward", "backward")


class FloatCollectiveError(AssertionError):
    """A float tensor crosses between devices uncoded, or nothing crosses at all."""


def assert_no_float_collectives(fn: Callable[..., Any], *args: Any, directions: Sequence[str] = _BOTH) -> None:
    """Raise unless all that `fn(*args)` moves between devices is coded.

    Reads the program as written and as compiled for this backend, every branch of every `cond`; runs nothing.
    Scalars (rank 0: a loss, a metric) may cross as floats; with `directions=("forward",)` gradients too.
    The error lists what is left:

        op    over   operand         bytes x times  direction  path    fix
        psum  x (4)  float32[8,512]     16,384 x 6  backward   net/up  give it grad_codec=

    Raises:
      FloatCollectiveError: a float tensor crosses, or no tensor crosses in these directions.
      UsageError: as `collective_traffic` and `compiled_traffic`.

    >>> import jax
    >>> assert_no_float_collectives(lambda v: v + 1, jax.numpy.ones(8))
    Traceback (most recent call last):
    snap_jax.traffic.check.FloatCollectiveError: assert_no_float_collectives(<lambda>): nothing but scalars...
    """
    if unknown := [d for d in directions if d not in _BOTH]:
        raise UsageError(
            f"assert_no_float_collectives: directions={directions!r} holds {unknown}: use 'forward' and 'backward'"
        )
    asked, sent = _tensors(fn, args, directions)
    name = getattr(fn, "__name__", repr(fn))
    if not asked and not sent:
        raise FloatCollectiveError(
            f"assert_no_float_collectives({name}): nothing but scalars crosses between devices "
            f"{' or '.join(directions)}: "
            "pass the function that calls shard_map, on a mesh axis of two devices or more; "
            "a collective whose result nobody uses does not count"
        )
    floats = [[t for t in part if t.dtype.startswith(_FLOATS)] for part in (asked, sent)]
    if any(floats):
        raise FloatCollectiveError(_message(name, *floats))


def _tensors(
    fn: Callable[..., Any], args: Iterable[Any], directions: Sequence[str]
) -> tuple[list[Transfer], list[Transfer]]:
    """List what crosses besides scalars: as the program asks, and as the compiled program sends."""
    traced = lowerable(fn).trace(*args)
    programs = traffic_of(traced.jaxpr), compiled_traffic(traced.lower().compile())
    asked, sent = ([t for t in p.possible() if t.direction in directions] for p in programs)
    scalars = {(t.op, t.group_size) for t in asked if not t.shape}
    return [t for t in asked if t.shape], [t for t in sent if not _is_scalar(t, scalars)]


def _is_scalar(t: Transfer, scalars: Collection[tuple[str, int]]) -> bool:
    """Recognise a scalar that the compiler sends as an array of one element: the program has one like it."""
    return not t.shape or (math.prod(t.shape) == 1 and (t.op, t.group_size) in scalars)


def _message(name: str, asked: list[Transfer], sent: list[Transfer]) -> str:
    parts = [f"assert_no_float_collectives({name}): float tensors cross between devices uncoded."]
    if asked:
        parts += ["The program asks for", _table((*_HEAD, "fix"), [(*_row(t), _fix(t)) for t in asked])]
    if sent:
        heading = "and on this backend it sends" if asked else _COMPILER
        parts += [heading, _table(_HEAD, [_row(t) for t in sent])]
    return "\n".join(parts)


_HEAD = ("op", "over", "operand", "bytes x times", "direction", "path")
_COMPILER = (
    "The program asks for none: the compiler widened a type, or added collectives for arrays sharded outside "
    "shard_map. Code to integers of another type, or move that computation into shard_map. It sends"
)
_SHOWN = 20


def _row(t: Transfer) -> tuple[str, ...]:
    operand = f"{t.dtype}[{','.join(map(str, t.shape))}]"
    over = f"{','.join(t.axes)} ({t.group_size})".strip()
    return t.op, over, operand, f"{t.bytes:,} x {t.times}", t.direction, t.path


def _fix(t: Transfer) -> str:
    # What remat runs again in the backward pass is a forward collective still.
    again = "rematted_computation" in t.path
    return "give it grad_codec=" if t.direction == "backward" and not again else "give it codec="


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    text = table([head, *rows[:_SHOWN]], right=(_HEAD.index("bytes x times"),))
    hidden = [f"... and {len(rows) - _SHOWN} more"] if len(rows) > _SHOWN else []
    return textwrap.indent("\n".join([text, *hidden]), "  ")
