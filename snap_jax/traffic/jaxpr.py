"""What a program asks to move: the collectives of its jaxpr, forward and backward.

Every collective is counted, or `collective_traffic` raises; nothing that names a mesh axis is skipped (invariant 4).

It sees what code inside `shard_map` asks for. It does not see what the compiler adds for arrays sharded outside
`shard_map` (`compiled_traffic` does), nor remote copies inside Pallas kernels. Collectives whose result is not used are
left out, as JAX leaves them out. In a partly manual `shard_map`, an operand that Auto axes divide further counts whole.
"""

import dataclasses
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.core import Tracer
from jax.extend import core
from jax.interpreters import partial_eval

from snap_jax.errors import UsageError
from snap_jax.traffic.branch_choice import choose
from snap_jax.traffic.name_stack import scope
from snap_jax.traffic.primitives import FREE, OPS, At, as_tuple, transfers
from snap_jax.traffic.program_mesh import meshes
from snap_jax.traffic.stage_occupancy import StageSchedule
from snap_jax.traffic.transfer import Traffic, join
from snap_jax.traffic.trip_count import open_jaxpr, trip_count

# Primitives that run each jaxpr they hold exactly once.
_ONCE = {
    "jit",
    "closed_call",
    "call",
    "eval_jaxpr",
    "remat2",
    "custom_jvp_call",
    "custom_vjp_call",
    "composite",
}


def collective_traffic(fn: Callable[..., Any], *, schedule: StageSchedule | None = None) -> Callable[..., Traffic]:
    """Return a function of the same arguments that returns what `fn` asks to move between devices.

    `fn` may be jitted, contain `shard_map`, or be a gradient; it is traced, not run. Arguments are arrays, or anything
    static where `fn` is already jitted with static arguments.

    Args:
      fn: the program.
      schedule: of the pipeline in it, which tells how often each stage works. Without, what only some stages run counts
        in all ticks and for all stages, and of branches that differ between stages the one that sends most counts.

    Warns:
      UserWarning: arguments are divided over devices and there is no `shard_map`: what the compiler adds is not seen.

    Raises:
      UsageError: a collective whose bytes only the run decides (in a `while` without a trip count, or
        ragged); an unknown primitive that names a mesh axis or holds a collective.

    >>> mesh = jax.sharding.AbstractMesh((2,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    >>> spec = jax.sharding.PartitionSpec("x")
    >>> shift = lambda v: jax.lax.ppermute(v, "x", [(0, 1), (1, 0)])
    >>> step = jax.shard_map(shift, mesh=mesh, in_specs=spec, out_specs=spec)
    >>> traffic = collective_traffic(step)(jax.numpy.ones(8))
    >>> traffic[0].bytes, traffic.sent_bytes
    (16, 32)
    """

    def traced(*args: Any, **kwargs: Any) -> Traffic:
        jaxpr = lowerable(fn).trace(*args, **kwargs).jaxpr
        if any(map(_is_divided, jax.tree.leaves((args, kwargs)))) and not any(True for _ in meshes(jaxpr)):
            warnings.warn(_UNSEEN, UserWarning, stacklevel=2)
        return traffic_of(jaxpr, schedule)

    return traced


_UNSEEN = (
    "collective_traffic: the program has no shard_map, and its arguments are divided over devices. The compiler may "
    "add collectives, which compiled_traffic(jitted.lower(...).compile(), mesh) counts; snap.island replaces them"
)


def _is_divided(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and not isinstance(leaf, Tracer) and not leaf.is_fully_replicated


def lowerable(fn: Callable[..., Any]) -> jax.stages.Wrapped:
    """Return `fn` jitted, or `fn` itself if it already is, so that its static arguments and shardings hold."""
    return fn if isinstance(fn, jax.stages.Wrapped) else jax.jit(fn)


def traffic_of(jaxpr: Any, schedule: StageSchedule | None = None) -> Traffic:
    """Return what a jaxpr, open or closed, asks to move."""
    alive, _ = partial_eval.dce_jaxpr(open_jaxpr(jaxpr), True)
    return _walk(alive, At({}, schedule=schedule))


def _walk(jaxpr: Any, at: At) -> Traffic:
    return join(_visit(eqn, at.under(eqn)) for eqn in open_jaxpr(jaxpr).eqns)


def _visit(eqn: core.JaxprEqn, at: At) -> Traffic:
    name = eqn.primitive.name
    if name.removesuffix("_start") in OPS:
        return Traffic(tuple(transfers(eqn, at)))
    match name:
        case "while":
            return _while(eqn, at)
        case "cond":
            branches = [_walk(branch, at) for branch in eqn.params["branches"]]
            return join(branches) if at.branches_by_stage else choose(scope(at.stack), branches)
        case "scan":
            at = at.repeated(eqn.params["length"])
        case "shard_map":
            at = dataclasses.replace(at, sizes=dict(eqn.params["mesh"].shape))
    inner = join(_walk(held, at) for held in _held(eqn))
    if name not in _ONCE | FREE | {"scan", "shard_map"}:
        _refuse_unknown(eqn, at, inner)
    return inner


def _held(eqn: core.JaxprEqn) -> Iterator[Any]:
    """Yield the jaxprs among the parameters of an equation."""
    for value in eqn.params.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            if isinstance(one, core.Jaxpr | core.ClosedJaxpr):
                yield one


def _while(eqn: core.JaxprEqn, at: At) -> Traffic:
    rounds = trip_count(eqn)
    if rounds is not None:
        # The condition of such a loop is one comparison; nothing uses whatever else it computes.
        return _walk(eqn.params["body_jaxpr"], at.repeated(rounds))
    if inner := join(_walk(held, at) for held in _held(eqn)):
        raise UsageError(
            f"collective_traffic: a while loop {at} holds collectives {sorted({t.op for t in inner})} and only the run "
            "decides how often it runs: use lax.scan or lax.fori_loop with static bounds, or trace its body "
            "alone"
        )
    return Traffic()


def _refuse_unknown(eqn: core.JaxprEqn, at: At, inner: Traffic) -> None:
    name = eqn.primitive.name
    named = (eqn.params.get(key) for key in ("axes", "axis", "axis_name", "axis_names"))
    axes = [a for value in named for a in as_tuple(value) if a in at.sizes]
    if name == "ragged_all_to_all":
        raise UsageError(
            f"collective_traffic: ragged_all_to_all {at} moves as many bytes as the run decides: "
            "pad to a fixed size and use lax.all_to_all"
        )
    if axes or inner:
        why = f"names mesh axes {axes}" if axes else f"holds collectives {sorted({t.op for t in inner})}"
        raise UsageError(
            f"collective_traffic: primitive {name!r} {at} {why}, and what it moves is not known here: "
            "leave it out of fn, or read the compiled program with compiled_traffic"
        )
