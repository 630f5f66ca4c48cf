"""Rounds of local steps in a run: what each replica holds, and the exchange at the end of a round.

Invariant: after an exchange all replicas hold the shared parameters, which are what is evaluated and saved as weights.

`snap_jax.parallel.local_steps` is the same for a loop inside `shard_map`. Here each array of a replica is a row.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jaxtyping import PyTree

from snap_jax.codecs.codec import Codec
from snap_jax.parallel.data_parallel import SCOPE, compressed_mean, rows
from snap_jax.parallel.error_feedback import Sizes
from snap_jax.parallel.mesh import DATA


class Replicas(NamedTuple):
    """What local steps add to the state of a run.

    Attributes:
      params: of each replica, `[replica, ...]`.
      outer: state of the outer optimizer, the same on all replicas.
      feedback: what each replica has not sent yet, or an empty state where floats are sent.
    """

    params: PyTree
    outer: PyTree
    feedback: PyTree


@dataclasses.dataclass(frozen=True)
class LocalRounds:
    """How replicas exchange how far they have moved.

    Attributes:
      mesh: with the axis `data`.
      codec: how to send it, with error feedback; None for floats.
      specs: parameters -> a `PartitionSpec` for each, without `data`.
      outer: the outer optimizer.
      sizes: as in `compressed_mean`.
    """

    mesh: Mesh
    codec: Codec | None
    specs: Callable[[PyTree], PyTree]
    outer: optax.GradientTransformation
    sizes: Sizes | None = None

    @property
    def count(self) -> int:
        """How many replicas there are."""
        return self.mesh.shape[DATA]

    def init(self, params: PyTree) -> Replicas:
        """Return the first state: every replica holds the shared parameters."""
        places = jax.tree.map(lambda spec: NamedSharding(self.mesh, spec), rows(self.specs(params)))
        own = jax.jit(self._rows, out_shardings=places)(params)
        return Replicas(own, self.outer.init(params), self._mean.init(params))

    def exchange(self, shared: PyTree, replicas: Replicas) -> tuple[PyTree, Replicas]:
        """Return the next shared parameters, and what replicas hold then."""
        moved = jax.tree.map(lambda shared, own: shared[None] - own, shared, replicas.params)
        mean, feedback = self._mean.update(moved, replicas.feedback)
        updates, outer = self.outer.update(mean, replicas.outer, shared)
        shared = optax.apply_updates(shared, updates)
        return shared, Replicas(self._rows(shared), outer, feedback)

    def _rows(self, params: PyTree) -> PyTree:
        return jax.tree.map(lambda p: jnp.broadcast_to(p[None], (self.count, *p.shape)), params)

    @property
    def _mean(self) -> optax.GradientTransformation:
        if self.codec is not None:
            return compressed_mean(self.mesh, self.codec, self.specs, sizes=self.sizes)
        return optax.stateless(lambda updates, _: self._float_mean(updates))

    def _float_mean(self, updates: PyTree) -> PyTree:
        alone = self.specs(updates)

        def one(updates: PyTree) -> PyTree:
            with jax.named_scope(SCOPE):
                return lax.pmean(jax.tree.map(lambda u: u[0], updates), DATA)

        return jax.shard_map(one, mesh=self.mesh, in_specs=(rows(alone),), out_specs=alone)(updates)
