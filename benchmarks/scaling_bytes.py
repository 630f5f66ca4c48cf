"""Count what one device sends per element of a sum, on 2 to 4096 devices; no device is needed.

Expectations: a ring sends every element twice, `64 (N - 1) / N` bits in f32. Two shots of int8 send 16. PowerSGD
(Vogels et al. 2019, arXiv:1905.13727) of rank r sends two factors of an `a x b` matrix, `64 r (a + b) / (a b)` bits.
Ternary spikes take 2 bits and their sums `log2(2 N + 1)` in fixed fields; entropy coding should take at most 1.2x their
entropy. Between pods of 8 devices an eighth of the data crosses.

What is known from shapes is read from the traced program. Entropy-coded sizes are those of drawn spikes: of the part
that fires most among all N^2, and of the largest of some parts of sums.

Run: `python -m benchmarks.scaling_bytes`
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AbstractMesh, AxisType
from jax.sharding import PartitionSpec as P
from rich import box
from rich.console import Console
from rich.table import Table

import snap_jax as snap
from benchmarks.results import show
from snap_jax.collectives.parts import flattened, mixed
from snap_jax.collectives.sums import wire_of_sums
from snap_jax.wires import Wire

ROWS, COLUMNS, RANK, IN_POD = 4096, 4096, 4, 8
DEVICES = (2, 8, 64, 256, 1024, 4096)
RATES = (0.1, 0.01)
TERNARY = range(-1, 2)
HEADER_BYTES = 1
INT8 = {"codec": "int8:absmax", "sum_codec": "int8:absmax"}


def traced_bits(function, axes: dict[str, int], dtype: str = "float32", elements: int = ROWS * COLUMNS):
    """Return the bits that one device sends per element over each mesh axis, as `(axes) -> bits`."""
    devices = int(np.prod(list(axes.values())))
    mesh = AbstractMesh(tuple(axes.values()), tuple(axes), axis_types=(AxisType.Auto,) * len(axes))
    run = jax.shard_map(function, mesh=mesh, in_specs=P(tuple(axes)), out_specs=P())
    traffic = snap.collective_traffic(run)(jax.ShapeDtypeStruct((devices * elements,), dtype))
    return lambda *over: 8 * traffic.where(lambda t: t.axes == over).sent_bytes / devices / elements


def entropy_bits(values: np.ndarray) -> float:
    """Return the entropy of independent values, bits each."""
    shares = np.unique(values, return_counts=True)[1] / values.size
    return -float(np.sum(shares * np.log2(shares)))


def largest_bytes(wire: Wire, parts: np.ndarray, symbols: range) -> int:
    """Return the payload bytes, header included, that the largest of some parts needs."""
    sizes = wire.sizes(parts.shape[1], symbols)
    rungs = [int(jax.jit(wire.rung, static_argnums=1)(jnp.asarray(part), symbols)) for part in parts]
    return sizes[max(rungs)] + HEADER_BYTES


def coded_bits(
    wire: Wire, devices: int, rate: float, elements: int = ROWS * COLUMNS, *, alike: bool = False
) -> tuple[float, float]:
    """Return what one device sends per element in a sum of ternary spikes, and the entropy of spikes and sums.

    With `alike`, as if as many spikes fired in every part.
    """
    rng, part = np.random.default_rng(0), elements // devices
    most = round(part * rate) if alike else rng.binomial(part, rate, (devices, devices)).max()
    spikes = np.zeros((1, part), np.int8)
    spikes[0, rng.choice(part, most, replace=False)] = rng.choice([-1, 1], most)
    sums = _sums(rng, devices, rate, (max(1, min(16, 2**18 // part)), part))
    symbols = range(-devices, devices + 1)
    first = largest_bytes(wire, spikes, TERNARY)
    second = largest_bytes(wire_of_sums(wire, part, symbols), sums, symbols)
    ideal = -rate * np.log2(rate / 2) - (1 - rate) * np.log2(1 - rate)
    drawn = entropy_bits(_sums(rng, devices, rate, (2**20,)))
    return 8 * (devices - 1) * (first + second) / elements, (devices - 1) / devices * (ideal + drawn)


def _sums(rng: np.random.Generator, devices: int, rate: float, shape: tuple[int, ...]) -> np.ndarray:
    """Draw sums of spikes of either sign."""
    ups = rng.binomial(devices, rate / 2, shape)
    return (ups - rng.binomial(devices - ups, rate / 2 / (1 - rate / 2))).astype(np.int32)


def above_mean(devices: int, rates: np.ndarray, kind) -> float:
    """Return by how much the part that fires most exceeds the mean, over all N^2 parts, for rates per element."""

    def fired(x):
        parts = jax.vmap(lambda _: kind("x").cut(x), axis_name="x", out_axes=None)(jnp.arange(devices))
        return parts.sum(1)

    means = np.asarray(jax.jit(fired)(jnp.asarray(rates, jnp.float32)), np.float64)
    drawn = np.random.default_rng(0).poisson(means, (devices, devices))  # rare spikes
    return drawn.max() / means.mean() - 1


def whole_above_mean(devices: int, elements: int = 2**20, rate: float = 0.01) -> float:
    """Return by how much a whole sum exceeds one in which as many spikes fire in every part."""
    sent, even = (coded_bits(snap.Rans(), devices, rate, elements, alike=alike)[0] for alike in (False, True))
    return sent / even - 1


def clustered(kind: str, size: int = 1024, rate: float = 0.01) -> np.ndarray:
    """Return firing rates of `size x size` elements: all the same, or log-normal over rows, channels or both."""
    rng, rates = np.random.default_rng(0), np.full((size, size), 1.0)
    if kind in ("rows", "both"):
        rates *= rng.lognormal(0, 1.5, (size, 1))
    if kind in ("channels", "both"):
        rates *= rng.lognormal(0, 1.5, (1, size))
    return rate * rates / rates.mean()


def table(title: str, *columns: str) -> Table:
    """Return a table that prints as Markdown."""
    found = Table(title=title, box=box.MARKDOWN)
    for column in columns:
        found.add_column(column)
    return found


def flat() -> Table:
    """Return the bits of a sum over one axis."""
    columns = ["f32", "bf16", "int8, twice", f"PowerSGD, rank {RANK}", "ternary"]
    columns += [f"ternary, {wire}, {rate:.0%} fires (over entropy)" for wire in ("rANS", "ladder") for rate in RATES]
    found = table("bits per element of a sum over one axis", "devices", *columns)
    for devices in DEVICES:

        def of(dtype="float32", devices=devices, **codecs):
            return traced_bits(lambda x: snap.psum(x, "x", **codecs), {"x": devices}, dtype)("x")

        factors = 64 * (devices - 1) / devices * RANK * (ROWS + COLUMNS) / (ROWS * COLUMNS)
        known = [of(), of("bfloat16"), of(**INT8), factors, of(codec="ternary")]
        drawn = [coded_bits(wire, devices, rate) for wire in (snap.Rans(), snap.Ladder()) for rate in RATES]
        found.add_row(
            f"{devices} devices", *(f"{b:.2f}" for b in known), *(f"{b:.2f} ({b / e:.2f}x)" for b, e in drawn)
        )
    return found


def hierarchical() -> Table:
    """Return the bits of a sum over pods, inside a pod and between pods."""
    both = ("pod", "device")
    ways = {
        "f32": _floats,
        "ternary": lambda x: snap.psum(x, both, codec="ternary"),
        "ternary between pods, f32 inside": lambda x: snap.psum(x, both, codec={"pod": "ternary"}),
        "int8 between pods, f32 inside": lambda x: snap.psum(
            x, both, codec={"pod": "int8:absmax"}, sum_codec="int8:absmax"
        ),
    }
    found = table(f"pods of {IN_POD}: inside / between", "devices", *ways)
    for devices in DEVICES[2:]:
        axes = {"pod": devices // IN_POD, "device": IN_POD}
        bits = [traced_bits(way, axes) for way in ways.values()]
        found.add_row(str(devices), *(f"{of('device'):.2f} / {of('pod'):.2f}" for of in bits))
    return found


def _floats(x):
    """The sum of floats that JAX programs write by hand for pods."""
    part = lax.psum(lax.psum_scatter(x.reshape(IN_POD, -1), "device"), "pod")
    return lax.all_gather(part, "device", to="invarying")


def sizes_above_mean() -> Table:
    """Return by how much the largest part exceeds the mean, cut in blocks or mixed."""
    kinds = ("uniform", "rows", "channels", "both")
    found = table("largest of N^2 parts above the mean: blocks / mixed", "devices", *kinds, "whole sum, uniform")
    for devices in DEVICES[1:5]:
        both = [[above_mean(devices, clustered(kind), cut) for cut in (flattened, mixed)] for kind in kinds]
        shares = [f"{blocks:+.0%} / {alike:+.0%}" for blocks, alike in both]
        found.add_row(str(devices), *shares, f"{whole_above_mean(devices):+.1%}")
    return found


def main() -> None:
    console = Console(width=240)
    console.print(f"bits that one device sends per element of {ROWS} x {COLUMNS}; jax {jax.__version__}")
    for make in (flat, hierarchical, sizes_above_mean):
        show(console, make())


if __name__ == "__main__":
    main()
