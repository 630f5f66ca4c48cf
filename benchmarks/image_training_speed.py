"""Measure the speed of training on images of the size of Fashion-MNIST, against a plain Flax loop.

Best possible: one device does what the plain loop does, so the ratio of speeds should be 1; the target is 0.9.
Emulated devices share cores and an idle one computes nothing, so a perfect pipeline is as fast as one device with the
same microbatches. n devices of their own with M microbatches are idle for (n - 1) / (M + n - 1) of the time.

Data: 60,000 noisy images of 28 x 28 in ten classes, written as IDX files and read back as a user's would be.
Ours: `image_loader.batch` draws bytes, the jitted step normalizes them, parameters and optimizer state are donated.
Plain: floats normalized once, one permutation per epoch, `nnx.jit`, `nnx.value_and_grad`, `nnx.Optimizer`.
"""

import functools
import itertools
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
import optax
from flax import nnx
from jax.sharding import PartitionSpec as P
from rich.console import Console
from rich.table import Table

from benchmarks.results import show
from benchmarks.timing import Times, machine, take_turns
from snap_jax.boundary.boundary import Boundary
from snap_jax.codecs.link_spec import as_codec
from snap_jax.data import image_loader
from snap_jax.models import resnet
from snap_jax.models.split import split
from snap_jax.parallel.gpipe import GPipe
from snap_jax.parallel.mesh import STAGE, auto_mesh, emulate_devices
from snap_jax.training.tasks.losses import Batch

COUNT, SIDE, CLASSES = 60_000, 28, 10
BATCH, MICRO, STEPS, ROUNDS = 32, 4, 2, 9
MODEL = resnet.ResNetConfig((2, 2), width=16, classes=CLASSES, downsample=False)
OPTIMIZER = optax.adamw(1e-3)


def main() -> None:
    emulate_devices(4)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        data = written(Path(folder), COUNT)
        loaded, drawn = time.perf_counter() - began, drawing(data)
        runs = {"plain Flax": plain(data), "one device": one_device(data)}
        runs |= {
            f"{devices} devices, {link}": over(data, devices, link)
            for devices in (2, 4)
            for link in ("fp32", "count:3")
        }
        times = take_turns(runs, ROUNDS)
        console = Console(width=118)
        console.print(f"[bold]Images[/bold]: {machine()}")
        size = f"MS-ResNet {MODEL.stages} x {MODEL.width}, batches of {BATCH}"
        console.print(f"{size}; {ROUNDS} rounds, median (quartiles)")
        console.print(f"{COUNT:,} images written and read in {loaded:.1f} s; a batch is drawn in {drawn:.2f} ms\n")
        show(console, table(times))


def table(times: dict[str, Times]) -> Table:
    """Return the speeds beside the target."""
    shown = Table(
        "forward, backward, update", "images / s", "speed / plain Flax", "speed / one device", "pipeline bubble"
    )
    for name, t in times.items():
        devices = int(name[0]) if name[0].isdigit() else 1
        speed = f"{BATCH * STEPS / t.median:,.0f}"
        against_one = times["one device"].over(t) if devices > 1 else ""
        shown.add_row(name, speed, times["plain Flax"].over(t), against_one, f"{bubble(devices, MICRO):.0%}")
    shown.caption = (
        f"target: one device at 0.90 of plain Flax; {MICRO} microbatches, bubble: idle share on devices of their own"
    )
    return shown


def bubble(devices: int, microbatches: int) -> float:
    """Return the share of the time in which a device waits: `(n - 1) / (M + n - 1)`.

    >>> bubble(1, 4), bubble(2, 4)
    (0.0, 0.2)
    """
    return GPipe(microbatches, devices).idle_share


def written(folder: Path, count: int) -> image_loader.Images:
    """Return images of `CLASSES` random patterns under noise, written to IDX files and read back."""
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 256, (CLASSES, SIDE, SIDE))
    for part, number in (("train", count), ("t10k", count // 6)):
        labels = rng.integers(0, CLASSES, number).astype(np.uint8)
        pixels = (patterns[labels] // 2 + rng.integers(0, 128, (number, SIDE, SIDE))).astype(np.uint8)
        for kind, array in (("images", pixels), ("labels", labels)):
            head = struct.pack(f">{1 + array.ndim}I", 0x0800 | array.ndim, *array.shape)
            (folder / f"{part}-{kind}-idx{array.ndim}-ubyte").write_bytes(head + array.tobytes())
    return image_loader.load(str(folder))


def drawing(data: image_loader.Images, times: int = 50) -> float:
    """Return the milliseconds it takes to draw a batch."""
    began = time.perf_counter()
    for step in range(times):
        image_loader.batch(data, step=step, seed=0, batch=BATCH)
    return 1e3 * (time.perf_counter() - began) / times


def nats(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def plain(data: image_loader.Images) -> Callable[[], object]:
    """Return the loop of the Flax guide."""
    model = resnet.ResNet(MODEL, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, OPTIMIZER, wrt=nnx.Param)
    pixels, labels = np.asarray(image_loader.normalise(data, data.train_images)), data.train_labels

    @nnx.jit
    def step(model, optimizer, x, y):
        loss, gradient = nnx.value_and_grad(lambda model: nats(model(x), y))(model)
        optimizer.update(model, gradient)
        return loss

    def batches() -> Iterator[np.ndarray]:
        rng = np.random.default_rng(0)
        while True:
            order = rng.permutation(len(pixels))
            for start in range(0, len(order) - BATCH + 1, BATCH):
                yield order[start : start + BATCH]

    drawn = batches()

    def run() -> object:
        return [step(model, optimizer, pixels[rows], labels[rows]) for rows in itertools.islice(drawn, STEPS)]

    return run


def one_device(data: image_loader.Images) -> Callable[[], object]:
    """Return our loop without a mesh."""
    graph, params = nnx.split(resnet.ResNet(MODEL, rngs=nnx.Rngs(0)))

    def loss(params, x, y):
        return nats(nnx.merge(graph, params)(x), y)

    return _looped(data, jax.value_and_grad(loss), params)


def over(data: image_loader.Images, devices: int, link: str) -> Callable[[], object]:
    """Return our loop over a pipeline."""
    codec, grad = as_codec(link), None if link == "fp32" else as_codec("bf16")
    boundaries = [Boundary(codec, MODEL.width, grad_codec=grad) for _ in range(devices)]
    stages, params = split(resnet.ResNet(MODEL, rngs=nnx.Rngs(0)), boundaries)

    def loss(params, x, y):
        batch = jax.tree.map(lambda a: a.reshape(MICRO, BATCH // MICRO, *a.shape[1:]), Batch(x, y))
        work = stages.work(lambda logits, microbatch: (nats(logits, microbatch.labels) / MICRO, ()))
        return GPipe(MICRO, devices).run(work, params, batch)[0]

    spread = functools.partial(jax.shard_map, mesh=auto_mesh({STAGE: devices}), in_specs=(P(STAGE), P(), P()))
    return _looped(data, spread(jax.value_and_grad(loss), out_specs=(P(), P(STAGE))), params)


def _looped(data: image_loader.Images, loss_and_gradient: Callable, params) -> Callable[[], object]:
    """Return a function that takes the next `STEPS` steps in each call."""

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, pixels, labels):
        loss, gradient = loss_and_gradient(params, image_loader.normalise(data, pixels), labels)
        updates, state = OPTIMIZER.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, loss

    now, place = [params, OPTIMIZER.init(params)], [0]

    def run() -> object:
        losses = []
        for _ in range(STEPS):
            pixels, labels = image_loader.batch(data, step=place[0], seed=0, batch=BATCH)
            *now[:], loss = step(*now, pixels, labels)
            losses.append(loss)
            place[0] += 1
        return losses

    return run


if __name__ == "__main__":
    main()
