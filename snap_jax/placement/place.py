"""Placement: rules put codecs and collectives around modules that somebody else wrote, and take them away again.

Invariant: `unplace(place(model, rules))` has the graph and the parameters of `model`.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax
from flax import nnx
from jax.sharding import PartitionSpec
from jaxtyping import PyTree

from snap_jax.boundary.boundary import Boundary
from snap_jax.codecs.link_spec import as_codec
from snap_jax.errors import UsageError
from snap_jax.placement.hooks import Hook, add_hook, hooks_of, remove_hooks
from snap_jax.placement.module_paths import matching, modules_of
from snap_jax.placement.roles import (
    BoundaryAfter,
    ColumnParallel,
    Divide,
    Exchange,
    Gather,
    Gradients,
    RoleHook,
    RowParallel,
    coded_leaves,
)
from snap_jax.placement.rules import Rule

M = TypeVar("M", bound=nnx.Module)
Sample = Sequence[Any] | Callable[[Any], Any]
"""Arguments for a call of the model, or a function that calls it; arrays may be `jax.ShapeDtypeStruct`s."""


def place(model: M, rules: Sequence[Rule], *, sample: Sample | None = None) -> M:
    """Return a copy of a model with codecs and collectives where rules want them.

    The copy shares arrays with the model, so donating one of them to a program takes them from both.

    Parameters keep their paths; what codecs learn lies below `snap_hooks` of the modules. On one device, codecs
    quantize. Inside `shard_map` over the axis of a rule, with parameters divided as `place_specs` says, the model
    computes its share.

    Args:
      model: any NNX model; it is not changed.
      rules: in the order in which they act on one module, the first innermost.
      sample: arguments of the model, or a function that calls it. It is traced and not run, to find the features of
        what is coded; needed for layers that do not say `out_features`.

    Raises:
      UsageError: for a rule that matches nothing, or that does not say how to divide a layer.

    >>> model = nnx.Sequential(nnx.Linear(4, 8, rngs=nnx.Rngs(0)), nnx.relu, nnx.Linear(8, 2, rngs=nnx.Rngs(1)))
    >>> placed = place(model, [Rule("layers.0", "boundary", "count:3")])
    >>> print(placements(placed))
    path      role      codec           axis
    layers.0  boundary  count:3+packed  -
    >>> nnx.graphdef(unplace(placed)) == nnx.graphdef(model)
    True
    """
    placed, outputs = nnx.clone(model), _outputs(model, rules, sample)
    modules = modules_of(placed)
    for rule in rules:
        for path in matching(rule.path, modules, where=rule.where):
            _require_one_boundary(rule, path, modules[path])
            add_hook(modules[path], _hook(rule, path, modules[path], outputs.get(path)))
    return placed


def _require_one_boundary(rule: Rule, path: str, module: nnx.Module) -> None:
    if rule.role == "boundary" and any(isinstance(hook, BoundaryAfter) for hook in hooks_of(module)):
        raise UsageError(f"place: two rules put a boundary after {path}: leave one out, or unplace the model first")


def unplace(model: M) -> M:
    """Return a copy of a placed model as it was before: no hooks, and nothing that codecs had learned."""
    plain = nnx.clone(model)
    for module in modules_of(plain).values():
        remove_hooks(module, Hook)
    return plain


@dataclasses.dataclass(frozen=True)
class Placement:
    """One module that a rule has matched."""

    path: str
    role: str
    codec: str
    axis: str


class Placements(tuple[Placement, ...]):
    """What rules have matched, in the order of the model; prints as a table."""

    def __str__(self) -> str:
        rows = [("path", "role", "codec", "axis"), *((p.path, p.role, p.codec, p.axis) for p in self)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def placements(model: nnx.Module) -> Placements:
    """Return what rules have matched: paths, roles, codecs and axes."""
    return Placements(
        Placement(path, hook.role, _codec_of(hook), hook.axis or "-") for path, hook in placed_hooks(model)
    )


def placed_hooks(model: nnx.Module) -> list[tuple[str, RoleHook]]:
    """Return each hook that a rule has made, with the path of its module."""
    return [
        (path, hook)
        for path, module in modules_of(model).items()
        for hook in hooks_of(module)
        if isinstance(hook, RoleHook)
    ]


def place_specs(model: nnx.Module, state: PyTree | None = None) -> PyTree:
    """Return how each parameter of a placed model lies on the mesh, as a `PartitionSpec`, for `shard_map`.

    Args:
      model: with hooks of rules that divide layers.
      state: a part of its state, such as `nnx.state(model, nnx.Param)`; None for all of it.
    """
    divided = splits_of(model)

    def spec(path: tuple, variable: Any) -> Any:
        dimension, axis = divided(path)
        own = PartitionSpec() if axis is None else PartitionSpec(*[None] * dimension, axis)
        return jax.tree.map(lambda _: own, variable)

    flat = nnx.to_flat_state(nnx.state(model) if state is None else state)
    return nnx.from_flat_state({path: spec(path, variable) for path, variable in flat})


def splits_of(model: nnx.Module) -> Callable[[tuple], tuple[int, str | None]]:
    """Return a function: path of a parameter -> the dimension along which it is divided, and the mesh axis or None."""
    found: dict[str, tuple[int, str | None]] = {}
    for path, hook in placed_hooks(model):
        found |= {f"{path}.{name}".lstrip("."): (dimension, hook.axis) for name, dimension in hook.splits}
        if isinstance(hook, Gather):  # one threshold per feature of all devices
            here = f"{path}.snap_hooks.{hooks_of(modules_of(model)[path]).index(hook)}.link.**"
            found[here.lstrip(".")] = (0, hook.axis)

    def of(path: tuple) -> tuple[int, str | None]:
        names = ".".join(map(str, path))
        inside = [f for f in found if f.endswith(".**") and names.startswith(f[:-2])]
        deepest = max((f for f in inside if "snap_hooks" in f or "snap_hooks" not in names), key=len, default=None)
        return found.get(names) or (found[deepest] if deepest else (0, None))

    return of


def _codec_of(hook: RoleHook) -> str:
    codecs = [hook.rule_codec] if isinstance(hook, Gradients) else [b.codec for b in hook.boundaries]
    return ", ".join(dict.fromkeys("floats" if codec is None else _spelled(codec) for codec in codecs)) or "-"


def _spelled(codec: Any) -> str:
    encoding, wire = type(codec.encoding).__name__.lower(), type(codec.wire).__name__.lower()
    limit = codec.encoding.uniform_limit
    return f"{encoding}{'' if limit is None else f':{limit}'}+{wire}"


def _hook(rule: Rule, path: str, module: nnx.Module, output: Any) -> RoleHook:
    codec, axis = as_codec(rule.codec), str(rule.axis)
    if rule.role == "divide":
        return Divide(axis, rule.attributes)
    if rule.role == "boundary":
        return _boundary_after(rule, path, module, output)
    if rule.role == "gradients":
        return Gradients(axis, codec)
    features = 1 if codec is None or rule.role == "column" else _features(rule, path, module, output)
    links = [Boundary(None if rule.role == "column" else codec, features, grad_codec=rule.grad_codec) for _ in range(2)]
    if rule.role == "all_gather":
        return Gather(axis, links[0])
    if rule.role == "all_to_all":
        return Exchange(axis, *links)
    splits = dict(rule.split) if rule.split else _known_splits(rule, path, module)
    if rule.role == "row":
        return RowParallel(axis, splits, links[0])
    return ColumnParallel(axis, splits, links[0], ("out_features",) if isinstance(module, nnx.LinearGeneral) else ())


def _boundary_after(rule: Rule, path: str, module: nnx.Module, output: Any) -> BoundaryAfter:
    codec = as_codec(rule.codec)
    if codec is None:
        return BoundaryAfter((), ())
    if output is None:
        sizes = {0: _features(rule, path, module, output)}
    else:
        shapes = jax.tree.leaves(output)
        sizes = {i: shapes[i].shape[-1] for i in coded_leaves(output, rule.output)}
    if not sizes:
        raise UsageError(f"{rule.where}: {path} returns no array of floats at output={rule.output!r}: use another one")
    return BoundaryAfter(
        list(sizes), [Boundary(codec, n, grad_codec=rule.grad_codec, transform=rule.transform) for n in sizes.values()]
    )


def _features(rule: Rule, path: str, module: nnx.Module, output: Any) -> int:
    if rule.features is not None:
        return rule.features
    if output is not None:
        leaves = jax.tree.leaves(output)
        return leaves[coded_leaves(output, rule.output)[0]].shape[-1]
    known = vars(module).get("out_features")
    if isinstance(known, int | tuple):
        return known if isinstance(known, int) else known[-1]
    raise UsageError(
        f"{rule.where}: {path}, a {type(module).__name__}, does not say the size of the last axis of its output: "
        "give place(..., sample=(arguments of the model,)), or Rule(..., features=)"
    )


def _known_splits(rule: Rule, path: str, module: nnx.Module) -> Mapping[str, int]:
    """Return the dimensions of features, which `column` divides, or of inputs, which `row` divides."""
    own = {name: value for name, value in vars(module).items() if isinstance(value, nnx.Param)}
    general = isinstance(module, nnx.LinearGeneral)
    made = len(module.out_features) if general else 1
    plain = own.keys() <= {"kernel", "bias"} and "kernel" in own
    if not plain or (own["kernel"].ndim > 2 and not general and not _is_conv(module)):
        raise UsageError(
            f"{rule.where}: {path}, a {type(module).__name__}, does not say along which dimension its parameters "
            f"{sorted(own)} are divided: give Rule(..., split={{{next(iter(own), 'w')!r}: 0}})"
        )
    dimensions = own["kernel"].ndim
    if rule.role == "column":
        return {name: dimensions - made if name == "kernel" else 0 for name in own}
    return {"kernel": dimensions - 2 if _is_conv(module) else 0}


def _is_conv(module: nnx.Module) -> bool:
    return isinstance(module, nnx.Conv)


class _Recorder(Hook):
    """Notes what a module returns, once."""

    def __init__(self, path: str, seen: dict):
        self.note = nnx.static(lambda output: seen.setdefault(path, output))

    def around(self, call, module, *args, **kwargs):
        output = call(module, *args, **kwargs)
        self.note(jax.tree.map(lambda x: jax.ShapeDtypeStruct(jax.numpy.shape(x), jax.numpy.result_type(x)), output))
        return output


def _outputs(model: nnx.Module, rules: Sequence[Rule], sample: Sample | None) -> dict[str, Any]:
    """The shapes of what the modules of rules return for a sample."""
    seen: dict[str, Any] = {}
    if sample is None:
        return seen
    watched = nnx.clone(model)
    modules = modules_of(watched)
    for path in {path for rule in rules for path in matching(rule.path, modules, where=rule.where)}:
        add_hook(modules[path], _Recorder(path, seen))
    graph, state = nnx.split(watched)
    arguments = () if callable(sample) else tuple(sample)

    def run(state: PyTree, *arguments: Any) -> None:
        called = nnx.merge(graph, state)
        sample(called) if callable(sample) else called(*arguments)

    jax.eval_shape(run, state, *arguments)
    return seen
