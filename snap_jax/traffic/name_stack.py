"""Read name stacks: `transpose(jvp(net))/up` is the scope `net/up` in the backward pass.

JAX wraps the next scope in the name of each transformation; HLO metadata adds the names of calls and loops.
"""

from snap_jax.traffic.text import split
from snap_jax.traffic.transfer import Direction

_TRANSFORMS = ("jvp", "transpose", "vmap")
# Lowering adds these names to `op_name`; a user's scope of the same name is lost from HLO paths only.
_CALLS = (
    "shard_map",
    "closed_call",
    "eval_jaxpr",
    "checkpoint",
    "custom_jvp_call",
    "custom_vjp_call",
    "while",
    "cond",
)


def scope(name_stack: str) -> str:
    """Return the `jax.named_scope` path in a name stack.

    >>> scope("transpose(jvp(net))/up")
    'net/up'
    """
    return "/".join(scopes(name_stack))


def scopes(name_stack: str) -> list[str]:
    """Return the same as a list.

    >>> scopes("jvp()/net/up")
    ['net', 'up']
    """
    return list(filter(None, map(_unwrapped, split(name_stack, "/"))))


def op_scope(op_name: str) -> str:
    """Return the `jax.named_scope` path in the `op_name` of HLO metadata, without the primitive at its end.

    >>> op_scope("jit(f)/jvp(net)/shard_map/while/body/closed_call/up/all_gather")
    'net/up'
    """
    return "/".join(op_scopes(op_name))


def op_scopes(op_name: str) -> list[str]:
    """Return the same as a list.

    >>> op_scopes("jit(f)/net/cond/branch_0_fun/up/all_gather")
    ['net', 'up']
    """
    parts = [_unwrapped(p) for p in split(op_name, "/")]
    kept = [part for before, part in zip(["", *parts], parts[:-1], strict=False) if not _is_call(part, before)]
    return list(filter(None, kept))


def each_name(op_name: str, count: int) -> list[str]:
    """Return the `op_name` of each of `count` operands; XLA joins the names of collectives that it combines.

    >>> each_name("jit(f)/shard_map/(gradients/psum:psum)", 2)
    ['jit(f)/shard_map/gradients/psum', 'jit(f)/shard_map/psum']
    >>> each_name("jit(f)/net/psum", 2)
    ['jit(f)/net/psum', 'jit(f)/net/psum']
    """
    *before, last = split(op_name, "/")
    joined = split(last[1:-1], ":") if last.startswith("(") and last.endswith(")") else []
    if len(joined) != count:
        return [op_name] * count
    return ["/".join([*before, name]) for name in joined]


def direction(name_stack: str) -> Direction:
    """Return "backward" if the operation comes from transposing a derivative, else "forward".

    >>> direction("transpose(jvp(net))/up")
    'backward'
    """
    return "backward" if "transpose(" in name_stack else "forward"


def _unwrapped(part: str) -> str:
    head, bracket, rest = part.partition("(")
    wrapped = bracket and head in _TRANSFORMS and rest.endswith(")")
    return _unwrapped(rest[:-1]) if wrapped else part


def _is_call(part: str, before: str) -> bool:
    if before == "while":
        return part in ("body", "cond")
    if before == "cond":
        return part.startswith("branch_")
    return part in _CALLS or part.startswith("jit(")
