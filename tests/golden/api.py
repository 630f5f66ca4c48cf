"""Every name of snap_jax that the golden tests use: after a rename only this file changes, never the table."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import snap_jax as snap
from snap_jax._compat import as_varying
from snap_jax.cost import links
from snap_jax.models import transformer
from snap_jax.parallel.mesh import auto_mesh
from snap_jax.training.config import LanguageConfig
from snap_jax.training.language import next_token
from snap_jax.training.result_json import wire_section
from snap_jax.training.starting import prepare
from snap_jax.training.tasks import assemble
from snap_jax.training.tasks.layout import Layout

DEMO_LINKS = ("bf16", "int4", "count:3")  # of the demo when the table was recorded
UsageError, CostError = snap.UsageError, snap.cost.CostError

ENCODINGS = {
    "ternary": lambda: snap.Ternary(threshold=0.7),
    "ternary-dead-zone-1": lambda: snap.Ternary(threshold=0.7, dead_zone=1.0),
    "count:1": lambda: snap.Count(1, threshold=0.7),
    "count:3": lambda: snap.Count(3, threshold=0.7),
    "count:7": lambda: snap.Count(7, threshold=0.3),
    "count:127": lambda: snap.Count(127, threshold=0.02),
    "rate:8": lambda: snap.Rate(8, threshold=1.3),
    "rate:7-leak-0.5": lambda: snap.Rate(7, threshold=1.3, leak=0.5),  # a product with 0.5 is exact, fused or not
    "rate:5-unsigned": lambda: snap.Rate(5, threshold=1.3, signed=False),
    "latency:8": lambda: snap.Latency(8, threshold=1.3),
    "phase:4": lambda: snap.Phase(4, threshold=1.3),
    "int2": lambda: snap.Int(2, threshold=0.9),
    "int4": lambda: snap.Int(4, threshold=0.3),
    "int8": lambda: snap.Int(8, threshold=0.03),
    "int4:absmax": lambda: snap.Int(4),
    "int4:channel": lambda: snap.Int(4, block="channel"),
    "int4:block32": lambda: snap.Int(4, block=32),
    "count:7-token": lambda: snap.Scaled(snap.Count(7, threshold=0.5), "token"),
    "ternary-block32": lambda: snap.Scaled(snap.Ternary(threshold=1.5), 32, quantile=0.9),
    "topk:0.1": lambda: snap.TopK(0.1),
    "bfloat16": lambda: snap.Cast("bfloat16"),
    "float16": lambda: snap.Cast("float16"),
    "float8": lambda: snap.Cast("float8_e4m3fn"),
}

COARSE = snap.Ladder((snap.Events(0.05), snap.Bitmap(0.25), snap.Packed()))
WIRES = {
    "packed": snap.Packed(),
    "radix": snap.Packed(radix=True),
    "bitmap": snap.Bitmap(),
    "ticks": snap.Bitplanes(),
    "events:0.1": snap.Events(0.1),
    "events:1": snap.Events(1.0),
    "ladder": snap.Ladder(),
    "ladder-coarse": COARSE,
    "rans": snap.Rans(),
}


def codec(encoding, wire):
    """The codec of two names of the tables above."""
    return snap.Codec(ENCODINGS[encoding](), WIRES[wire])


def payload_bytes(coder, shape):
    return coder.payload_bytes(shape)


def payload(coder, x):
    """Called eagerly: of a ladder, the rung that is taken."""
    return coder.encode(x)


def quantized(coder, x):
    return coder.quantize(x)


# Codecs for collectives, as functions of a threshold; the last three take their step from the data or have none.
CODECS = {
    "ternary+packed": lambda t: snap.Codec(snap.Ternary(t), snap.Packed()),
    "count:3+packed": lambda t: snap.Codec(snap.Count(3, t), snap.Packed()),
    "count:3+ladder-coarse": lambda t: snap.Codec(snap.Count(3, t), COARSE),
    "int8:absmax": lambda t: snap.Codec(snap.Int(8), snap.Packed()),
    "topk:0.1": lambda t: snap.Codec(snap.TopK(0.1), snap.Bitmap(0.1)),
    "none": lambda t: None,
}
RECODE = snap.Codec(snap.Count(5, 0.5), snap.Packed())
BACK = snap.Codec(snap.Count(3, 2.0), snap.Packed())
SHIFT = [(i, (i + 1) % 4) for i in range(4)]
CHAIN = [(i, i + 1) for i in range(3)]

COLLECTIVES = {
    "all_gather": lambda x, c: snap.all_gather(x, "die", codec=c),
    "all_gather-tiled": lambda x, c: snap.all_gather(x, "die", axis=1, tiled=True, codec=c),
    "psum": lambda x, c: snap.psum(x, "die", codec=c),
    "psum-recode": lambda x, c: snap.psum(x, "die", codec=c, sum_codec=RECODE),
    "pmean": lambda x, c: snap.pmean(x, "die", codec=c),
    "psum_scatter-tiled": lambda x, c: snap.psum_scatter(x, "die", scatter_dimension=1, tiled=True, codec=c),
    "all_to_all": lambda x, c: snap.all_to_all(x, "die", 1, 0, tiled=True, codec=c),
    "ppermute": lambda x, c: snap.ppermute(x, "die", CHAIN, codec=c),
    "ppermute-grad_codec": lambda x, c: snap.ppermute(x, "die", SHIFT, codec=c, grad_codec=BACK),
}


def die_mesh(size):
    """A mesh of one axis, `die`, over emulated devices."""
    return auto_mesh({"die": size})


def varying(x):
    """`x`, typed as different on each die."""
    return as_varying(x, ("die",))


def sent_bytes(program, *args):
    """(forward, both ways): the bytes that leave all devices together in one run."""
    traffic = snap.collective_traffic(program)(*args)
    return traffic.where(lambda t: t.direction == "forward").sent_bytes, traffic.sent_bytes


def demo_bytes(link):
    """(forward, backward) bytes per step that `snap-jax demo` prints for a link."""
    job = prepare(LanguageConfig(link=link))
    traffic = snap.collective_traffic(lambda params, batch: job.loss_and_gradient(params, batch, {}))(
        job.params, job.batch(0)
    )
    section = wire_section(traffic, job.mesh.shape, job.crossing_elements)
    return section["forward_bytes_per_step"], section["backward_bytes_per_step"]


LINKS = {
    "ucie-standard": links.UCIE_STANDARD,
    "ucie-advanced": links.UCIE_ADVANCED,
    "nvlink-4": links.NVLINK_4,
    "pcie-5": links.PCIE5,
    "ethernet-400g": links.ETHERNET_400G,
    "ici-v5p": links.ICI_V5P,
}
TOPOLOGIES = {
    "ring": lambda link: snap.cost.Ring(8, link),
    "ring-bidirectional": lambda link: snap.cost.Ring(8, link, bidirectional=True),
    "chain": lambda link: snap.cost.Chain(8, link),
    "switch": lambda link: snap.cost.Switch(8, link),
    "mesh-2x4": lambda link: snap.cost.Mesh((2, 4), link),
    "torus-2x4": lambda link: snap.cost.Torus((2, 4), link),
    "fully-connected": lambda link: snap.cost.FullyConnected(8, link),
}
ALGORITHMS = ("default", "fastest", "least_energy")
TRANSFERS = {
    "all_gather": snap.Transfer("all_gather", ("die",), 8, "uint8", 12_345),
    "psum": snap.Transfer("psum", ("die",), 8, "float32", 65_536, times=3),
    "psum_scatter": snap.Transfer("psum_scatter", ("die",), 8, "float32", 4_096),
    "all_to_all": snap.Transfer("all_to_all", ("die",), 8, "uint8", 1_001, times=2),
    "pbroadcast": snap.Transfer("pbroadcast", ("die",), 8, "uint8", 777),
    "ppermute": snap.Transfer(
        "ppermute", ("die",), 8, "uint8", 3_071, times=11, pairs=7, perm=tuple((i, i + 1) for i in range(7))
    ),
}
GRID = (
    snap.Transfer("psum", ("data", "die"), 8, "float32", 8_192),
    snap.Transfer("all_gather", ("die",), 4, "uint8", 333, groups=2),
    snap.Transfer("psum", ("data",), 2, "float32", 1_024, groups=4, direction="backward"),
)


def system(topology, link, algorithm):
    return snap.cost.System({"die": TOPOLOGIES[topology](LINKS[link])}, algorithm=algorithm)


def grid_system():
    """Two axes, with links of different kinds."""
    return snap.cost.System(
        {"data": snap.cost.Switch(2, links.ETHERNET_400G), "die": snap.cost.Ring(4, links.UCIE_STANDARD)}
    )


def prices(transfers, on):
    """What they cost: functions that give numbers, or raise where a source is missing."""
    report = snap.cost.price(snap.Traffic(tuple(transfers)), on)
    return {
        "energy_j": lambda: list(report.energy_j),
        "latency_s": lambda: list(report.latency_s),
        "no_overlap_s": lambda: list(report.no_overlap_s),
        "serialisation_s": lambda: list(report.serialization_s),
        "wire_bytes": lambda: [report.wire_bytes],
    }


def count_codec():
    return snap.Codec(snap.Count(3, threshold=1.0), snap.Packed())


def refilled(module, numbers):
    """The module, every float of it replaced: `numbers` is a function of the shape."""
    leaves, tree = jax.tree.flatten(nnx.state(module))
    new = [numbers(x.shape) if jnp.issubdtype(x.dtype, jnp.floating) else x for x in leaves]
    nnx.update(module, jax.tree.unflatten(tree, new))
    return module


def pipeline_step(coded, numbers):
    """(function, its arguments): loss and gradient of a transformer of width 8 over two dies."""
    size = transformer.TransformerConfig(layers=2, width=8, heads=2, vocabulary=16)
    model = refilled(transformer.Transformer(size, rngs=nnx.Rngs(0)), numbers)
    task, params = assemble.build(model, Layout(pipeline=2), count_codec() if coded else None, None)
    rows = np.random.default_rng(5).integers(0, 16, (2, 2, 5))
    return task.loss_and_gradient, (params, next_token(rows))


def boundary(features, *, dims=None, numbers=None):
    """A boundary of `count:3`; with `dims`, a learned transform of that rank, refilled where `numbers` are given."""
    if dims is None:
        return snap.Boundary(count_codec(), features)
    transform = snap.LearnedTransform(rank=dims, context_tokens=2, vocabulary=16, hidden=4)
    made = snap.Boundary(count_codec(), features, transform=transform, rngs=nnx.Rngs(0))
    if numbers is not None:
        refilled(made.sender, numbers)
        refilled(made.receiver, numbers)
        basis = made.receiver.links[0].basis.learned  # recorded when the receiver kept its basis transposed
        basis[...] = numbers(basis.shape[::-1]).T
    return made


def budget_numbers(measured, saturation):
    """Targets, multipliers and what moves thresholds, through a run of five steps; and with two boundaries in one."""
    found = {}
    for name, groups in (("apart", ()), ("grouped", ((0, 2),))):
        budget = snap.RateController(1.25, groups=groups, start_ratio=4.0, anneal_fraction=0.5)
        state = budget.init(3)
        for step, (bits, full) in enumerate(zip(measured, saturation, strict=True)):
            progress = step / len(measured)
            state = budget.update(state, jnp.asarray(bits), progress)
            found[f"{name}/{step}/multiplier"] = state
            found[f"{name}/{step}/steer"] = budget.threshold_step(jnp.asarray(bits), jnp.asarray(full), progress)
            found[f"{name}/{step}/target"] = budget.target(progress)
    return found
