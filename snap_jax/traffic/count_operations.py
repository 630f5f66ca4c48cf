"""What a program computes, counted from its jaxpr.

Every equation counts once for each time it runs: scans and loops multiply, a `shard_map` body runs on every device, of
a `cond` the costliest branch counts. Results that are not used are left out, as JAX leaves them out. What only the run
decides raises.

Counted as
  mac        `dot_general`, `conv_general_dilated`: one multiply and one accumulate each
  add        add, sub, neg, sums and running sums
  multiply   mul, square, integer_pow (one less than its exponent), products
  other      every other arithmetic: exp, div, comparisons, ...
Moving, reshaping, converting, selecting and indexing compute nothing, but their bytes count as moved. The same holds
for collectives, because their sums belong to the links. Zeros that a strided or dilated convolution multiplies count.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jax.interpreters import partial_eval

from snap_jax.errors import UsageError
from snap_jax.traffic.operations import Kind, OperationCount, Operations
from snap_jax.traffic.trip_count import open_jaxpr, trip_count

_ADDS = {"add", "sub", "neg", "add_any"}
_MULTIPLIES = {"mul", "square"}
_SUMS = {"reduce_sum", "cumsum"}
_PRODUCTS = {"reduce_prod", "cumprod"}
_REDUCTIONS = {"reduce_max", "reduce_min", "argmax", "argmin", "reduce_and", "reduce_or", "reduce_xor"}
_NOT_ARITHMETIC = {
    "broadcast_in_dim", "reshape", "transpose", "squeeze", "expand_dims", "concatenate", "pad", "slice",
    "dynamic_slice", "dynamic_update_slice", "gather", "scatter", "rev", "iota", "copy", "copy_p",
    "convert_element_type", "bitcast_convert_type", "select_n", "stop_gradient", "split", "pvary", "pcast",
    "device_put", "sharding_constraint", "optimization_barrier", "full_to_shard", "axis_index",
    "all_gather", "all_gather_invariant", "all_to_all", "ppermute", "psum", "psum2", "psum_invariant", "pmax",
    "pmin", "reduce_scatter", "pbroadcast", "create_token", "debug_callback", "random_wrap", "random_unwrap",
}  # fmt: skip


def count(fn: Callable[..., Any]) -> Callable[..., Operations]:
    """Return a function of the same arguments that returns what `fn` computes on all devices; it is traced, not run.

    Raises:
      UsageError: a `while` whose number of rounds only the run decides; a kernel that cannot be read.

    >>> x = jax.numpy.ones((2, 3))
    >>> count(lambda w: x @ w)(jax.numpy.ones((3, 4))).counts
    (OperationCount(kind='mac', dtype='float32', times=24),)
    """

    def counted(*args: Any, **kwargs: Any) -> Operations:
        traced = fn if isinstance(fn, jax.stages.Wrapped) else jax.jit(fn)
        return count_traced(traced.trace(*args, **kwargs))

    return counted


def count_traced(traced: jax.stages.Traced) -> Operations:
    """Return what a traced function computes on all devices. Raises as `count`."""
    alive, _ = partial_eval.dce_jaxpr(open_jaxpr(traced.jaxpr), True)
    return _walk(alive)


def _walk(jaxpr: Any) -> Operations:
    return Operations.total(_visit(eqn) for eqn in open_jaxpr(jaxpr).eqns)


def _visit(eqn: core.JaxprEqn) -> Operations:
    match eqn.primitive.name:
        case "scan":
            return _walk(eqn.params["jaxpr"]) * eqn.params["length"]
        case "while":
            return _while(eqn)
        case "cond":
            return max((_walk(branch) for branch in eqn.params["branches"]), key=_size)
        case "shard_map":
            sizes = eqn.params["mesh"].shape
            return _walk(eqn.params["jaxpr"]) * math.prod(sizes[axis] for axis in eqn.params["newly_manual_axes"])
        case "pallas_call" | "ragged_dot" | "custom_call" | "ffi_call" as name:
            raise UsageError(f"count: cannot read what {name!r} computes; count it by hand: Operations(...)")
    if eqn.primitive.name.startswith(("scatter", "reduce")):
        return _leaf(eqn)  # the jaxpr it holds combines two elements
    held = [inner for value in eqn.params.values() for inner in _jaxprs(value)]
    return Operations.total(map(_walk, held)) if held else _leaf(eqn)


def _jaxprs(value: Any) -> list[Any]:
    several = value if isinstance(value, tuple | list) else (value,)
    return [one for one in several if isinstance(one, core.Jaxpr | core.ClosedJaxpr)]


def _while(eqn: core.JaxprEqn) -> Operations:
    rounds = trip_count(eqn)
    if rounds is None:
        raise UsageError(
            "count: only the run decides how often this while loop runs: use lax.scan or a lax.fori_loop "
            "with static bounds, or count its body and multiply"
        )
    return _walk(eqn.params["cond_jaxpr"]) * (rounds + 1) + _walk(eqn.params["body_jaxpr"]) * rounds


def _size(operations: Operations) -> int | float:
    return sum(c.times for c in operations.counts)


def _leaf(eqn: core.JaxprEqn) -> Operations:
    moved = sum(_bytes(v.aval) for v in (*eqn.invars, *eqn.outvars))
    kind, times, dtype = _arithmetic(eqn)
    counts = (OperationCount(kind, dtype, times),) if times else ()
    return Operations(counts, moved)


def _arithmetic(eqn: core.JaxprEqn) -> tuple[Kind, int, str]:
    name = eqn.primitive.name
    if name in _NOT_ARITHMETIC or not eqn.invars or not eqn.outvars or _is_key(eqn.outvars[0].aval):
        return "other", 0, ""
    # Results are counted, operands for reductions: an outer product of a scalar is as long as what it fills.
    into, out = math.prod(_shape(eqn.invars[0])), math.prod(_shape(eqn.outvars[0]))
    dtype = _dtype(eqn.outvars[0] if _is_key(eqn.invars[0].aval) else max(eqn.invars, key=_width))
    if name == "dot_general":
        (contract, _), _ = eqn.params["dimension_numbers"]
        return "mac", out * math.prod(_shape(eqn.invars[0])[k] for k in contract), dtype
    if name == "conv_general_dilated":
        return "mac", out * _products(eqn), dtype
    if name in _SUMS | _PRODUCTS:
        # n numbers take n - 1 steps to sum; a running sum takes as many for each line.
        steps = into - (out if name.startswith("reduce") else into // max(1, _line(eqn)))
        return ("add" if name in _SUMS else "multiply"), max(0, steps), dtype
    if name == "scatter-add":
        return "add", math.prod(_shape(eqn.invars[2])), dtype
    if name.startswith("reduce_window"):
        steps = out * (math.prod(eqn.params["window_dimensions"]) - 1)
        return ("add" if name == "reduce_window_sum" else "other"), steps, dtype
    if name == "integer_pow":
        return "multiply", out * max(0, abs(eqn.params["y"]) - 1), dtype
    if name in _ADDS | _MULTIPLIES:
        return ("add" if name in _ADDS else "multiply"), out, dtype
    return "other", into if name in _REDUCTIONS else out, dtype


def _products(eqn: core.JaxprEqn) -> int:
    """Return the products that one output of a convolution sums: kernel positions x input channels of a group."""
    kernel = _shape(eqn.invars[1])
    output_features = eqn.params["dimension_numbers"].rhs_spec[0]
    return math.prod(kernel) // kernel[output_features]


def _line(eqn: core.JaxprEqn) -> int:
    return _shape(eqn.invars[0])[eqn.params["axis"]]


def _shape(variable: Any) -> tuple[int, ...]:
    return tuple(variable.aval.shape)


def _dtype(variable: Any) -> str:
    return np.dtype(variable.aval.dtype).name


def _width(variable: Any) -> int:
    return np.dtype(variable.aval.dtype).itemsize


def _is_key(aval: Any) -> bool:
    """Return whether it holds random keys, which have no numpy dtype."""
    return jnp.issubdtype(aval.dtype, jax.dtypes.extended)


def _bytes(aval: Any) -> int:
    return 0 if _is_key(aval) else math.prod(aval.shape) * np.dtype(aval.dtype).itemsize
