"""Language: next-byte prediction by an RWKV that is divided over the dies of a pipeline.

Law: with dense links the loss and its gradient do not depend on the number of dies.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int, PyTree

from snap_jax.codecs import Codec
from snap_jax.encodings import Float as FloatEncoding
from snap_jax.models import rwkv, stages
from snap_jax.nn import Boundary, pipeline

AXIS = "die"
Loss = Callable[[PyTree, Int[Array, "micro batch time_plus_1"]], Float[Array, ""]]


@dataclasses.dataclass(frozen=True)
class Task:
    """A divided model as functions of its stacked parameters.

    Attributes:
      graph: the structure of one stage.
      mesh: with the axis `die`.
      codec: what crosses each boundary; `None` for floats.
    """

    graph: nnx.GraphDef
    mesh: Mesh
    codec: Codec | None

    def loss(self, params: PyTree, tokens: Int[Array, "micro batch time_plus_1"]) -> Float[Array, ""]:
        """Mean cross-entropy, nats a byte."""
        return self._shard(self._loss, PartitionSpec())(params, tokens)

    def loss_and_gradient(self, params: PyTree, tokens: Int[Array, "micro batch time_plus_1"]) -> tuple[Array, PyTree]:
        """The loss and its gradient, forward and backward in one `shard_map`."""
        both = jax.value_and_grad(self._loss)
        return self._shard(both, (PartitionSpec(), PartitionSpec(AXIS)))(params, tokens)

    def evaluate(
        self, params: PyTree, tokens: Int[Array, "micro batch time_plus_1"]
    ) -> tuple[Float[Array, "micro batch"], Float[Array, "die levels"]]:
        """Cross-entropy of each window, nats summed over its bytes, and how often each symbol left each die."""
        return self._shard(self._evaluate, (PartitionSpec(), PartitionSpec(AXIS)))(params, tokens)

    def spikes(
        self, params: PyTree, tokens: Int[Array, "micro batch time_plus_1"]
    ) -> Float[Array, "die batch time width"]:
        """The spikes that leave each die, summed over microbatches (so: give one)."""
        return self._shard(self._spikes, PartitionSpec(AXIS))(params, tokens)

    @property
    def symbols(self) -> range | None:
        """What the spikes that cross can be; `None` where floats cross."""
        if self.codec is None or isinstance(self.codec.encoding, FloatEncoding):
            return None
        return self.codec.encoding.symbols

    def _shard(self, function: Callable, out_specs) -> Callable:
        specs = (PartitionSpec(AXIS), PartitionSpec())
        return jax.shard_map(function, mesh=self.mesh, in_specs=specs, out_specs=out_specs)

    def _run(
        self, params: PyTree, tokens: Array, leave: Callable, watch: Callable | None = None
    ) -> tuple[PyTree, PyTree]:
        stage = nnx.merge(self.graph, jax.tree.map(lambda p: p[0], params))
        model = stage.model

        def end(stream: Array, tokens: Array) -> Array:
            nats = optax.softmax_cross_entropy_with_integer_labels(model.leave(stream), tokens[:, 1:])
            return leave(nats)

        see = None if watch is None else lambda stream: watch(stage.boundary.codec, stream)
        return pipeline(lambda t: model.enter(t[:, :-1]), model.body, end, tokens, AXIS, stage.boundary, watch=see)

    def _loss(self, params: PyTree, tokens: Array) -> Array:
        nats, _ = self._run(params, tokens, jnp.sum)
        size = tokens[..., 1:].size
        return jax.lax.psum(nats.sum(), AXIS) / size

    def _evaluate(self, params: PyTree, tokens: Array) -> tuple[Array, Array]:
        nats, counts = self._run(params, tokens, lambda n: n.sum(-1), self._histogram)
        return jax.lax.psum(nats, AXIS), counts[None]

    def _spikes(self, params: PyTree, tokens: Array) -> Array:
        def watch(codec: Codec, stream: Array) -> Array:
            return codec.spikes(stream).astype(jnp.float32)

        _, spikes = self._run(params, tokens, jnp.sum, watch)
        return spikes[None]

    def _histogram(self, codec: Codec | None, stream: Array) -> Array:
        if codec is None or self.symbols is None:
            return jnp.zeros(0)
        spikes = codec.spikes(stream)
        return jnp.stack([jnp.sum(spikes == s).astype(jnp.float32) for s in self.symbols])


def build(
    config: rwkv.Config, mesh: Mesh, codec: Codec | None, grad_codec: Codec | None, *, seed: int
) -> tuple[Task, PyTree]:
    """The task and its first parameters; the same for every number of dies.

    Raises:
      UsageError: if the dies do not divide the layers.
    """
    model = rwkv.RWKV(config, rngs=nnx.Rngs(seed))
    boundaries = [Boundary(codec, config.width, grad_codec=grad_codec) for _ in range(mesh.shape[AXIS])]
    graph, params = stages.split(model, boundaries)
    return Task(graph, mesh, codec), params


def entropy_bits(counts: np.ndarray) -> np.ndarray:
    """Order-0 entropy along the last axis of symbol counts, bits a symbol: `-sum p log2 p`.

    >>> float(entropy_bits(np.array([1.0, 1.0, 2.0])))
    1.5
    """
    p = counts / np.maximum(counts.sum(-1, keepdims=True), 1)
    return np.asarray(-np.sum(p * np.log2(np.where(p > 0, p, 1)), -1))
