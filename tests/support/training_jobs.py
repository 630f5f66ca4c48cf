"""What tests of training share: a job that compiles in no time, a parabola a stage; a text; runs nobody trained."""

import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from snap_jax import training
from snap_jax.boundary.telemetry import observe
from snap_jax.codecs import Codec
from snap_jax.encodings import Ternary
from snap_jax.parallel.mesh import auto_mesh
from snap_jax.training import checkpoints, run_dir
from snap_jax.training.config import LanguageConfig
from snap_jax.training.job import Job
from snap_jax.training.optimizer import optimizer
from snap_jax.training.run import Run

CODEC = Codec(Ternary(threshold=1.0))


class Parabola(Job):
    """`loss = mean_stage (w_stage - batch)^2`; batch `index` is the number `index`; one sender and one receiver."""

    crossing_elements, shares, origin, context_bits = 1, (1.0, 1.0), "", 0.0

    def __init__(self, scale: float = 1.0):
        self.scale = scale

    @property
    def mesh(self) -> Mesh:
        return auto_mesh({"stage": 2})

    @property
    def params(self):
        place = NamedSharding(self.mesh, PartitionSpec("stage"))
        return {"w": jax.device_put(jnp.array([3.0, -1.0]), place)}

    def fingerprint(self) -> str:
        return "numbers"

    def batch(self, index: int):
        return jnp.float32(index * self.scale)

    def batch_name(self, index: int) -> str:
        return f"number {index}"

    def losses_and_gradient(self, params, batch, extra):
        def loss(params):
            return jnp.mean((params["w"] - batch) ** 2), jax.vmap(lambda w: observe(CODEC, w[None]))(params["w"])

        return jax.value_and_grad(loss, has_aux=True)(params)

    def loss_and_norm(self, losses, gradient):
        return losses, optax.tree.norm(gradient)

    def not_finite(self, params, batch):
        return (~jnp.isfinite((params["w"] - batch) ** 2)).astype(jnp.int32)

    def evaluate_some(self, params) -> dict:
        return {"heldout_bits": float(np.asarray(params["w"]).sum())}

    def evaluate_all(self, params, out):
        raise NotImplementedError


def run_of(config: LanguageConfig, out: Path, job=None, on_progress=lambda _: None) -> Run:
    """A run of that job in a directory of its own."""
    job = job or Parabola()
    record = run_dir.claim(out, config, job.fingerprint(), overwrite=True)
    return Run(config, out, job, optimizer(config), record, time.monotonic(), on_progress)


def write_text(folder: Path, lines: int = 400) -> str:
    """A file in it that is easily learned."""
    path = folder / "text.txt"
    path.write_bytes(b"".join(b"line %d of a text that repeats itself\n" % (i % 7) for i in range(lines)))
    return str(path)


def save_untrained(config: LanguageConfig, out: Path, moved: float = 0.0) -> None:
    """A run to start from, of weights as they are made, or `moved` by noise of that size."""
    job, draw = training.prepare(config), np.random.default_rng(0)
    params = jax.tree.map(lambda a: np.asarray(a + moved * draw.normal(size=a.shape), np.float32), job.params)
    run_dir.claim(out, config, job.fingerprint(), overwrite=False)
    checkpoints.save_weights(out / "checkpoints" / "final", params)
