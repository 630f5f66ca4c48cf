"""A mesh of one axis, and a small ladder, for tests of messages."""

import jax
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from snap_jax._compat import as_varying
from snap_jax.parallel.mesh import auto_mesh

LADDER = snap.Ladder((snap.Events(0.1), snap.Packed()))


def on_mesh(function, devices=4, **keywords):
    return jax.shard_map(function, mesh=auto_mesh({"x": devices}), in_specs=P("x"), out_specs=P("x"), **keywords)


def varying(tree):
    return jax.tree.map(lambda y: as_varying(y, ("x",))[None], tree)
