"""What the programs of the lab share: joining the other hosts, timing on all of them at once, and rows of results."""

import dataclasses
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from benchmarks.linklab import namespaces
from benchmarks.results import COMMIT
from benchmarks.timing import machine
from snap_jax.errors import UsageError
from snap_jax.parallel import processes
from snap_jax.parallel.mesh import auto_mesh
from snap_jax.traffic.interface import Meter

AXIS = "host"
DEVICES = {"bridge": ("eth0",), "ring": ("left", "right")}


def run(main: Callable[[], None]) -> None:
    """Run a program of the lab; a mistake of its user is one line and exit code 2, and all hosts end."""
    try:
        with processes.ended_on_failure():
            main()
    except UsageError as error:  # before the hosts have joined
        print(error, file=sys.stderr)
        sys.exit(2)


def join() -> Mesh:
    """Join the other hosts; return a mesh of one device per host.

    Raises:
      UsageError: outside of the lab.
    """
    if namespaces.VARIABLE not in os.environ:
        raise UsageError("start this program in the lab: benchmarks/linklab/lab --hosts 4 --rate 1gbit -- COMMAND")
    jax.config.update("jax_num_cpu_devices", 1)
    snap.join_processes()
    return auto_mesh({AXIS: processes.count()})


@dataclasses.dataclass(frozen=True)
class OnHosts:
    """A compiled program on all hosts, with its arguments; call it to run it.

    Attributes:
      program: what runs.
      arguments: placed on the hosts.
      traffic: what it asks to move.
    """

    program: Callable
    arguments: tuple
    traffic: snap.Traffic

    def __call__(self) -> Any:
        return self.program(*self.arguments)


def on_hosts(mesh: Mesh, function: Callable, *arrays: Any, out: P) -> OnHosts:
    """Return `function`, compiled, with each host's own arrays, which get a first axis for the host."""
    sharding = NamedSharding(mesh, P(AXIS))
    placed = tuple(jax.make_array_from_process_local_data(sharding, a[None]) for a in arrays)
    mapped = jax.jit(
        jax.shard_map(lambda *xs: function(*(x[0] for x in xs)), mesh=mesh, in_specs=P(AXIS), out_specs=out)
    )
    return OnHosts(mapped.lower(*placed).compile(), placed, snap.collective_traffic(mapped)(*placed))


def set_rate(rate: str) -> None:
    """Give all links another rate; all hosts must call it."""
    processes.on_first(lambda: namespaces.set_rate(namespaces.parse(os.environ[namespaces.VARIABLE]), rate))


def timed(runs: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each round: from when the last host began until the last one ended.

    The hosts have one clock, because they are one machine. Candidates take turns.
    """
    barrier = _barrier()
    spans: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            barrier()
            began = time.monotonic()
            jax.block_until_ready(run())
            spans[name].append((began, time.monotonic()))
    everywhere = processes.from_each(spans)
    return {name: [_span([host[name][i] for host in everywhere]) for i in range(rounds)] for name in runs}


def _span(spans: Sequence[Sequence[float]]) -> float:
    return max(end for _, end in spans) - max(began for began, _ in spans)


def _barrier() -> Callable[[], None]:
    mesh = auto_mesh({AXIS: processes.count()})
    wait = on_hosts(mesh, lambda x: jax.lax.psum(x, AXIS), jnp.zeros(1), out=P())
    return lambda: jax.block_until_ready(wait())


def crossed(run: Callable[[], Any], times: int = 4) -> float:
    """Return the bytes that all hosts together sent in one run, as the kernel counted them; the mean of several."""
    barrier = _barrier()
    barrier()
    processes.from_each(None)
    meters = [Meter(name) for name in DEVICES[namespaces.parse(os.environ[namespaces.VARIABLE]).topology]]
    for meter in meters:
        meter.__enter__()
    for _ in range(times):
        jax.block_until_ready(run())
    processes.from_each(None)
    for meter in meters:
        meter.__exit__(None, None, None)
    return sum(processes.from_each(sum(meter.tx_bytes or 0 for meter in meters))) / times


def row(seconds: Sequence[float], **what: Any) -> dict[str, Any]:
    """Return one result: a median, quartiles, and what was measured.

    >>> row([1.0, 2.0, 6.0], what="sum")["seconds"]
    2.0
    """
    low, _, high = statistics.quantiles(seconds, n=4, method="inclusive") if len(seconds) > 1 else seconds * 3
    where = {"machine": machine(), "commit": COMMIT, "date": time.strftime("%Y-%m-%d")}
    return what | {"seconds": statistics.median(seconds), "low": low, "high": high, "rounds": len(seconds)} | where


def write(out: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Append rows to a file of JSON lines; the first host alone."""
    if processes.is_first():
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(one) + "\n" for one in rows)
