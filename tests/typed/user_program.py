"""A program of a user, with types: pyright checks it against the package that is installed, not against the checkout.

`assert_type` fails where a public name has become `Any`, or another type. Collectives return `Any`, as pytrees do.
"""

# pyright: strict, reportMissingTypeStubs=false
from typing import assert_type

import jax
import optax
from flax import nnx

import snap_jax as snap
from snap_jax.cost import Joules, Link, Report, Ring, System, links, price

codec = snap.Codec(snap.Count(limit=3, threshold=0.5), snap.Rans())
assert_type(snap.codec("count:3+rans"), snap.Codec | None)
assert_type(codec.payload_bytes((8, 4)), int)


class Model(nnx.Module):
    """Two layers with a boundary between them."""

    def __init__(self, rngs: nnx.Rngs):
        self.first, self.second = nnx.Linear(4, 4, rngs=rngs), nnx.Linear(4, 2, rngs=rngs)
        self.boundary = snap.Boundary(codec, features=4, grad_codec="int8:absmax")

    def __call__(self, x: jax.Array) -> jax.Array:
        """Quantize between the layers."""
        return self.second(self.boundary(self.first(x)))


def gather(x: jax.Array) -> jax.Array:
    """Gather as spikes."""
    return snap.all_gather(x, "data", codec=codec, tiled=True)


def main(x: jax.Array) -> None:
    """Quantize, count and price."""
    model = Model(nnx.Rngs(0))
    assert_type(model.boundary.codec, snap.Codec | None)
    assert_type(model.boundary.thresholds, list[snap.Threshold])

    assert_type(snap.error_feedback("ternary", axis_name="data"), optax.GradientTransformation)
    assert_type(codec.quantize(x), jax.Array)
    assert_type(codec.encode(x), jax.Array)
    traffic = snap.collective_traffic(gather)(x)
    assert_type(traffic, snap.Traffic)
    assert_type([transfer.sent_bytes for transfer in traffic], list[int])
    snap.assert_no_float_collectives(gather, x, allow=("head*",))

    assert_type(links.UCIE_STANDARD, Link)
    report = price(traffic, System({"data": Ring(4, links.UCIE_STANDARD)}))
    assert_type(report, Report)
    assert_type(report.energy_j, Joules)
