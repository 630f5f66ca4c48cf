"""What the library computes today, by section, as flat dicts {key: value}.

Keys are plain words that outlive renames; values are whole numbers, the `repr` of floats, or digests. Inputs come from
numpy. Where floats are summed they are whole numbers times powers of two, so that no order of summation matters; what
cannot be made so stands under a section of its own, see `INEXACT`.
"""

import hashlib
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from tests.golden import api

SHAPES = ((), (0,), (7,), (2, 11, 4))
INEXACT = "inexact/"
"""Keys that begin so depend on the order in which floats are summed, or on how `exp` is computed."""

_SIZED = {"ticks": ((7,),), "ladder": ((0,), (2, 300)), "ladder-coarse": ((0,), (2, 300)), "rans": ((0,), (2, 300))}
_SENT = {
    "packed": tuple(api.ENCODINGS),
    "radix": ("ternary", "count:3"),
    "bitmap": ("ternary", "count:127", "topk:0.1"),
    "ticks": ("count:3", "rate:5-unsigned"),
    "events:0.1": ("topk:0.1",),
    "events:1": ("count:3", "int4:absmax", "bfloat16"),
    "ladder": ("count:3", "count:127"),
    "ladder-coarse": ("ternary", "count:3"),
    "rans": ("count:3", "int4", "topk:0.1", "count:7-token"),
}
"""Which encodings payloads are made of, by wire: compiling is what takes time."""

_QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
"""Settings of the compiler for whole programs, the same whatever the flags are that XLA was started with."""

_DIES = 4


def digest(array):
    """The first half of the SHA-256 of dtype, shape and bytes."""
    array = np.asarray(array)
    return hashlib.sha256(f"{array.dtype} {array.shape} ".encode() + array.tobytes()).hexdigest()[:32]


def digest_of_all(tree):
    """Of the leaves of a tree in any order: renamed parameters come out in another."""
    return hashlib.sha256("".join(sorted(map(digest, jax.tree.leaves(tree)))).encode()).hexdigest()[:32]


def normal(shape, seed=0):
    """Unit normal numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def sparse(shape, seed=1):
    """Unit normal numbers, three in a hundred; the rest zeros."""
    return normal(shape, seed) * (np.random.default_rng(seed + 1).random(shape) < 0.03).astype(np.float32)


def eighths(shape, seed=2, most=24):
    """Whole eighths up to `most` of them: few enough that products and sums of many are exact."""
    return np.random.default_rng(seed).integers(-most, most + 1, shape).astype(np.float32) / 8


def named(shape):
    return "x".join(map(str, shape)) or "scalar"


def payloads():
    """Payloads and their bytes, of every encoding on every wire, or what is raised.

    `bytes` are those of payloads of several shapes; `payload` is what was sent of one input, its bytes and digest.
    """
    found = {}
    for encoding, wire in itertools.product(api.ENCODINGS, api.WIRES):
        key = f"payload/{encoding}/{wire}"
        try:
            codec = api.codec(encoding, wire)
            found[f"{key}/bytes"] = [api.payload_bytes(codec, shape) for shape in _SIZED.get(wire, SHAPES)]
            inputs = _inputs(encoding, wire)
        except api.UsageError as error:
            found[f"{key}/raises"] = type(error).__name__
            continue
        for name, x in inputs.items():
            sent = np.asarray(api.payload(codec, jnp.asarray(x)))
            found[f"{key}/payload-{name}"] = [sent.size, digest(sent)]
    return found


def _inputs(encoding, wire):
    """Of those that are sent; empty ones and single numbers of a few."""
    if encoding not in _SENT[wire]:
        return {}
    if wire != "packed":
        return {"2x60-sparse": sparse((2, 60))} | ({"2x60": normal((2, 60))} if encoding == "count:3" else {})
    shapes = SHAPES if encoding in ("count:3", "int4:block32") else SHAPES[-1:]
    return {named(shape): normal(shape) for shape in shapes}


def quantized():
    """Digests of what the other side sees, for every encoding; on a NaN too."""
    found = {}
    inputs = {named(shape): normal(shape) for shape in SHAPES} | {"nan": np.array([1.0, np.nan, -3.0], np.float32)}
    for encoding, (name, x) in itertools.product(api.ENCODINGS, inputs.items()):
        codec = api.codec(encoding, "packed")
        found[f"quantize/{encoding}/{name}"] = digest(api.quantized(codec, jnp.asarray(x)))
    return found


def collectives():
    """Value and gradients of every collective with every codec, and the bytes that cross; four devices."""
    found = {}
    for name in api.CODECS:
        found |= _collectives_with(name)
    return found


def _collectives_with(codec):
    """All collectives with one codec, in one program."""
    x, threshold = _collective_inputs()
    found, runs = {}, {}
    for name in api.COLLECTIVES:
        key, run = f"collective/{name}/{codec}", _value_and_gradient(name, codec)
        try:
            forward, both = api.sent_bytes(_on_dies(run), x, threshold)
        except api.UsageError as error:
            found[f"{key}/raises"] = type(error).__name__
            continue
        found |= {f"{key}/forward-bytes": forward, f"{key}/total-bytes": both}
        runs[key] = run

    def program(x, threshold):
        return {key: run(x, threshold) for key, run in runs.items()}

    compiled = jax.jit(_on_dies(program)).lower(x, threshold).compile(_QUICKLY)
    for key, results in compiled(x, threshold).items():
        found |= {f"{key}/{what}": digest(result) for what, result in zip(_RESULTS, results, strict=True)}
    return found


_RESULTS = ("value", "gradient-of-x", "gradient-of-threshold")


def _collective_inputs():
    """On each die `[4, 8]`, of which the largest magnitude is 127/32; thresholds of the channels, powers of two."""
    x = np.random.default_rng(3).integers(-96, 97, (4 * _DIES, 8)).astype(np.float32) / 32
    x[::4, 0] = 127 / 32
    x[np.random.default_rng(4).random(x.shape) < 0.3] /= 16
    x[::4, 0] = 127 / 32
    return jnp.asarray(x), jnp.asarray(np.array([0.25, 0.5, 1.0, 2.0] * 2, np.float32))


def _value_and_gradient(collective, codec):
    """Of the sum of what arrives, weighted with small whole numbers that differ from die to die."""

    def loss(x, threshold):
        y = api.COLLECTIVES[collective](x, api.CODECS[codec](threshold))
        weight = (jnp.arange(y.size) * 5 % 7 - 3).astype(y.dtype).reshape(y.shape)
        return jnp.sum(y * weight * (1 + jax.lax.axis_index("die"))), y

    def run(x, threshold):
        (_, y), gradients = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(x, threshold)
        return jax.tree.map(lambda a: api.varying(a)[None], (y, *gradients))

    return run


def _on_dies(function):
    mesh = api.die_mesh(_DIES)
    return jax.shard_map(function, mesh=mesh, in_specs=(P("die"), P()), out_specs=P("die"), check_vma=True)


def demo():
    """Bytes a step, forward and backward, that the demo prints."""
    ways = ("forward-bytes", "backward-bytes")
    links = {link: api.demo_bytes(link) for link in api.DEMO_LINKS}
    return {f"demo/{link}/{way}": size for link, sizes in links.items() for way, size in zip(ways, sizes, strict=True)}


def costs():
    """What fixed transfers cost on every topology, of every link, `[low, high]`."""
    found = {}
    for topology, link, (op, transfer) in itertools.product(api.TOPOLOGIES, api.LINKS, api.TRANSFERS.items()):
        make = lambda t=topology, n=link: api.system(t, n, "default")
        found[f"cost/{topology}/{link}/{op}"] = _prices([transfer], make)
    for topology, algorithm in itertools.product(api.TOPOLOGIES, api.ALGORITHMS):
        make = lambda t=topology, a=algorithm: api.system(t, "ucie-standard", a)
        found[f"cost/{topology}/ucie-standard/all-together-{algorithm}"] = _prices(api.TRANSFERS.values(), make)
    return found | {"cost/grid/all-together": _prices(api.GRID, api.grid_system)}


def _prices(transfers, system):
    """Figures by name; of those that cannot be given, the exception."""
    try:
        figures = api.prices(transfers, system())
    except api.CostError as error:
        return type(error).__name__
    return " ".join(f"{name}={_figure(figure)}" for name, figure in figures.items())


def _figure(figure):
    try:
        numbers = figure()
    except api.CostError as error:
        return type(error).__name__
    return ",".join(repr(float(number)) for number in numbers)


def boundaries():
    """Boundaries on one chip, with and without an innovation around the codec, and the numbers of a budget."""
    x, tokens = jnp.asarray(eighths((2, 5, 8))), jnp.asarray(np.random.default_rng(6).integers(0, 16, (2, 5)))
    found = {
        "boundary/count:3": digest(api.boundary(8)(x)),
        "boundary/innovation": digest(api.boundary(8, dims=3, numbers=_eighths_of_shape)(x, tokens)),
        "inexact/boundary/innovation-as-made": digest(api.boundary(8, dims=3)(x, tokens)),
    }
    rng = np.random.default_rng(7)
    measured, saturation = rng.uniform(0.2, 6, (5, 3)).astype(np.float32), rng.uniform(0, 2, (5, 3)).astype(np.float32)
    numbers = api.budget_numbers(measured, saturation)
    return found | {f"budget/{key}": np.asarray(value).tolist() for key, value in numbers.items()}


def training():
    """Loss and gradient of one step over two dies, with spikes between them and with floats."""
    found = {}
    for name, coded in (("count:3", True), ("none", False)):
        step, args = api.pipeline_step(coded, _noise_of_shape)
        compiled = jax.jit(step).lower(*args).compile(_QUICKLY)
        loss, gradient = compiled(*args)
        found[f"inexact/training/{name}/loss"] = repr(float(loss))
        found[f"inexact/training/{name}/gradient"] = digest_of_all(gradient)
        forward, both = api.sent_bytes(step, *args)
        found |= {f"training/{name}/forward-bytes": forward, f"training/{name}/total-bytes": both}
    return found


def _eighths_of_shape(shape):
    return jnp.asarray(eighths(shape, seed=[8, *shape], most=8))


def _noise_of_shape(shape):
    return jnp.asarray(0.3 * normal(shape, seed=[9, *shape]))


SECTIONS = {
    "payloads": payloads,
    "quantized": quantized,
    "collectives": collectives,
    "demo": demo,
    "costs": costs,
    "boundaries": boundaries,
    "training": training,
}
PREFIXES = {
    "payloads": ("payload/",),
    "quantized": ("quantize/",),
    "collectives": ("collective/",),
    "demo": ("demo/",),
    "costs": ("cost/",),
    "boundaries": ("boundary/", "budget/"),
    "training": ("training/",),
}
"""How the keys of a section begin, behind `INEXACT`."""
