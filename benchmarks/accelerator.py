"""Check the invariants on an accelerator, then measure codecs against copying, and training steps; one device will do.

Expectations: a codec reads floats and writes a few bits, or the reverse, so memory bandwidth is its floor. The bytes it
moves per second over those of a copy say how far it is from that. Entropy coding computes more and stays below. A step
whose links send spikes should take as long as one whose links send floats, since nothing leaves the device.

Several devices are used together if there are some. On CPU all sizes are small, so that this program can be tested
there. It takes less than six minutes on one GPU: it starts nothing new after `--seconds`, and says what it left out;
compiling takes most of the time. It exits with 1 if an invariant does not hold.

Run: `python -m benchmarks.accelerator`
"""

import argparse
import functools
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import lax
from jax.sharding import PartitionSpec as P
from rich.console import Console
from rich.table import Table

import snap_jax as snap
from benchmarks.results import show
from benchmarks.timing import machine, take_turns
from snap_jax.models.transformer import Transformer, TransformerConfig
from snap_jax.parallel.mesh import auto_mesh
from snap_jax.wires import Wire, pack

SECONDS, ROUNDS = 240, 7
SMALL, LARGE = 2**16, 2**25  # elements, on CPU and on an accelerator
ENCODINGS = ("ternary", "count:3", "rate:8", "latency:8", "phase:4", "int8:channel", "int4:block32", "topk:0.1", "bf16")
WIRES: dict[str, Wire] = {
    "packed": snap.Packed(),
    "radix": snap.Packed(radix=True),
    "bitmap": snap.Bitmap(),
    "bitplanes": snap.Bitplanes(),
    "events": snap.Events(0.3),
    "ladder": snap.Ladder(),
    "rans": snap.Rans(),
}
TIMED = ("packed", "bitmap", "ladder", "rans")
MOVES = ("all_gather", "ppermute", "all_to_all")
COLLECTIVES = (*MOVES, "psum_scatter", "psum", "pmean")
LINKS = ("fp32", "int8:absmax", "count:3", "count:3+ladder", "count:3+rans")
VMAP = functools.partial(jax.vmap, axis_name="x")
Check = tuple[str, Callable[[], bool]]


def main() -> None:
    parser = argparse.ArgumentParser(description="Check the invariants and measure speed on this accelerator.")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="start nothing new after so long")
    seconds = parser.parse_args().seconds
    end = time.monotonic() + seconds
    console, large = Console(width=110), jax.default_backend() != "cpu"
    console.print(f"{machine()}, {jax.device_count()} x {jax.devices()[0].device_kind}\n", highlight=False)
    # The tables come first: what is left out for time is checks, which CPUs pass.
    show(console, bandwidth(LARGE if large else SMALL, end=end))
    show(console, steps(large, end=end))
    failed, left_out = run_checks(checks(), console, end)
    if left_out:
        console.print(f"left out for time: {left_out} checks; --seconds {2 * seconds:.0f} gives more")
    sys.exit(1 if failed else 0)


def in_time(names: Sequence[str], end: float) -> Iterator[str]:
    """Yield names until time is over, the first in any case."""
    for number, name in enumerate(names):
        if number == 0 or time.monotonic() < end:
            yield name


def run_checks(found: Iterator[Check], console: Console, end: float) -> tuple[list[str], int]:
    """Run checks until time is over; return the names of those that failed, and how many were left out."""
    failed, passed, left_out = [], 0, 0
    for name, holds in found:
        if time.monotonic() >= end:
            left_out += 1
        elif holds():
            passed += 1
        else:
            failed.append(name)
            console.print(f"[red]does not hold:[/red] {name}")
    console.print(f"invariants: {passed} checks hold, {len(failed)} do not\n")
    return failed, left_out


def checks() -> Iterator[Check]:
    """Yield every check of an invariant."""
    for name, wire in WIRES.items() if on_cpu() else ():
        yield f"3: {name} writes the bytes that it writes on CPU", lambda w=wire: writes_the_same(w)
    for spec in [f"{encoding}+{wire}" for encoding in ENCODINGS for wire in ("packed", "rans")]:
        yield f"3, 5: decode(encode(x)) of {spec} is quantize(x), and NaN for a NaN", lambda s=spec: comes_back(s)
    for spec in ("count:3+ladder", "count:3+rans"):
        yield f"3: {spec} agrees on a size in another program than it writes in", lambda s=spec: agrees_apart(s)
    for name, mapped in mappings().items():
        for collective in COLLECTIVES:
            for spec in ("count:3", "count:3+rans"):
                check = lambda c=collective, s=spec, m=mapped: equals_lax(c, s, m)  # noqa: E731
                yield f"2: {collective} of {spec} is lax of quantize, over {name}", check


def on_cpu() -> list:
    """Return a CPU device; none where JAX_PLATFORMS leaves it out."""
    try:
        return jax.devices("cpu")[:1]
    except RuntimeError:
        return []


def writes_the_same(wire: Wire) -> bool:
    """Return whether a wire writes the same bytes here and on CPU, of which invariant 3 is tested in the suite."""
    rng = np.random.default_rng(0)
    spikes = np.where(rng.random(5003) < 0.2, rng.choice([-1, 1], 5003), 0).astype(np.int8)
    ours, theirs = (pack(wire, jax.device_put(spikes, one), range(-1, 2)) for one in (jax.devices()[0], *on_cpu()))
    return np.array_equal(ours, theirs)


def comes_back(spec: str) -> bool:
    """Return whether a codec decodes to the very bits of `quantize`, and to NaN where a NaN went in."""
    codec = snap.codec(spec)
    assert codec is not None

    @jax.jit
    def both(x):
        return codec.decode(codec.encode(x), shape=x.shape, dtype=x.dtype), codec.quantize(x)

    x = jax.random.normal(jax.random.key(1), (63, 160))
    decoded, quantized = both(x)
    return bits_equal(decoded, quantized) and bool(jnp.isnan(both(x.at[5, 7].set(jnp.nan))[0]).all())


def agrees_apart(spec: str) -> bool:
    """Return whether the size that one program finds is enough for the payload that another one writes."""
    codec = snap.codec(spec)
    assert codec is not None
    x = 0.6 * jax.random.normal(jax.random.key(2), (64, 512))
    rung = jax.jit(lambda x: codec.draft(codec.spikes(x))[0])(x)
    payload = jax.jit(codec.encode)(x, rung)
    decoded = jax.jit(lambda p, r: codec.decode(p, shape=x.shape, dtype=x.dtype, rung=r))(payload, rung)
    return bits_equal(decoded, jax.jit(codec.quantize)(x))


def mappings() -> dict[str, Callable]:
    """Return what maps a function over the axis "x": devices that there are, or four within one."""
    found: dict[str, Callable] = {"vmap of 4": VMAP}
    count = jax.device_count()
    if count > 1:
        mesh = auto_mesh({"x": count})

        def over_devices(function):
            one = lambda x: function(x[0])[None]  # noqa: E731
            return jax.shard_map(one, mesh=mesh, in_specs=P("x"), out_specs=P("x"))

        found[f"{count} devices"] = over_devices
    return found


def equals_lax(collective: str, spec: str, mapped: Callable) -> bool:
    """Return whether value and gradient are those of `lax`: to the bit where data only moves."""
    codec = snap.codec(spec)
    assert codec is not None
    coded = lambda x: call(collective, snap, x, codec=codec)  # noqa: E731
    plain = lambda x: call(collective, lax, codec.quantize(x))  # noqa: E731
    count = 4 if mapped is VMAP else jax.device_count()
    x = jax.random.normal(jax.random.key(3), (count, 2 * count, 16 * count))

    @jax.jit
    def both(x):
        loss = lambda f: lambda x: jnp.sum(jnp.sin(mapped(f)(x)))  # noqa: E731
        return [(mapped(f)(x), jax.grad(loss(f))(x)) for f in (coded, plain)]

    (ours, our_gradient), (theirs, their_gradient) = both(x)
    close = jnp.allclose(ours, theirs, atol=1e-5) & jnp.allclose(our_gradient, their_gradient, atol=1e-5)
    return bool(close) and (collective not in MOVES or bits_equal(ours, theirs))


def call(collective: str, module, x, **codec):
    """Call a collective of `lax` or of `snap_jax` over the axis "x"."""
    size = lax.axis_size("x")
    arguments = {
        "ppermute": ([(i, (i + 1) % size) for i in range(size)],),
        "all_to_all": (1, 0),
    }.get(collective, ())
    tiled = {"tiled": True} if collective in ("all_gather", "all_to_all", "psum_scatter") else {}
    return getattr(module, collective)(x, "x", *arguments, **tiled, **codec)


def bits_equal(a: jax.Array, b: jax.Array) -> bool:
    """Return whether two arrays of floats have the same bits."""
    return np.array_equal(np.asarray(a).view(np.uint32), np.asarray(b).view(np.uint32))


def bandwidth(size: int, names: Sequence[str] = TIMED, rounds: int = ROUNDS, end: float = math.inf) -> Table:
    """Return bytes moved over the bandwidth of a copy, for encoding and decoding `size` elements on each wire."""
    x = 0.6 * jax.random.normal(jax.random.key(4), (size,))
    runs, moved = {"copy": compiled(lambda x: x + 1, x)}, {"copy": 8 * size}
    for name in in_time(names, end):
        codec = snap.Codec(snap.Count(3), WIRES[name])
        rung = codec.draft(codec.spikes(x))[0]
        payload = jax.jit(codec.encode)(x, rung)
        decode = lambda p, r, c=codec: c.decode(p, shape=(size,), dtype=x.dtype, rung=r)  # noqa: E731
        for what, run in (("encode", compiled(codec.encode, x, rung)), ("decode", compiled(decode, payload, rung))):
            runs[f"{what} {name}"] = run
            moved[f"{what} {name}"] = 4 * size + int(codec.sent_bytes(x, rung))
    times = take_turns(runs, rounds)
    table = Table(f"count:3, {size:,} elements", "ms", "bytes moved / s / that of a copy", "10^9 elements / s")
    for name, time_ in times.items():
        rate, of_copy = moved[name] / time_.median, moved["copy"] / times["copy"].median
        table.add_row(name, f"{1e3 * time_.median:.3f}", f"{rate / of_copy:.3f}", f"{size / time_.median / 1e9:.2f}")
    table.caption = f"a copy moves {moved['copy'] / times['copy'].median / 1e9:.1f} GB/s"
    return table


def steps(large: bool, links: Sequence[str] = LINKS, rounds: int = ROUNDS, end: float = math.inf) -> Table:
    """Return the time of a training step whose stream crosses a link after every block, over that with floats."""
    layers, width, batch, length = (4, 1024, 16, 512) if large else (2, 32, 2, 16)
    tokens = jax.random.randint(jax.random.key(5), (batch, length + 1), 0, 256)
    times = take_turns({link: step(link, layers, width, tokens) for link in in_time(links, end)}, rounds)
    table = Table(
        f"step of a transformer, {layers} x {width}, {tokens.size:,} tokens", "ms", f"time / that of {links[0]}"
    )
    for link, found in times.items():
        table.add_row(link, f"{1e3 * found.median:.2f}", found.over(times[links[0]]))
    return table


def step(link: str, layers: int, width: int, tokens: jax.Array) -> Callable[[], object]:
    """Return a compiled training step; each link sends from the device to itself."""
    model = Transformer(TransformerConfig(layers, width, max(1, width // 64)), rngs=nnx.Rngs(0))
    boundaries = nnx.List([snap.Boundary(link, width) for _ in range(layers)])
    graph, params = nnx.split((model, boundaries))
    rule = optax.adamw(1e-3)

    def loss(params, tokens):
        model, boundaries = nnx.merge(graph, params)
        x = model.enter(tokens[:, :-1])
        for block, boundary in zip(model.blocks, boundaries, strict=True):
            x = boundary.ppermute(block(x), "stage", [(0, 0)])
        return optax.softmax_cross_entropy_with_integer_labels(model.leave(x), tokens[:, 1:]).mean()

    def update(params, state, tokens):
        updates, state = rule.update(jax.grad(loss)(params, tokens), state, params)
        return optax.apply_updates(params, updates), state

    specs = {"in_specs": P(), "out_specs": P(), "check_vma": False}
    mapped = jax.shard_map(update, mesh=auto_mesh({"stage": 1}), **specs)
    return compiled(mapped, params, rule.init(params), tokens)


def compiled(function: Callable, *args) -> Callable[[], object]:
    """Return a function without arguments that runs the compiled program."""
    program = jax.jit(function).lower(*args).compile()
    return lambda: program(*args)


if __name__ == "__main__":
    main()
