"""A tensor that only reverse-mode differentiation may pass.

Invariant: the identity; its cotangent passes, a tangent that is computed raises.

Every derivative in JAX starts as a tangent; in reverse mode that is transposed before it is ever computed. So the
tangent goes through a primitive that can be batched and transposed, and raises where it would be evaluated or compiled.
"""

import functools
from typing import Any

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from snap_jax.errors import UsageError


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def reverse_only(x: jax.Array, name: str) -> jax.Array:
    """Return `x`; `name` is the collective that the error names.

    Raises:
      UsageError: from forward-mode differentiation, at the latest when it is compiled.

    >>> jax.grad(lambda x: reverse_only(x, "all_gather") ** 2)(3.0).item()
    6.0
    >>> jax.jvp(lambda x: reverse_only(x, "all_gather"), (3.0,), (1.0,))
    Traceback (most recent call last):
    snap_jax.errors.UsageError: all_gather: forward-mode differentiation (jvp, jacfwd, linearize) of a call with ...
    """
    return x


@reverse_only.defjvp
def _reverse_only_jvp(name, primals, tangents):
    return primals[0], _tangent.bind(tangents[0], name=name)


def _refuse(*_: Any, name: str, **__: Any) -> Any:
    raise UsageError(
        f"{name}: forward-mode differentiation (jvp, jacfwd, linearize) of a call with grad_codec=, which codes "
        "cotangents: differentiate in reverse (grad, vjp), or leave grad_codec= out"
    )


_tangent = Primitive("snap_reverse_only")
_tangent.def_impl(_refuse)
_tangent.def_abstract_eval(lambda aval, name: aval)  # the very aval: it keeps its varying type
mlir.register_lowering(_tangent, _refuse)
ad.deflinear2(_tangent, lambda cotangent, _, name: [cotangent])
batching.primitive_batchers[_tangent] = lambda args, dims, name: (_tangent.bind(*args, name=name), dims[0])
