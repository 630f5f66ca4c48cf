"""Gather a tensor over four devices as spikes, and compare with the floats that lax sends."""

import jax
import jax.numpy as jnp
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import snap_jax as snap

snap.emulate_devices(4)
mesh = jax.make_mesh((4,), ("device",), axis_types=(AxisType.Auto,))
x = jax.random.normal(jax.random.key(0), (1024, 64))


def on_mesh(fn):
    """Run a function on the part of each device."""
    return jax.jit(jax.shard_map(fn, mesh=mesh, in_specs=P("device"), out_specs=P("device")))


for spec in ("fp32", "bf16", "int8:channel", "count:7", "count:3", "ternary"):
    codec = snap.codec(spec)
    gather = on_mesh(lambda x, codec=codec: snap.all_gather(x, "device", codec=codec, tiled=True))
    quantize = codec.quantize if codec else lambda x: x
    plain = on_mesh(lambda x, quantize=quantize: jax.lax.all_gather(quantize(x), "device", tiled=True))
    got = gather(x)
    error = jnp.linalg.norm(got[:1024] - x) / jnp.linalg.norm(x)
    nbytes = snap.collective_traffic(gather)(x).sent_bytes
    print(f"{spec:13} {nbytes:>9,} bytes, error {error:5.1%}, same as lax: {bool((got == plain(x)).all())}")
