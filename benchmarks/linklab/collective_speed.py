"""Time one collective over slow links, with each codec and at each rate, and count what crosses the links.

`benchmarks/linklab/lab --hosts 4 --rate unlimited -- python -m benchmarks.linklab.collective_speed psum`
"""

import argparse
import json
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from benchmarks.linklab import hosts, options
from snap_jax.codecs.link_spec import as_codec
from snap_jax.parallel import processes

SPECS = ("fp32", "bf16", "int8", "int4", "count:3", "ternary", "ternary+ladder", "count:3+rans")


def main() -> None:
    asked = _asked()
    mesh = hosts.join()
    x = np.random.default_rng(processes.count()).standard_normal(asked.elements).astype(np.float32)
    runs, facts = {}, {}
    for spec in asked.specs:
        try:
            runs[spec] = hosts.on_hosts(mesh, collective(asked.collective, mesh.size, spec), x, out=P(hosts.AXIS))
        except snap.UsageError as error:
            if processes.is_first():
                print(f"{spec}: {error}")
            continue
        facts[spec] = _facts(runs[spec]) | {"taken_bytes": taken(runs[spec].traffic, asked.collective, spec, x)}
    for rate in asked.rates:
        hosts.set_rate(rate)
        times = hosts.timed(runs, asked.rounds)
        shared = {"program": "collective_speed", "collective": asked.collective, "elements": asked.elements}
        shared |= {"hosts": mesh.size, "rate": rate}
        rows = [hosts.row(times[spec], **shared, spec=spec, **facts[spec]) for spec in runs]
        hosts.write(asked.out, rows)
        if processes.is_first():
            for one in rows:
                ms = [1e3 * one[key] for key in ("seconds", "low", "high")]
                print(f"{rate:9} {one['spec']:15} {ms[0]:9.2f} ms ({ms[1]:.2f} to {ms[2]:.2f})", flush=True)


def collective(name: str, size: int, spec: str) -> Callable:
    """Return a collective of `snap_jax` over all hosts; `ppermute` sends to the next, as a pipeline does."""
    codec, axis = as_codec(spec), hosts.AXIS
    chain = [(i, i + 1) for i in range(size - 1)]
    calls = {
        "ppermute": lambda x: snap.ppermute(x, axis, chain, codec=codec),
        "all_gather": lambda x: snap.all_gather(x, axis, codec=codec),
        "all_to_all": lambda x: snap.all_to_all(x.reshape(size, -1), axis, 0, 0, codec=codec),
        "psum": lambda x: lax.pcast(snap.psum(x, axis, codec=codec), axis, to="varying"),
        "psum_scatter": lambda x: snap.psum_scatter(x, axis, tiled=True, codec=codec),
    }
    return lambda x: calls[name](x)[None]


def taken(traffic: snap.Traffic, name: str, spec: str, x: np.ndarray) -> float | None:
    """Return the bytes that a run claims, where it chooses sizes: those of the largest payload of any host.

    None for sums, whose second message nobody knows beforehand.
    """
    codec, size = as_codec(spec), processes.count()
    if codec is None or traffic.least_sent_bytes == traffic.sent_bytes:
        return traffic.sent_bytes
    if name == "psum":
        return None
    payloads = x[None] if name in ("ppermute", "all_gather") else x.reshape(size, -1)
    largest = max(processes.from_each(max(int(codec.sent_bytes(jnp.asarray(row))) for row in payloads)))
    sent = size - 1 if name == "ppermute" else size * (size - 1)
    return traffic.sent_bytes - sent * (codec.payload_bytes(payloads[0].shape) - largest)


def _facts(run: hosts.OnHosts) -> dict:
    """What is claimed, and what crosses in fact."""
    traffic, counted = run.traffic, hosts.crossed(run)
    return {
        "claimed_bytes": traffic.sent_bytes,
        "least_claimed_bytes": traffic.least_sent_bytes,
        "interface_bytes": counted,
        "messages": sum(t.times for t in traffic),
        "traffic": json.loads(traffic.to_json()),
    }


def _asked() -> argparse.Namespace:
    parser = options.parser(__doc__)
    parser.add_argument("collective", choices=("ppermute", "all_gather", "all_to_all", "psum", "psum_scatter"))
    parser.add_argument("--elements", type=int, default=2**20, help="of each host")
    parser.add_argument("--specs", nargs="+", default=SPECS, help="codecs to compare")
    return parser.parse_args()


if __name__ == "__main__":
    hosts.run(main)
