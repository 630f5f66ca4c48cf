"""One of two processes that gather tensors over loopback: `python -m tests.support.two_processes NUMBER PORT SPEC ...`.

Prints a line per SPEC: what the codec and the compiled program claim, and what the kernel counted meanwhile.
"""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from snap_jax.codecs.link_spec import as_codec
from snap_jax.parallel.mesh import auto_mesh
from snap_jax.traffic.interface import Meter

SIZE, TIMES, ROUNDS = 2**18, 4, 3


def row(number: int) -> np.ndarray:
    return 0.2 * np.random.default_rng(number).standard_normal((1, SIZE)).astype(np.float32)


def main(number: int, port: str, *specs: str) -> None:
    jax.config.update("jax_num_cpu_devices", 1)
    jax.distributed.initialize(f"127.0.0.1:{port}", 2, number)
    for spec in specs:
        print(json.dumps(gathered(number, spec)))


def gathered(number: int, spec: str) -> dict:
    """What is claimed for `TIMES` all-gathers, and the least that crossed in a round: others may use loopback too."""
    mesh, codec = auto_mesh({"x": 2}), as_codec(spec)
    gather = lambda x: snap.all_gather(x, "x", codec=codec)
    x = jax.make_array_from_process_local_data(NamedSharding(mesh, P("x")), row(number))
    program = jax.jit(jax.shard_map(gather, mesh=mesh, in_specs=P("x"), out_specs=P("x"))).lower(x).compile()
    y = np.asarray(program(x).addressable_data(0))

    crossed = []
    for _ in range(ROUNDS):
        multihost_utils.sync_global_devices("ready")
        with Meter("lo") as meter:
            for _ in range(TIMES):
                jax.block_until_ready(program(x))
            multihost_utils.sync_global_devices("done")
        crossed.append(meter.rx_bytes)

    rows = [jnp.asarray(row(i)) for i in range(2)]
    quantized = rows if codec is None else [codec.quantize(r) for r in rows]
    payload = rows[0].nbytes if codec is None else max(int(codec.sent_bytes(r)) for r in rows)
    traffic = snap.compiled_traffic(program, mesh)
    claims = {"taken": 2 * payload, "least": traffic.least_sent_bytes, "most": traffic.sent_bytes}
    same = bool((y == np.stack(quantized)).all())
    return {"same": same, "crossed": min(crossed)} | {k: TIMES * n for k, n in claims.items()}


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
